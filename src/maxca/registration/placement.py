"""Resampling of masks and labels on another grid than their image, with validation of their headers."""

from __future__ import annotations

import shlex
from dataclasses import replace

import numpy as np

from maxca.errors import MaxcaError
from maxca.geometry import Chain, Grid
from maxca.io.images import Image
from maxca.registration.resampling import resample

ENOUGH = 0.95  # fraction of the image covered by a map, or of its foreground within the image
SAME_PLACE = 0.5  # of a voxel: grids of equal size closer than this are equal
SAME_SIZE = 0.01  # largest relative difference of equal voxel sizes
SAMPLED = 200_000  # most foreground voxels that are checked
SHOWN = 5  # most labels in a message


def placed(role: str, image: Image, scan: Image) -> Image:
    """A mask or label map on the grid of its image.

    Flipped or swapped axes are reordered; a coarser, finer, larger or smaller grid is resampled by nearest neighbour,
    with 0 outside it. Either gives a warning.

    Args:
        role: such as ``"fixed mask"``, for messages.
        image: the map, with a foreground of non-zero voxels.
        scan: its image.

    Raises:
        MaxcaError: for a map at another position, or a grid of the same size at another position, for which one of the
            two headers must be wrong.
    """
    if image.grid.same_as(scan.grid):
        return image
    turned = image.grid.canonical.same_as(scan.grid.canonical)
    covered = _covered(image.grid, scan.grid)
    if not turned:
        _check_place(role, image, scan, covered)
    moved = resample(image, scan.grid, Chain(), "nearest", fill=0)
    if image.data.any() and not moved.data.any():
        raise MaxcaError(
            f"{image.name}: the {role} is empty on the coarser grid of {scan.name}; create it on that grid"
        )
    how = "its axes were reordered" if turned else "it was resampled by nearest neighbour"
    text = f"{image.name}: {role} on another grid than {scan.name}; {how}, by both headers"
    if covered < ENOUGH:
        text += f"; it covers {100 * covered:.0f} % of the image, and is 0 elsewhere"
    lost = np.setdiff1d(image.data, [*np.unique(moved.data), 0]) if role.endswith("labels") else ()
    if len(lost):
        text += f"; without a voxel there: {', '.join(map(str, lost[:SHOWN]))}{', …' if len(lost) > SHOWN else ''}"
    return replace(image, data=moved.data, grid=scan.grid, form=scan.form, warnings=(*image.warnings, text))


def _check_place(role: str, image: Image, scan: Image, covered: float) -> None:
    """Reject a map with an implausible position."""
    advice = f"if both headers are right: {_command(image.name, scan.name)}"
    apart = _displaced(image.grid, scan.grid)
    if apart is not None and apart > SAME_PLACE:
        raise MaxcaError(
            f"{image.name}: the {role} has the voxels of its image, {scan.name}, but is up to {apart:.3g} voxels "
            f"away, so one of the two headers is wrong; copy the right one (nibabel: Nifti1Image(data, affine)), or, "
            f"{advice}"
        )
    kept = share_inside(image, scan.grid)
    if max(covered, kept) < ENOUGH:
        raise MaxcaError(
            f"{image.name}: the {role} is at another position than its image, {scan.name}: it covers "
            f"{100 * covered:.0f} % of it, and {100 * kept:.0f} % of its foreground is inside; check both "
            f"headers, or, {advice}"
        )


def _displaced(grid: Grid, other: Grid) -> float | None:
    """Distance in voxels between the corners of two grids of equal shape and voxel size; None for other grids."""
    a, b = grid.canonical, other.canonical
    if a.shape != b.shape or not np.allclose(a.spacing, b.spacing, rtol=SAME_SIZE, atol=0):
        return None
    return float(np.abs(a.corners - b.corners).max()) / b.smallest_spacing


def _covered(grid: Grid, other: Grid) -> float:
    """Fraction of the other grid within this one."""
    axes = [np.unique(np.linspace(0, n - 1, 32).round()) for n in other.shape]
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return float(_inside(grid, other.to_world(nodes)).mean())


def share_inside(image: Image, grid: Grid) -> float:
    """Fraction of the foreground of a map within a grid; 1 without foreground."""
    marked = np.flatnonzero(image.data)
    if not len(marked):
        return 1.0
    voxels = np.stack(np.unravel_index(marked[:: -(-len(marked) // SAMPLED)], image.data.shape), axis=-1)
    return float(_inside(grid, image.grid.to_world(voxels)).mean())


def _inside(grid: Grid, points: np.ndarray) -> np.ndarray:
    index = grid.to_voxel(points)
    return np.all((index >= -0.5) & (index <= np.array(grid.shape) - 0.5), axis=-1)


def _command(image: str, reference: str) -> str:
    """A command that resamples an image by its header onto the grid of another."""
    return shlex.join(
        ["maxca", "apply", "-i", image, "-r", reference, "--interpolation", "nearest", "-o", "regridded.nii.gz"]
    )
