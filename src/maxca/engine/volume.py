"""Preparation of images: intensities in [0, 1], content boxes, coarser scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maxca.geometry.grid import Grid, nearest, triple
from maxca.geometry.separable import gaussian, per_axis
from maxca.geometry.transforms import Chain

Steps = tuple[int, int, int]

BLUR = 0.4  # Gaussian σ before subsampling, in units of the new spacing: little aliasing, little blur
MARGIN = 10.0  # margin around the content of an image in smallest spacings,
MOST_MARGIN = 0.1  # but at most this fraction of its extent
FAINT = 0.02  # of the intensity range: upper limit of the background


@dataclass(frozen=True)
class Volume:
    """An image prepared for registration, of one or more channels.

    Args:
        channels: (C, I, J, K) float32 in [0, 1]; (I, J, K) is one channel.
        grid: of the voxels.
        mask: (I, J, K) weights in [0, 1], or None for all ones.
    """

    channels: Tensor
    grid: Grid
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if self.channels.ndim == 3:
            object.__setattr__(self, "channels", self.channels[None])
        for tensor in (*self.channels, self.mask):
            if tensor is not None and tuple(tensor.shape) != self.grid.shape:
                raise ValueError(f"a volume on a grid of {self.grid.shape} received {tuple(tensor.shape)} values")

    @property
    def values(self) -> Tensor:
        """(I, J, K): the first channel, which the affine and the networks use."""
        return self.channels[0]

    @property
    def device(self) -> torch.device:
        """The device of the values."""
        return self.channels.device


def normalise(values: Tensor) -> Tensor:
    """Map intensities (I, J, K) linearly so that the background becomes 0 and the bright tissue 1, with clipping.

    The range is [0.5th percentile, 99.5th percentile of brighter values], so that large empty margins, as after skull
    stripping, do not affect it.
    """
    values = values.float()
    bulk = values.flatten()[:: max(1, values.numel() // 1_000_000)]
    low = torch.quantile(bulk, 0.005)
    bright = bulk[bulk > low]
    high = torch.quantile(bright, 0.995) if len(bright) else values.max()
    if not high > low:
        low, high = values.min(), values.max()
    return ((values - low) / (high - low).clamp(min=torch.finfo(torch.float32).tiny)).clamp_(0, 1)


def foreground(values: np.ndarray) -> np.ndarray:
    """(I, J, K) bool: the foreground; all voxels if there is none."""
    bright = brightness(values) > 0
    return bright if bright.any() else np.ones_like(bright)


def brightness(values: np.ndarray) -> np.ndarray:
    """(I, J, K) intensities from 0 to 1, see ``normalise``; the background is 0."""
    scaled = normalise(torch.as_tensor(values.astype(np.float32))).numpy()
    scaled[scaled <= FAINT] = 0
    return scaled


def margin_of(grid: Grid) -> float:
    """Margin around the content of an image in mm."""
    return min(MARGIN * grid.smallest_spacing, MOST_MARGIN * grid.extent)


def content_box(volume: Volume, margin: float) -> tuple[list[int], list[int]]:
    """Lowest and one-past-highest voxel of the foreground of the first channel, with a margin.

    Args:
        volume: an image.
        margin: in mm, equal along every axis.
    """
    bright = volume.values > FAINT
    low, high = [], []
    for axis, n in enumerate(volume.grid.shape):
        others = [other for other in range(3) if other != axis]
        along = torch.nonzero(bright.amax(dim=others))
        first, last = (int(along[0]), int(along[-1])) if len(along) else (0, n - 1)
        extra = int(np.ceil(margin / volume.grid.spacing[axis] - 1e-6))
        low.append(max(first - extra, 0))
        high.append(min(last + extra + 1, n))
    return low, high


def center_of_mass(volume: Volume) -> np.ndarray:
    """(3,) centre of mass of the values inside the mask, world mm."""
    mass = volume.values if volume.mask is None else volume.values * volume.mask
    mass = mass.double()
    total = mass.sum().clamp(min=1e-9)
    index = []
    for axis, n in enumerate(mass.shape):
        along = mass.sum(dim=[other for other in range(3) if other != axis])
        index.append(float((along * torch.arange(n, device=mass.device)).sum() / total))
    return volume.grid.to_world(np.array(index))


def crop(volume: Volume, low: Sequence[int], high: Sequence[int]) -> Volume:
    """The part of a volume with ``low`` ≤ index < ``high``."""
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    mask = None if volume.mask is None else volume.mask[box]
    channels = volume.channels[(slice(None), *box)].contiguous()
    return Volume(channels, volume.grid.box(low, high), mask)


def steps_to(grid: Grid, mm: float) -> Steps:
    """Strides of ``grid`` for a spacing of about ``mm``, at least one."""
    return triple(max(1, nearest(mm / s)) if n > 1 else 1 for s, n in zip(grid.spacing, grid.shape, strict=True))


def steps_within(grid: Grid, mm: float) -> Steps:
    """Strides of ``grid`` for a spacing of at most ``mm``: thick slices are all kept."""
    return triple(max(1, int(mm / s + 1e-3)) if n > 1 else 1 for s, n in zip(grid.spacing, grid.shape, strict=True))


def at_scale(volume: Volume, mm: float) -> Volume:
    """The volume at a spacing of about ``mm``, smoothed along the axes that become coarser."""
    return every(volume, steps_to(volume.grid, mm))


def every(volume: Volume, steps: Steps) -> Volume:
    """The volume at every ``steps``-th voxel (see ``Grid.every``), smoothed along the axes that become coarser."""
    if steps == (1, 1, 1):
        return volume
    sigmas = [BLUR * step if step > 1 else 0.0 for step in steps]
    shrink = per_axis(gaussian, volume.grid.shape, steps, sigmas).to(volume.device)
    mask = None if volume.mask is None else shrink(volume.mask)
    return Volume(shrink(volume.channels), volume.grid.every(steps), mask)


def resampled(volume: Volume, grid: Grid, chain: Chain) -> Tensor:
    """The first channel of a volume on another grid, (I, J, K), smoothed where that is coarser.

    Args:
        volume: to resample.
        grid: of the result.
        chain: points of the grid's world → points of the volume's world.
    """
    lattice = every(volume, steps_within(volume.grid, grid.smallest_spacing))
    return chain.resample(lattice.values[None], lattice.grid, grid)[0]
