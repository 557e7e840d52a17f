"""Masks and labels on another grid than their image: brought onto it by the headers, where these can be believed."""

from __future__ import annotations

import shlex
from dataclasses import replace

import numpy as np

from maxca.errors import MaxcaError
from maxca.geometry import Chain, Grid
from maxca.io.images import Image
from maxca.registration.resampling import resample

ENOUGH = 0.95  # share of the image that a map covers, or of what it marks that lies in the image
SAME_PLACE = 0.5  # of a voxel: two grids of one size that lie nearer to each other hold the same voxels
SAME_SIZE = 0.01  # relative difference of two voxel sizes that count as one
SAMPLED = 200_000  # marked voxels that are looked at
SHOWN = 5  # labels in a message


def placed(role: str, image: Image, scan: Image) -> Image:
    """A mask or label map on the grid of the image that it belongs to.

    The same voxels in another order (flipped or swapped axes) are put in order; of a coarser, finer, larger or smaller
    grid the nearest voxel is taken, and 0 outside it. What was done stands in the warnings.

    Args:
        role: what the map is, such as ``"fixed mask"``, for messages.
        image: the map; what is not 0 is marked.
        scan: the image that it belongs to.

    Raises:
        MaxcaError: for a map that lies elsewhere, or a grid of the same size in another place, where one of the two
            headers is wrong and nothing says which.
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
            f"{image.name}: nothing of the {role} is left on the coarser grid of {scan.name}; draw it on that image"
        )
    how = "the axes were put in its order" if turned else "the nearest voxels were taken"
    text = f"{image.name}: {role} on another grid than {scan.name}; {how}, by both headers"
    if covered < ENOUGH:
        text += f"; it covers {100 * covered:.0f} % of the image, and is 0 elsewhere"
    lost = np.setdiff1d(image.data, [*np.unique(moved.data), 0]) if role.endswith("labels") else ()
    if len(lost):
        text += f"; without a voxel there: {', '.join(map(str, lost[:SHOWN]))}{', …' if len(lost) > SHOWN else ''}"
    return replace(image, data=moved.data, grid=scan.grid, form=scan.form, warnings=(*image.warnings, text))


def _check_place(role: str, image: Image, scan: Image, covered: float) -> None:
    """Refuse a map whose header places it where it cannot belong."""
    advice = f"if both headers are right: {_command(image.name, scan.name)}"
    apart = _displaced(image.grid, scan.grid)
    if apart is not None and apart > SAME_PLACE:
        raise MaxcaError(
            f"{image.name}: the {role} has the voxels of its image, {scan.name}, but lies up to {apart:.3g} voxels "
            f"away, so one of the two headers is wrong; copy the right one (nibabel: Nifti1Image(data, affine)), or, "
            f"{advice}"
        )
    kept = _kept(image, scan.grid)
    if max(covered, kept) < ENOUGH:
        raise MaxcaError(
            f"{image.name}: the {role} lies elsewhere than its image, {scan.name}: it covers {100 * covered:.0f} % of "
            f"it, and {100 * kept:.0f} % of what it marks lies in it; check both headers, or, {advice}"
        )


def _displaced(grid: Grid, other: Grid) -> float | None:
    """How far apart the corners of two grids of one shape and voxel size lie, in voxels; None for other grids."""
    a, b = grid.canonical, other.canonical
    if a.shape != b.shape or not np.allclose(a.spacing, b.spacing, rtol=SAME_SIZE, atol=0):
        return None
    return float(np.abs(a.corners - b.corners).max()) / b.smallest_spacing


def _covered(grid: Grid, other: Grid) -> float:
    """Share of the other grid that lies in this one."""
    axes = [np.unique(np.linspace(0, n - 1, 32).round()) for n in other.shape]
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return float(_inside(grid, other.to_world(nodes)).mean())


def _kept(image: Image, grid: Grid) -> float:
    """Share of the voxels marked in a map that lie in a grid; 1 where none is."""
    marked = np.flatnonzero(image.data)
    if not len(marked):
        return 1.0
    voxels = np.stack(np.unravel_index(marked[:: -(-len(marked) // SAMPLED)], image.data.shape), axis=-1)
    return float(_inside(grid, image.grid.to_world(voxels)).mean())


def _inside(grid: Grid, points: np.ndarray) -> np.ndarray:
    index = grid.to_voxel(points)
    return np.all((index >= -0.5) & (index <= np.array(grid.shape) - 0.5), axis=-1)


def _command(image: str, reference: str) -> str:
    """What resamples an image by its header onto the grid of another."""
    return shlex.join(
        ["maxca", "apply", "-i", image, "-r", reference, "--interpolation", "nearest", "-o", "regridded.nii.gz"]
    )
