"""Slices of a case in three planes, finely sampled, in radiological orientation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from maxca.engine.volume import foreground
from maxca.geometry import Chain, Grid, Interpolation
from maxca.geometry.grid import triple
from maxca.io.images import Image
from maxca.report.case import Case

MOST_PIXELS = 320  # pixels along the longer side of a picture
FINEST = 4  # most pixels per voxel: a line of one pixel must be thin on a small image too
MARGIN = 4.0  # margin around the content, in smallest spacings
SLICES = 9  # slices in each plane
WITHIN = (0.12, 0.88)  # relative positions of the slices in the content
# The normal of each plane, among right, anterior and superior, and the directions at left and right, top and bottom.
PLANES = {"axial": 2, "coronal": 1, "sagittal": 0}
SIDES = {"axial": ("R", "L", "A", "P"), "coronal": ("R", "L", "S", "I"), "sagittal": ("A", "P", "S", "I")}


@dataclass(frozen=True, eq=False)
class Plane:
    """Parallel slices in fixed space.

    Args:
        name: ``"axial"``, ``"coronal"`` or ``"sagittal"``.
        normal: the axis of ``grid`` across the slices.
        grid: the nodes, with square pixels and one node per slice along ``normal``.
        sides: anatomical directions at the left, right, top and bottom.
    """

    name: str
    normal: int
    grid: Grid
    sides: tuple[str, str, str, str]

    @property
    def mm(self) -> float:
        """Side of a pixel."""
        return float(self.grid.spacing[(self.normal + 1) % 3])

    def pictures(self, volume: np.ndarray) -> list[np.ndarray]:
        """Values on ``grid`` (I, J, K) or (I, J, K, C) as one picture per slice, rows downwards and columns right."""
        each = np.moveaxis(volume, self.normal, 0)
        return [slice_[::-1, ::-1].swapaxes(0, 1) for slice_ in each]

    @property
    def middle(self) -> Plane:
        """The middle slice alone."""
        low, high = [0, 0, 0], list(self.grid.shape)
        low[self.normal] = self.grid.shape[self.normal] // 2
        high[self.normal] = low[self.normal] + 1
        return Plane(self.name, self.normal, self.grid.box(low, high), self.sides)

    def through(self, point: np.ndarray) -> Plane:
        """A single slice through a world point."""
        index = np.zeros(3)
        index[self.normal] = self.grid.to_voxel(point)[self.normal]
        affine = self.grid.affine.copy()
        affine[:3, 3] = self.grid.to_world(index)
        size = list(self.grid.shape)
        size[self.normal] = 1
        return Plane(self.name, self.normal, Grid(triple(size), affine), self.sides)

    def positions(self) -> list[float]:
        """Position of each slice along its world axis in mm, rounded to mm if slices are at least 1 mm apart."""
        index = np.zeros((self.grid.shape[self.normal], 3))
        index[:] = (np.array(self.grid.shape) - 1) / 2
        index[:, self.normal] = np.arange(self.grid.shape[self.normal])
        apart = float(self.grid.spacing[self.normal])
        digits = None if apart >= 1 else 1 - math.floor(math.log10(apart))
        return [round(float(mm), digits) for mm in self.grid.to_world(index)[:, self.normal]]


def planes(case: Case) -> Iterator[Plane]:
    """The planes through the content of the fixed image; for a 2-D image its own plane."""
    return planes_of(case.fixed.image)


def planes_of(image: Image) -> Iterator[Plane]:
    """The planes through the content of an image; for a 2-D image its own plane."""
    grid = image.grid
    fine = grid.canonical
    bright = torch.as_tensor(foreground(image.data)).float()
    content = Chain().resample(bright[None], grid, fine, "nearest")[0].numpy() > 0
    low, high = np.argwhere(content).min(axis=0), np.argwhere(content).max(axis=0) + 1
    for name, normal in PLANES.items():
        flat = [axis for axis in range(3) if axis != normal]
        if any(fine.shape[axis] == 1 for axis in flat):
            continue
        margin = MARGIN * fine.smallest_spacing
        extent = [(high[axis] - low[axis]) * fine.spacing[axis] + 2 * margin for axis in flat]
        pixel = max(float(fine.smallest_spacing) / FINEST, max(extent) / MOST_PIXELS)
        size, affine, start = [1, 1, 1], fine.affine.copy(), np.zeros(3)
        for axis, mm in zip(flat, extent, strict=True):
            start[axis] = low[axis] - 0.5 - margin / fine.spacing[axis] + 0.5 * pixel / fine.spacing[axis]
            size[axis] = max(1, round(mm / pixel))
            affine[:3, axis] *= pixel / fine.spacing[axis]
        inner = [low[normal] + part * (high[normal] - 1 - low[normal]) for part in WITHIN]
        count = int(min(SLICES, high[normal] - low[normal]))
        step = (inner[1] - inner[0]) / max(1, count - 1)
        start[normal] = inner[0] if count > 1 else (low[normal] + high[normal] - 1) / 2
        size[normal] = count
        if step > 0:
            affine[:3, normal] *= step
        affine[:3, 3] = fine.affine[:3, :3] @ start + fine.affine[:3, 3]
        yield Plane(name, normal, Grid(triple(size), affine), SIDES[name])


def sampled(
    data: np.ndarray, grid: Grid, chain: Chain, plane: Plane, interpolation: Interpolation = "linear"
) -> np.ndarray:
    """Voxels on ``grid`` resampled at the nodes of a plane through a chain."""
    volume = torch.as_tensor(data.astype(np.int64 if interpolation == "nearest" else np.float32))
    return chain.resample(volume[None], grid, plane.grid, interpolation)[0].numpy()
