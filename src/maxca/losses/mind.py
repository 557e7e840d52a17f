"""MIND-SSC: the self-similarity context of each voxel, which depends little on contrast, compared between two volumes.

A descriptor tells how similar the patches around a voxel are to each other: twelve pairs of neighbours in a volume,
four in a slice.

Source: Heinrich et al., MICCAI 2013.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from maxca.geometry.grid import Grid
from maxca.geometry.separable import box, per_axis
from maxca.losses.score import Score

DISTANCE = 2  # voxels of the finest axis between a voxel and its neighbours
RADIUS = 1  # of a patch, in voxels of the finest axis
FLATTEST, STEEPEST = 1e-3, 1e3  # variance of the patches of a voxel, relative to the mean


class MindSSC:
    """1 minus the mean squared difference of the descriptors.

    Args:
        fixed: (I, J, K).
        grid: of its voxels: neighbours and patches extend equally far in mm, by at least one voxel.
        mask: (I, J, K) weights in [0, 1] of the fixed voxels, or None.
    """

    def __init__(self, fixed: Float[Tensor, "i j k"], grid: Grid, mask: Tensor | None = None) -> None:
        share = grid.smallest_spacing / np.asarray(grid.spacing)
        axes = [axis for axis in range(3) if axis not in grid.thin_axes]
        self.reach = [max(1, round(DISTANCE * share[axis])) if axis in axes else 0 for axis in range(3)]
        self.neighbours = [tuple(sign * (axis == a) for a in range(3)) for axis in axes for sign in (1, -1)]
        self.pairs = [
            (a, b) for a, b in combinations(range(len(self.neighbours)), 2) if a // 2 != b // 2
        ]  # not opposite each other
        radii = [RADIUS * float(s) if n > 1 else 0.0 for s, n in zip(share, fixed.shape, strict=True)]
        self.window = per_axis(box, fixed.shape, (1, 1, 1), radii).to(fixed.device)
        self.spread = self.window.adjoint
        weight = self.window(torch.ones_like(fixed) if mask is None else mask)
        self.weight = weight / weight.sum().clamp(min=1e-6)
        self.expected = self._descriptors(self.window(self._differences(fixed).square_()))[0]

    def __call__(self, warped: Float[Tensor, "i j k"]) -> Score:
        """See ``Similarity``."""
        differences = self._differences(warped)
        patches = self.window(differences.square())
        found, relative, variance, free = self._descriptors(patches)
        missing = self.expected - found
        value = 1 - (self.weight * missing.square().mean(dim=0)).sum()
        share = missing.mul_(found).mul_(2 / len(self.pairs) * self.weight / variance)  # by minus the relative patches
        slope = ((share * relative).sum(dim=0) / variance * free / len(self.pairs)) - share
        least = patches.argmin(dim=0, keepdim=True)
        slope.scatter_add_(0, least, -slope.sum(dim=0, keepdim=True))
        pulls = self.spread(slope).mul_(differences).mul_(2)
        return Score(value, self._collected(pulls) * warped.numel())

    def _differences(self, volume: Tensor) -> Tensor:
        """(P, I, J, K): between the neighbours of each voxel, beyond the borders of the nearest voxel."""
        shifted = self._shifts(_padded(volume, self.reach))
        return torch.stack([shifted[a] - shifted[b] for a, b in self.pairs])

    def _descriptors(self, patches: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Descriptors (P, I, J, K), patches relative to the most similar ones, their variance, and where it is free."""
        relative = patches - patches.amin(dim=0)
        variance = relative.mean(dim=0)
        typical = float(variance.mean())
        low, high = FLATTEST * typical + 1e-9, STEEPEST * typical + 1e-9
        clamped = variance.clamp(low, high)
        return torch.exp(-relative / clamped), relative, clamped, clamped == variance

    def _shifts(self, padded: Tensor) -> list[Tensor]:
        """Views of a padded volume: the neighbours of all voxels."""
        shape = [n - 2 * reach for n, reach in zip(padded.shape, self.reach, strict=True)]
        return [
            padded[tuple(slice(first, first + n) for first, n in zip(np.add(self.reach, moved), shape, strict=True))]
            for moved in np.multiply(self.neighbours, self.reach)
        ]

    def _collected(self, pulls: Tensor) -> Tensor:
        """The adjoint of the differences."""
        padded = pulls.new_zeros([n + 2 * reach for n, reach in zip(pulls.shape[1:], self.reach, strict=True)])
        views = self._shifts(padded)
        for (a, b), pull in zip(self.pairs, pulls, strict=True):
            views[a].add_(pull)
            views[b].sub_(pull)
        return _folded(padded, self.reach)


def _padded(volume: Tensor, reach: list[int]) -> Tensor:
    """A volume with its borders repeated ``reach`` times."""
    widths = [width for r in reversed(reach) for width in (r, r)]
    return F.pad(volume[None, None], widths, mode="replicate")[0, 0]


def _folded(padded: Tensor, reach: list[int]) -> Tensor:
    """The adjoint of ``_padded``."""
    for axis, r in enumerate(reach):
        n = padded.shape[axis] - 2 * r
        inner = padded.narrow(axis, r, n).clone()
        inner.narrow(axis, 0, 1).add_(padded.narrow(axis, 0, r).sum(dim=axis, keepdim=True))
        inner.narrow(axis, n - 1, 1).add_(padded.narrow(axis, r + n, r).sum(dim=axis, keepdim=True))
        padded = inner
    return padded
