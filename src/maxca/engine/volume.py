"""From images to what registration works on: intensities in [0, 1], content boxes, coarser scales."""

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

BLUR = 0.4  # Gaussian σ before taking every n-th voxel, in units of the new spacing: little aliasing, little loss
MARGIN = 10.0  # smallest spacings around the content of an image that take part,
MOST_MARGIN = 0.1  # but no more than this share of its extent: a coarse image would be all margin
FAINT = 0.02  # of the intensity range: what lies below is background, for finding the content of an image


@dataclass(frozen=True)
class Volume:
    """An image prepared for registration, of one or more channels.

    Args:
        channels: (C, I, J, K) float32 in [0, 1]; (I, J, K) is one channel.
        grid: where the voxels lie.
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
        """(I, J, K): the first channel, which the affine and the networks see."""
        return self.channels[0]

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self.channels.device


def normalise(values: Tensor) -> Tensor:
    """Map intensities (I, J, K) linearly so that the background becomes 0 and the bright tissue 1, clipped beyond.

    The range is [0.5th percentile, 99.5th percentile of what is brighter]: large empty margins, as after skull
    stripping, must not decide it.
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
    """(I, J, K) bool: which voxels are brighter than the background; all of them where none is."""
    bright = brightness(values) > 0
    return bright if bright.any() else np.ones_like(bright)


def brightness(values: np.ndarray) -> np.ndarray:
    """(I, J, K) intensities from 0 to 1, see ``normalise``; the background is 0."""
    scaled = normalise(torch.as_tensor(values.astype(np.float32))).numpy()
    scaled[scaled <= FAINT] = 0
    return scaled


def margin_of(grid: Grid) -> float:
    """How far around the content of an image on a grid the work reaches, in mm."""
    return min(MARGIN * grid.smallest_spacing, MOST_MARGIN * grid.extent)


def content_box(volume: Volume, margin: float) -> tuple[list[int], list[int]]:
    """Lowest and one-past-highest voxel of what is brighter than the background in the first channel, and a margin.

    Args:
        volume: an image.
        margin: in mm, as wide along every axis.
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


def crop(volume: Volume, low: Sequence[int], high: Sequence[int]) -> Volume:
    """The part of a volume with ``low`` ≤ index < ``high``."""
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    mask = None if volume.mask is None else volume.mask[box]
    channels = volume.channels[(slice(None), *box)].contiguous()
    return Volume(channels, volume.grid.box(low, high), mask)


def steps_to(grid: Grid, mm: float) -> Steps:
    """How many voxels of ``grid`` make about ``mm`` along each axis, at least one."""
    return triple(max(1, nearest(mm / s)) if n > 1 else 1 for s, n in zip(grid.spacing, grid.shape, strict=True))


def steps_within(grid: Grid, mm: float) -> Steps:
    """How many voxels of ``grid`` make at most ``mm`` along each axis: an axis with thick slices keeps them all."""
    return triple(max(1, int(mm / s + 1e-3)) if n > 1 else 1 for s, n in zip(grid.spacing, grid.shape, strict=True))


def at_scale(volume: Volume, mm: float) -> Volume:
    """The volume on a lattice about ``mm`` apart, blurred to match along the axes that get coarser."""
    return every(volume, steps_to(volume.grid, mm))


def every(volume: Volume, steps: Steps) -> Volume:
    """The volume at each ``steps``-th voxel (see ``Grid.every``), blurred to match along the axes that get coarser."""
    if steps == (1, 1, 1):
        return volume
    sigmas = [BLUR * step if step > 1 else 0.0 for step in steps]
    shrink = per_axis(gaussian, volume.grid.shape, steps, sigmas).to(volume.device)
    mask = None if volume.mask is None else shrink(volume.mask)
    return Volume(shrink(volume.channels), volume.grid.every(steps), mask)


def resampled(volume: Volume, grid: Grid, chain: Chain) -> Tensor:
    """The first channel of a volume on another grid, (I, J, K), blurred to match where that is coarser.

    Args:
        volume: where values are looked up.
        grid: where they are wanted.
        chain: points of the grid's world → points of the volume's world.
    """
    lattice = every(volume, steps_within(volume.grid, grid.smallest_spacing))
    return chain.resample(lattice.values[None], lattice.grid, grid)[0]
