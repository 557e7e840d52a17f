"""Both images on coarse grids, on which a registration takes a fraction of a second."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maxca.engine.volume import BLUR, FAINT, Volume, content_box, crop, normalise
from maxca.geometry import Chain, Grid
from maxca.geometry.separable import gaussian, per_axis
from maxca.losses.similarity import MutualInformation
from maxca.registration.inputs import Side

NODES = 20_000  # of a coarse grid: about 27 along each axis
MARGIN = 0.06  # of the extent, around the content
HALF = 0.5
FINEST = 1 / 60  # of the extent: smallest distance that a grid of this size resolves


@dataclass(frozen=True, eq=False)
class CoarsePair:
    """Two images on coarse grids.

    Args:
        fixed: the fixed image.
        moving: the moving image.
        content: (N, 3) world points within the fixed image's content and mask, mm.
        unit: of distances, in mm: the voxel size of the coarser image (geometric mean), but at least a sixtieth of the
            extent.
    """

    fixed: Volume
    moving: Volume
    content: np.ndarray
    unit: float

    def warped(self, chain: Chain) -> tuple[Tensor, Tensor]:
        """The moving image on the fixed grid, and its weights: 1 inside its field of view and both masks.

        Args:
            chain: fixed world points → moving world points.
        """
        values = chain.resample(self.moving.values[None], self.moving.grid, self.fixed.grid)[0]
        seen = torch.ones_like(self.moving.values) if self.moving.mask is None else self.moving.mask
        weight = chain.resample(seen[None], self.moving.grid, self.fixed.grid)[0]
        return values, weight if self.fixed.mask is None else weight * self.fixed.mask

    def agreement(self, chain: Chain) -> float:
        """Mutual information of both images under a chain, in nats, where both are visible."""
        values, weight = self.warped(chain)
        if float(weight.mean()) <= 0:
            return 0.0
        return self._information(values, weight)

    def compared(self, one: Chain, other: Chain) -> float:
        """The agreement under another chain relative to that under one, where the moving image is visible under both.

        Agreement varies over the images, so that regions visible under one chain only would bias the comparison. If
        less than half of the visible regions is common, each agreement is computed over its own region.

        Args:
            one: fixed world points → moving world points.
            other: another such map.
        """
        (values, seen), (others, also) = self.warped(one), self.warped(other)
        both = seen * also
        if float(both.mean()) < HALF * min(float(seen.mean()), float(also.mean())):
            return self.agreement(other) / max(self.agreement(one), 1e-9)
        if float(both.mean()) <= 0:
            return 0.0
        return self._information(others, both) / max(self._information(values, both), 1e-9)

    def _information(self, values: Tensor, weight: Tensor) -> float:
        return float(MutualInformation(self.fixed.values.flatten())(values.flatten(), weight.flatten()).value)


def coarse_pair(fixed: Side, moving: Side, points: int = 3000) -> CoarsePair:
    """Prepare a pair.

    Args:
        fixed: the fixed side with its mask.
        moving: the moving side with its mask.
        points: number of points sampled from the content.
    """
    volumes = [_volume(side) for side in (fixed, moving)]
    inside = (
        volumes[0].values > FAINT if volumes[0].mask is None else (volumes[0].values > FAINT) & (volumes[0].mask > 0.5)
    )
    index = np.argwhere(inside.numpy() if bool(inside.any()) else np.ones(volumes[0].grid.shape, dtype=bool))
    chosen = np.random.default_rng(0).permutation(len(index))[:points]
    voxel = max(_mean_voxel(side.image.grid) for side in (fixed, moving))
    return CoarsePair(
        _thinned(volumes[0]),
        _thinned(volumes[1]),
        volumes[0].grid.to_world(index[np.sort(chosen)]),
        max(voxel, FINEST * fixed.image.grid.extent),
    )


def _volume(side: Side) -> Volume:
    values = normalise(torch.as_tensor(side.values))
    mask = None if side.compared is None else torch.as_tensor(side.compared, dtype=torch.float32)
    volume = Volume(values, side.image.grid, mask)
    return crop(volume, *content_box(volume, MARGIN * side.image.grid.extent))


def _thinned(volume: Volume) -> Volume:
    """The volume on a grid of about ``NODES`` nodes, smoothed accordingly; never finer than the original."""
    grid = volume.grid
    mm = grid.smallest_spacing
    while np.prod([n * min(1.0, s / mm) for n, s in zip(grid.shape, grid.spacing, strict=True)]) > NODES:
        mm *= 1.03
    lattice = grid.at_spacing([max(mm, s) for s in grid.spacing])
    sigmas = [BLUR * step if step > 1.01 else 0.0 for step in lattice.spacing / grid.spacing]
    smooth = per_axis(gaussian, grid.shape, (1, 1, 1), sigmas)
    layers = [smooth(volume.values)] + ([] if volume.mask is None else [smooth(volume.mask)])
    thin = Chain().resample(torch.stack(layers), grid, lattice)
    return Volume(thin[0].contiguous(), lattice, None if volume.mask is None else thin[1].contiguous())


def _mean_voxel(grid: Grid) -> float:
    return _geometric_mean([s for n, s in zip(grid.shape, grid.spacing, strict=True) if n > 1] or [grid.spacing[0]])


def _geometric_mean(values: list[float]) -> float:
    return float(np.exp(np.log(values).mean()))
