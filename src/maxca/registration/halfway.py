"""Registration of one subject at two times in the halfway space, so that neither image is treated differently.

An image that is interpolated is smoother than one that is not, and a registration of one onto the other differs from
that in the other direction. Both bias measured changes. Here each image moves half of a rigid transform, and the
deformations of both directions are averaged. Source: Reuter et al., NeuroImage 61(4), 2012.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from maxca.engine.affine import AffineSettings, Alignment, align
from maxca.engine.settings import Settings
from maxca.engine.volume import Volume, every, steps_within
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.geometry.grid import triple
from maxca.geometry.repair import invertible
from maxca.geometry.warp import transform_vectors
from maxca.registration.deformation import Deformation, Predict, deform
from maxca.registration.monitor import Monitor


def align_halfway(
    fixed: Volume,
    moving: Volume,
    settings: AffineSettings,
    *,
    initial: Affine | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Alignment:
    """Estimate a rigid transform in both directions, and average them.

    Args:
        fixed: prepared fixed image.
        moving: prepared moving image.
        settings: of the search.
        initial: initial transform, fixed world points → moving world points, in place of a search.
        progress: called with a message at each stage.

    Returns:
        The rigid transform, fixed world points → moving world points, and the reason for it.
    """
    settings = replace(settings, kind="rigid")
    there = align(fixed, moving, settings, initial=initial, progress=progress)
    # From the same initialisations: continuing from the result of one direction would prefer it.
    other = None if initial is None else initial.inverse()[0]
    back = align(moving, fixed, settings, initial=other, progress=progress)
    # Two rotations far from each other have no mean: what one direction alone found is the start of the other.
    if there.turned and not back.turned:
        back = align(moving, fixed, settings, initial=there.affine.inverse()[0], progress=progress)
    elif back.turned and not there.turned:
        there = align(fixed, moving, settings, initial=back.affine.inverse()[0], progress=progress)
    return replace(there, affine=mean_rigid(there.affine, back.affine.inverse()[0]))


def mean_rigid(a: Affine, b: Affine) -> Affine:
    """The rigid transform halfway between two; of the inverses it is the inverse."""
    return a @ half_of(a.inverse()[0] @ b)


def half_of(rigid: Affine) -> Affine:
    """The rigid transform that gives ``rigid`` if applied twice.

    Args:
        rigid: with a rotation of less than 180°.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(Rotation.from_matrix(rigid.matrix[:3, :3]).as_rotvec() / 2).as_matrix()
    matrix[:3, 3] = np.linalg.solve(np.eye(3) + matrix[:3, :3], rigid.matrix[:3, 3])
    return Affine(matrix)


def halfway_grid(fixed: Grid, moving: Grid, half: Affine) -> Grid:
    """A grid in the halfway space over both images, in axes halfway between theirs.

    Args:
        fixed: grid of the fixed image, with orthogonal axes.
        moving: grid of the moving image.
        half: halfway world points → moving world points, and fixed → halfway.

    Returns:
        Along each axis, the larger one of both spacings.
    """
    back = half.inverse()[0]
    ours = half.matrix[:3, :3] @ fixed.direction
    theirs = back.matrix[:3, :3] @ moving.upright.direction
    alike = ours.T @ theirs
    order = linear_sum_assignment(-np.abs(alike))[1]
    nearest = alike[np.arange(3), order]
    axes = _mean_direction(ours, theirs[:, order] * np.sign(nearest), np.abs(nearest))
    spacing = np.maximum(fixed.spacing, moving.spacing[order])
    corners = np.concatenate([half.map_points(fixed.corners), back.map_points(moving.corners)])
    along = corners @ axes  # coordinates along the axes
    low, high = along.min(axis=0), along.max(axis=0)
    shape = np.ceil((high - low) / spacing - 1e-6).astype(int) + 1
    for axis in fixed.thin_axes:
        shape[axis] = 1
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = axes @ ((low + high) / 2 - spacing * (shape - 1) / 2)
    return Grid(triple(int(n) for n in shape), affine)


def _mean_direction(a: np.ndarray, b: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """The directions (3, 3) halfway between two; the axis that is least ``alike`` (3,) is reversed if necessary."""
    if np.linalg.det(a) * np.linalg.det(b) < 0:
        b = b * np.where(np.arange(3) == alike.argmin(), -1, 1)
    turn = Rotation.from_matrix(b @ a.T).as_rotvec() / 2
    return np.asarray(Rotation.from_rotvec(turn).as_matrix() @ a)


def deform_halfway(
    fixed: Volume, moving: Volume, rigid: Affine, settings: Settings, predict: Predict, monitor: Monitor
) -> Deformation:
    """Estimate the deformation in the halfway space, in both directions, and average them.

    Args:
        fixed: prepared fixed image.
        moving: prepared moving image.
        rigid: fixed world points → moving world points, applied after the field.
        settings: of the optimisation.
        predict: see ``deform``.
        monitor: told about each stage.

    Returns:
        The deformation as ``deform`` returns it; the levels are those of the first direction.
    """
    half = half_of(rigid)
    back = half.inverse()[0]
    grid = halfway_grid(fixed.grid, moving.grid, half)
    there = deform(_on(fixed, grid, back), moving, half, settings, predict, monitor)
    return_ = deform(_on(moving, grid, half), fixed, back, settings, predict, monitor)
    with monitor.stage("invert"):
        both = invertible(_mean(there.field, return_.inverse))
        field, inverse = (_carried(each, back).rounded() for each in (both.field, both.inverse))
    return replace(there, field=field, inverse=inverse, residual=both.residual)


def _mean(a: DenseField, b: DenseField) -> DenseField:
    """The mean of two fields, on the grid of the first."""
    other = Chain((b,)).field_on(a.grid, a.displacement.device)
    return DenseField((a.displacement + other.displacement) / 2, a.grid)


def _on(volume: Volume, grid: Grid, rigid: Affine) -> Volume:
    """A volume on a grid whose points ``rigid`` maps into it; outside its field of view, the mask is 0."""
    volume = every(volume, steps_within(volume.grid, grid.smallest_spacing))
    chain = Chain((rigid,))
    mask = torch.ones_like(volume.values) if volume.mask is None else volume.mask
    return Volume(
        chain.resample(volume.channels, volume.grid, grid), grid, chain.resample(mask[None], volume.grid, grid)[0]
    )


def _carried(field: DenseField, rigid: Affine) -> DenseField:
    """A field in the space to which a rigid transform maps its points: exact, because the grid moves with them."""
    grid = Grid(field.grid.shape, rigid.matrix @ field.grid.affine)
    return DenseField(transform_vectors(rigid.matrix[:3, :3], field.displacement[None])[0], grid)
