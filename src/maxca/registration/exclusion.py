"""Regions that are excluded: the similarity ignores them, and the deformation continues into them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage

from maxca.engine.filling import Region
from maxca.engine.volume import Volume, brightness
from maxca.errors import MaxcaError
from maxca.geometry import Chain, Grid
from maxca.geometry.jacobian import jacobian_determinant
from maxca.io.images import Image
from maxca.registration.masks import LEAST_EXTENT

MOST = 0.6  # fraction of the foreground excluded: more is an inverted mask rather than a lesion
ML = 1e-3  # per mm³
SHELL, REACH = 1 / 2, 1 / 3  # thickness of the surroundings that fill a region, and σ of their weights; of its depth


class Exclusion(NamedTuple):
    """An excluded region.

    Args:
        voxels: (I, J, K) bool.
        warnings: for the user, one line each.
    """

    voxels: np.ndarray
    warnings: tuple[str, ...]


def exclusion_of(image: Image, name: str, scan: Image) -> Exclusion:
    """The voxels of an excluded region, and warnings about it.

    Args:
        image: non-zero in the region, on the grid of its image.
        name: ``"fixed"`` or ``"moving"``, for messages.
        scan: its image.

    Raises:
        MaxcaError: for an empty region, or one that leaves nothing to register.
    """
    excluded = image.data != 0
    if not excluded.any():
        raise MaxcaError(f"{image.name}: marks no voxel to exclude; mark the lesion with non-zero voxels, or remove it")
    values = brightness(scan.data)
    share = float(values[excluded].sum() / values.sum()) if values.any() else float(excluded.mean())
    if excluded.all() or (values.any() and not values[~excluded].any()):
        raise MaxcaError(
            f"{image.name}: excludes everything in {scan.name}; it must be non-zero only where the image is ignored, "
            "so invert it if necessary"
        )
    warnings = []
    if share > MOST:
        warnings.append(
            f"{image.name}: excludes {100 * share:.0f} % of the foreground of {scan.name}; invert it if necessary: it "
            f"must be non-zero where the {name} image is ignored"
        )
    if image.data.dtype.kind == "f" and (count := int(np.count_nonzero(np.rint(image.data) != image.data))):
        warnings.append(
            f"{image.name}: {count} voxels have fractions, and all non-zero voxels are excluded; threshold it if it "
            "contains probabilities"
        )
    return Exclusion(excluded, tuple(warnings))


def remaining(mask: np.ndarray | None, excluded: np.ndarray | None, scan: Image) -> np.ndarray | None:
    """Where the similarity is computed: inside the mask and outside the excluded region; None for everywhere.

    Args:
        mask: (I, J, K) bool, or None.
        excluded: (I, J, K) bool, or None.
        scan: the image, for messages.

    Raises:
        MaxcaError: if too little remains.
    """
    if excluded is None:
        return mask
    left = ~excluded if mask is None else mask & ~excluded
    found = np.argwhere(left)
    extent = np.ptp(found, axis=0) + 1 if len(found) else np.zeros(3, dtype=int)
    if any(extent[axis] < min(n, LEAST_EXTENT) for axis, n in enumerate(left.shape)):
        inside = "" if mask is None else " inside its mask"
        raise MaxcaError(
            f"{scan.name}: the excluded region leaves {len(found)} voxels{inside}, too few to register; exclude less"
        )
    return left


def filled(values: np.ndarray, excluded: np.ndarray | None, spacing: np.ndarray) -> np.ndarray:
    """An image without what is excluded: each excluded voxel gets the value of the nearest other one.

    Smoothing for coarser levels then adds nothing of the lesion to its surroundings, there is no edge at its border,
    and a network does not see it.

    Args:
        values: (I, J, K).
        excluded: (I, J, K) bool, or None.
        spacing: of the voxels, mm.
    """
    if excluded is None:
        return values
    box = box_of(excluded, 1)
    nearest = ndimage.distance_transform_edt(
        excluded[box], sampling=spacing, return_distances=False, return_indices=True
    )
    out = values.copy()
    out[box] = values[box][tuple(nearest)]
    return out


def region_of(excluded: np.ndarray, scan: Image, device: torch.device, *, moving: bool) -> Region | None:
    """An excluded region for the engine, with its surroundings; None if there is no content around it.

    Args:
        excluded: (I, J, K) bool.
        scan: its image.
        device: of the deformation.
        moving: it is a part of the moving image.
    """
    spacing = scan.grid.spacing
    beyond = [(1, 1) if n > 1 else (0, 0) for n in excluded.shape]
    whole = np.pad(excluded[box_of(excluded, 0)], beyond)
    depth = float(ndimage.distance_transform_edt(whole, sampling=spacing).max())
    thickness = max(SHELL * depth, 2 * scan.grid.smallest_spacing)
    box = box_of(excluded, int(np.ceil(thickness / scan.grid.smallest_spacing)) + 1)
    inside = excluded[box]
    away = ndimage.distance_transform_edt(~inside, sampling=spacing)
    shell = ~inside & (away <= thickness) & (brightness(scan.data)[box] > 0)
    if not shell.any():
        return None
    grid = scan.grid.box([side.start for side in box], [side.stop for side in box])
    shape, around = (
        Volume(torch.as_tensor(each, dtype=torch.float32, device=device), grid) for each in (inside, shell)
    )
    return Region(shape, around, REACH * depth, moving)


def box_of(region: np.ndarray, margin: int) -> tuple[slice, slice, slice]:
    """The box around a region, with a margin in voxels where the grid has them."""
    found = np.argwhere(region)
    low, high = np.maximum(found.min(axis=0) - margin, 0), np.minimum(found.max(axis=0) + margin + 1, region.shape)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return i, j, k


def volumes_ml(region: np.ndarray, grid: Grid, chain: Chain) -> tuple[float, float]:
    """The volume of a region, and that of its image under a map, in ml.

    Args:
        region: (I, J, K) bool.
        grid: of the region.
        chain: its world points → those of the other image.
    """
    box = box_of(region, 2)
    inside = region[box]
    around = grid.box([each.start for each in box], [each.stop for each in box])
    change = jacobian_determinant(chain, around).numpy()[inside]
    return (
        float(inside.sum() * grid.voxel_volume * ML),
        float(change.sum(dtype=np.float64) * grid.voxel_volume * ML),
    )
