"""Bodies inside a deformation: parts of an image whose motion is rigid, or affine without a change of volume.

After every step of the optimisation the field inside a body is replaced by the motion that fits it best, and blended
with the field over the nodes around it. The motions thus follow the forces of the images, and the surroundings follow
the bodies. On the voxels of the result the motion is exact inside a body and over the voxels next to it, and folds that
this makes around it are smoothed away.

Motions of several bodies are blended by weights that sum to one, as in Arsigny et al., Medical Image Analysis 9(6),
2005; they and the field differ by no more than a step, so that the blend is one of displacements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from maxca.engine.lattice import Lattice
from maxca.engine.volume import Volume, every, steps_within
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.geometry.fit import fitted_affine
from maxca.geometry.landmarks import fitted_rigid
from maxca.geometry.repair import unfolded
from maxca.geometry.separable import gaussian, per_axis
from maxca.geometry.warp import sample, transform_vectors, voxel_coordinates

BodyKind = Literal["rigid", "volume"]

POINTS = 2000  # most points of a body to which its motion is fitted
BLEND = 1.0  # nodes: σ of the transition around a body, during the optimisation
BLEND_EXACT = 1.5  # smallest spacings: the same on the voxels of the result
COVERED = 0.01  # of a node's cell: from here on it is part of the body, on the voxels of the result
ALL = 0.999  # of a node's cell: from here on it is inside a body
INVERSIONS = 5  # steps of the fixed-point iteration of the points of a moving body
ROUNDS = 8  # most repairs of folds


@dataclass(frozen=True, eq=False)
class Body:
    """A part of an image that moves as one.

    Args:
        region: its mask, as the values of a volume on any grid.
        kind: ``"rigid"``; or ``"volume"``: affine, of determinant 1.
        moving: it is a part of the moving image, otherwise of the fixed one.
    """

    region: Volume
    kind: BodyKind = "rigid"
    moving: bool = False


class Bodies:
    """The bodies of a pair, as a constraint of the deformation.

    Args:
        bodies: that do not overlap.
        affine: fixed world points → moving world points, applied after the field.
    """

    def __init__(self, bodies: Sequence[Body], affine: Affine) -> None:
        self.bodies, self.affine = bodies, affine

    def at(self, lattice: Lattice) -> BodiesAtLevel:
        """The bodies at the nodes of a level."""
        return BodiesAtLevel(self, lattice)

    def held(self, field: DenseField) -> DenseField:
        """A field that is exact in the bodies, without folds."""
        on = _OnGrid(self, field.grid, field.displacement.device, exact=True)
        for _ in range(ROUNDS):
            field = DenseField(on.moved(field.displacement), field.grid)
            repaired = unfolded(field)
            if repaired is field:
                break
            field = repaired
        return field


class BodiesAtLevel:
    """See ``Bodies``."""

    def __init__(self, bodies: Bodies, lattice: Lattice) -> None:
        self.direction = lattice.node_grid.direction
        self.on = _OnGrid(bodies, lattice.node_grid, lattice.device, exact=False)

    def held(self, displacement: Float[Tensor, "1 3 a b d"]) -> Float[Tensor, "1 3 a b d"]:
        """The displacement of the nodes, in mm along the axes of the fixed grid, with the motions of the bodies."""
        world = self.on.moved(transform_vectors(self.direction, displacement)[0])
        return transform_vectors(self.direction.T, world[None])


class _OnGrid:
    """The bodies on a grid of nodes.

    Args:
        bodies: the bodies.
        grid: of the nodes.
        device: of the displacements.
        exact: at the nodes of all cells that a body touches the motion is exact.
    """

    def __init__(self, bodies: Bodies, grid: Grid, device: torch.device, *, exact: bool) -> None:
        self.grid, self.device, self.exact = grid, device, exact
        self.affine, self.back = bodies.affine, bodies.affine.inverse()[0]
        self.sigmas = (BLEND_EXACT if exact else BLEND) * grid.smallest_spacing / grid.spacing
        self.parts = [_Part(body, self) for body in bodies.bodies]

    def moved(self, displacement: Float[Tensor, "3 a b d"]) -> Float[Tensor, "3 a b d"]:
        """A displacement in world mm with the motions of the bodies."""
        placed = [part.of(displacement) for part in self.parts]
        total, claims = torch.zeros_like(displacement[0]), torch.zeros_like(displacement[0])
        for place, _ in placed:
            total[place.box] += place.weight
            claims[place.box] += place.inside
        out = displacement.clone()
        for place, motion in placed:
            box = (slice(None), *place.box)
            alone = place.inside * (claims[place.box] == 1)
            share = place.weight / total[place.box].clamp(min=1)
            share = torch.where(claims[place.box] == 1, alone, share)  # inside one body the others have no weight
            out[box] += share * (_displacement(motion, place) - displacement[box])
        return out

    def at_points(self, displacement: Tensor, points: np.ndarray) -> np.ndarray:
        """The displacement at world points (N, 3); that of the nearest node beyond the grid."""
        index = torch.as_tensor(self.grid.to_voxel(points).T, dtype=torch.float32, device=self.device)
        found = sample(displacement[None], index[None, :, :, None, None], padding="border")
        return found[0, :, :, 0, 0].T.double().cpu().numpy()

    def box(self, points: np.ndarray) -> tuple[slice, slice, slice]:
        """The nodes around world points that a body there may move."""
        index, margin = self.grid.to_voxel(points), np.ceil(4 * self.sigmas) + 2
        last = np.array(self.grid.shape) - 1
        low = np.floor(index.min(axis=0) - margin).clip(0, last).astype(int)
        high = np.ceil(index.max(axis=0) + margin).clip(0, last).astype(int)
        i, j, k = (slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))
        return i, j, k


class _Place(NamedTuple):
    """Where a body is on a grid.

    Args:
        box: of its nodes.
        grid: of the box.
        weight: (A, B, D): 1 inside the body, 0 away from it.
        inside: (A, B, D) 1 or 0: whether all of a node is inside the body.
    """

    box: tuple[slice, slice, slice]
    grid: Grid
    weight: Tensor
    inside: Tensor


class _Part:
    """One body on a grid."""

    def __init__(self, body: Body, on: _OnGrid) -> None:
        self.body, self.on = body, on
        region = body.region
        self.coarse = every(region, steps_within(region.grid, on.grid.smallest_spacing))
        inside = torch.nonzero(region.values.cpu() > 0.5).numpy()
        self.extremes = region.grid.to_world(_corners(inside))
        self.given = region.grid.to_world(inside[:: -(-len(inside) // POINTS)])  # in the image of the body
        self.points = on.back.map_points(self.given) if body.moving else self.given  # in the fixed image
        self.place = None if body.moving else self._place(Affine.identity())
        thin = on.grid.thin_axes
        self.normal = on.grid.direction[:, thin[0]] if thin else None

    def of(self, displacement: Tensor) -> tuple[_Place, Affine]:
        """Its place, and its motion: fixed world points → fixed world points before the affine."""
        on = self.on
        if self.place is not None:
            ends = on.affine.map_points(self.points + on.at_points(displacement, self.points))
            return self.place, on.back @ fitted(self.points, ends, self.body.kind, self.normal)
        target = on.back.map_points(self.given)
        for _ in range(INVERSIONS):
            self.points = target - on.at_points(displacement, self.points)
        motion = fitted(self.points, self.given, self.body.kind, self.normal)
        return self._place(motion), on.back @ motion

    def _place(self, motion: Affine) -> _Place:
        """Where it is; ``motion`` maps the fixed world to that of the body."""
        on = self.on
        box = on.box(motion.inverse()[0].map_points(self.extremes))
        grid = on.grid.box([side.start for side in box], [side.stop for side in box])
        covered = Chain((motion,)).resample(self.coarse.channels, self.coarse.grid, grid)[0]
        if on.exact:
            radius = [1 if n > 1 else 0 for n in grid.shape]
            size = [2 * r + 1 for r in radius]
            covered = F.max_pool3d((covered > COVERED).float()[None, None], size, 1, radius)[0, 0]
        blend = per_axis(gaussian, grid.shape, (1, 1, 1), on.sigmas).to(on.device)
        return _Place(box, grid, torch.maximum(covered, (2 * blend(covered)).clamp_(max=1)), (covered > ALL).float())


def _displacement(motion: Affine, place: _Place) -> Tensor:
    """The displacement of an affine at the nodes, in world mm; differences first, because the origin may be far."""
    linear = (motion.matrix[:3, :3] - np.eye(3)) @ place.grid.affine[:3, :3]
    shift = motion.map_points(place.grid.origin) - place.grid.origin
    vectors = transform_vectors(linear, voxel_coordinates(place.grid.shape, place.weight.device))[0]
    return vectors + torch.as_tensor(shift, dtype=vectors.dtype, device=vectors.device).view(3, 1, 1, 1)


def _corners(index: np.ndarray) -> np.ndarray:
    """(8, 3): the corners of the box around voxels, half a voxel away."""
    low, high = index.min(axis=0) - 0.5, index.max(axis=0) + 0.5
    return np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), axis=-1).reshape(-1, 3)


def fitted(
    points: Float[np.ndarray, "n 3"], ends: Float[np.ndarray, "n 3"], kind: BodyKind, normal: np.ndarray | None = None
) -> Affine:
    """The motion that best fits a map in the least-squares sense.

    Args:
        points: world, mm.
        ends: their images.
        kind: see ``Body``.
        normal: of the plane of 2-D images, along which nothing is scaled.
    """
    if kind == "rigid":
        return fitted_rigid(points, ends)
    matrix = fitted_affine(points, ends).matrix.copy()
    scale = np.abs(np.linalg.det(matrix[:3, :3])) ** (-1 / 3 if normal is None else -1 / 2)
    across = np.zeros((3, 3)) if normal is None else np.outer(normal, normal)
    matrix[:3, :3] = matrix[:3, :3] @ (scale * (np.eye(3) - across) + across)
    matrix[:3, 3] = ends.mean(axis=0) - matrix[:3, :3] @ points.mean(axis=0)
    return Affine(matrix)
