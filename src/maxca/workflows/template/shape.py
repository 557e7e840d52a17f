"""The mean shape of scans relative to a template, and its removal from their transforms.

The transform φ of a scan maps template points to points of the scan. Without its rigid part R, the pose of the scan,
ψ = R⁻¹ ∘ φ is its shape. A template has the mean shape if the mean of all ψ is the identity. If that mean is m instead,
the template is moved by m: the transforms become φ ∘ m⁻¹, whose shapes have the mean m ∘ m⁻¹, the identity. A template
has the mean pose if the mean of all R is the identity: the rotation with the least sum of squared distances to them,
as matrices (the chordal L2 mean).
Source: Guimond, Meunier, Thirion, CVIU 77(2), 2000; Avants et al., NeuroImage 49(3), 2010; Hartley et al., IJCV 103,
2013 (means of rotations).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.geometry.fit import fitted_affine
from maxca.geometry.landmarks import fitted_rigid

FITTED = 4000  # nodes at which poses and affine parts are fitted
PRECISE = 1e-3  # of the smallest spacing: of inverses
SIDE = np.diag([-1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class MeanShape:
    """The mean shape m of scans relative to a template.

    Args:
        chain: m, template points → points of mean shape, RAS+ mm.
        inverse: its inverse, by which transforms are preceded to remove m from them.
        pose: the mean rotation of the scans around the centre of the template's content, template points → scan points.
        mean_mm: mean distance of m from the identity within the content.
        max_mm: the largest one.
    """

    chain: Chain
    inverse: Chain
    pose: Affine
    mean_mm: float
    max_mm: float


def points_of(grid: Grid, content: Bool[np.ndarray, "i j k"]) -> Float[np.ndarray, "n 3"]:
    """Some thousand points of the content, world mm."""
    nodes = np.argwhere(content)
    return grid.to_world(nodes[:: max(1, len(nodes) // FITTED)])


def mean_shape(
    chains: Iterable[Chain], grid: Grid, content: Bool[np.ndarray, "i j k"], mirror: Affine | None = None
) -> MeanShape:
    """The mean shape.

    Args:
        chains: φ of each scan, template points → scan points.
        grid: of the template.
        content: where shapes are compared.
        mirror: S; the mean is then that of all shapes ψ and their mirror images S ∘ ψ ∘ S.
    """
    points = points_of(grid, content)
    total, count, poses = torch.zeros(3, *grid.shape), 0, []
    for chain in chains:
        pose = fitted_rigid(points, chain.map_points(points))
        poses.append(pose.matrix[:3, :3])
        shape = Chain((*chain.steps, pose.inverse()[0]))
        total += shape.field_on(grid).displacement
        count += 1
        if mirror is not None:
            total += Chain((mirror, *shape.steps, mirror)).field_on(grid).displacement
            count += 1
    mean = DenseField(total / count, grid)
    linear = fitted_affine(points, mean.map_points(points))
    rest = Chain((mean, linear.inverse()[0])).field_on(grid).faded()
    backward, _ = rest.inverse(tolerance=PRECISE)
    distance = mean.displacement.norm(dim=0).numpy()[content]
    inverse = Chain((linear.inverse()[0], backward))
    pose = _around(Rotation.from_matrix(np.stack(poses)).mean().as_matrix(), points.mean(0))
    return MeanShape(Chain((rest, linear)), inverse, pose, float(distance.mean()), float(distance.max()))


def without(shape: MeanShape, chain: Chain) -> Chain:
    """The transform of a scan from which the mean shape is removed."""
    return (chain @ (_in_plane(shape.inverse) if chain.dimension == 2 else shape.inverse)).simplified()


def after(affine: Affine, chain: Chain) -> Chain:
    """The transform of a scan from a template that an affine maps to the present one."""
    return Chain((affine, *chain.steps), chain.dimension).simplified()


def _in_plane(chain: Chain) -> Chain:
    """The chain of a mean shape of 2-D scans as one of the plane, without the rounding errors across it."""
    flat = torch.tensor([1.0, 1.0, 0.0]).reshape(3, 1, 1, 1)
    steps = (replace(s, displacement=s.displacement * flat) if isinstance(s, DenseField) else s for s in chain.steps)
    return Chain(tuple(steps), 2)


def mirror_of(grid: Grid) -> Affine:
    """The reflection of left and right at the middle of a grid."""
    return _around(SIDE, grid.center)


def _around(linear: Float[np.ndarray, "3 3"], center: Float[np.ndarray, "3"]) -> Affine:
    """A linear map that keeps a point."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, center - linear @ center
    return Affine(matrix)
