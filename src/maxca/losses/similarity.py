"""Similarity of two volumes on one grid, with the gradient in closed form; and the registry of measures by name.

Each measure is built once for a fixed volume and then called with warped ones. It returns the similarity (larger is
better, at most 1 for NCC) and its derivative with respect to every voxel of the warped volume, times the number of
voxels, so that the size of a gradient does not depend on the size of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from maxca.fields import add_choice
from maxca.geometry.grid import Grid
from maxca.geometry.separable import Separable, box, per_axis
from maxca.losses.mind import MindSSC
from maxca.losses.score import Score, Similarity

WINDOW = 125  # voxels in a window of local NCC: 5 along each axis
CUBIC = [  # coefficients of 1, t, t² and t³ in the four pieces of a cubic B-spline
    [1 / 6, -1 / 2, 1 / 2, -1 / 6],
    [4 / 6, 0, -1, 1 / 2],
    [1 / 6, 1 / 2, 1 / 2, -1 / 2],
    [0, 0, 0, 1 / 6],
]
NOISE = 1e-3  # relative to the mean variance: the correlation of a window with less variance would be that of noise


Build = Callable[[Tensor, Grid, Tensor | None, int], Similarity]
Contrast = Literal["equal", "linear", "any"]


@dataclass(frozen=True)
class Measure:
    """A similarity measure in the registry.

    Args:
        build: (fixed (I, J, K), its grid, mask (I, J, K) or None, voxels in a local window) → ``Similarity``.
        contrast: the relation between the intensities of the two images that it assumes: ``"equal"``, ``"linear"``
            within a window, or ``"any"``, which includes T1 and T2.
        refines_affine: the affine ends by maximising local NCC instead of mutual information.
    """

    build: Build
    contrast: Contrast = "linear"
    refines_affine: bool = False


def similarity_measure(
    name: str, fixed: Float[Tensor, "i j k"], grid: Grid, mask: Tensor | None = None, window: int = WINDOW
) -> Similarity:
    """A registered measure, built for a fixed volume.

    Args:
        name: a key of ``SIMILARITIES``.
        fixed: (I, J, K).
        grid: of its voxels.
        mask: (I, J, K) weights in [0, 1], or None.
        window: voxels in a window, for measures that have windows.
    """
    return SIMILARITIES[name].build(fixed, grid, mask, window)


def batch_measure(
    name: str, fixed: Float[Tensor, "n i j k"], grids: Sequence[Grid], window: int = WINDOW
) -> BatchSimilarity:
    """A registered measure for the fixed volumes of a batch.

    Args:
        name: a key of ``SIMILARITIES``.
        fixed: (N, I, J, K).
        grids: of each.
        window: voxels in a window, for measures that have windows.
    """
    return BatchSimilarity([similarity_measure(name, f, g, window=window) for f, g in zip(fixed, grids, strict=True)])


class BatchSimilarity:
    """A similarity for each item of a batch, as each would have alone.

    Args:
        measures: one for each item.
    """

    def __init__(self, measures: Sequence[Similarity]) -> None:
        self.measures = measures

    def __call__(self, warped: Float[Tensor, "n i j k"]) -> Score:
        """Values (N,) and gradients (N, I, J, K)."""
        scores = [measure(one) for measure, one in zip(self.measures, warped, strict=True)]
        return Score(torch.stack([each.value for each in scores]), torch.stack([each.gradient for each in scores]))


def add_similarity(name: str, measure: Measure) -> None:
    """Register a measure, so that ``similarity=name`` finds it in registration, training and evaluation."""
    SIMILARITIES[name] = measure
    add_choice("similarity", name)


def dissimilarity(measure: Similarity | BatchSimilarity, warped: Float[Tensor, "*batch i j k"]) -> Tensor:
    """The negative similarity as a loss, with a closed-form gradient and no intermediate tensors for autograd.

    Args:
        measure: of a volume, or of a batch.
        warped: (I, J, K), or (N, I, J, K).

    Returns:
        A scalar, or (N,).
    """
    return _Dissimilarity.apply(warped, measure)


class _Dissimilarity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, warped: Tensor, measure: Similarity | BatchSimilarity) -> Tensor:
        score = measure(warped.to(torch.promote_types(warped.dtype, torch.float32)))
        ctx.save_for_backward(score.gradient)
        ctx.dtype = warped.dtype
        return -score.value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        voxels = math.prod(gradient.shape[-3:])
        return (gradient * (-grad / voxels).view(*grad.shape, 1, 1, 1)).to(ctx.dtype), None


class LocalNCC:
    """Squared local normalised cross-correlation, averaged over windows.

    Args:
        fixed: (I, J, K).
        window: the means over windows: a separable operator whose result may be on a coarser grid, which
            reduces the cost; the gradient is exact for the windows evaluated.
        mask: (I, J, K) weights in [0, 1] of the fixed voxels, or None.

    Source: Avants et al., Medical Image Analysis 12(1), 2008, eq. 6; the gradient here is that of the mean over
    windows, without their approximation at the centre of the window.
    """

    def __init__(self, fixed: Float[Tensor, "i j k"], window: Separable, mask: Tensor | None = None) -> None:
        self.mask = mask
        self.fixed = fixed if mask is None else fixed * mask
        self.window = window
        self.spread = window.adjoint
        self.share = None if mask is None else window(mask)
        self.mean = self._means(self.fixed)
        self.variance = (self._means(self.fixed * fixed) - self.mean**2).clamp(min=0)
        seen = torch.ones_like(self.mean) if self.share is None else self.share
        typical = (self.variance * seen).sum() / seen.sum().clamp(min=1e-6)
        self.noise = (NOISE * typical).clamp(min=1e-12)
        self.weight = seen * (self.variance > self.noise)
        self.total = self.weight.sum().clamp(min=1e-6)

    def __call__(self, warped: Float[Tensor, "i j k"]) -> Score:
        """See ``Similarity``."""
        inside = warped if self.mask is None else warped * self.mask
        mean = self._means(inside)
        variance = (self._means(inside * warped) - mean**2).clamp(min=0) + self.noise
        cross = self._means(self.fixed * warped) - self.mean * mean
        per_cross = self.weight * cross / ((self.variance + self.noise) * variance)
        value = (per_cross * cross).sum() / self.total
        a = per_cross * (2 / self.total)
        b = a * cross / variance
        parts = torch.stack([a, b, b * mean - a * self.mean])
        if self.share is not None:
            parts = parts / self.share.clamp(min=1e-6)
        a_spread, b_spread, constant = self.spread(parts)
        gradient = torch.addcmul(constant, self.fixed, a_spread).addcmul_(warped, b_spread, value=-1)
        if self.mask is not None:
            gradient = gradient * self.mask
        return Score(value, gradient * warped.numel())

    def _means(self, masked: Tensor) -> Tensor:
        """Means over the part of each window that is inside the mask."""
        means: Tensor = self.window(masked)
        return means if self.share is None else means / self.share.clamp(min=1e-6)


class MutualInformation:
    """Mutual information in nats of two volumes with values in [0, 1], from a joint histogram with Parzen windows.

    Args:
        fixed: any shape, values in [0, 1].
        mask: weights of the same shape, or None.
        bins: bins per volume.

    Source: Mattes et al., IEEE TMI 22(1), 2003: whole bins for the fixed volume, cubic B-splines for the warped one.
    """

    def __init__(self, fixed: Float[Tensor, "*shape"], mask: Tensor | None = None, bins: int = 32) -> None:
        self.bins = bins
        self.row = (fixed.flatten().clamp(0, 1) * (bins - 1)).round_().long() * (bins + 4)
        self.weight = None if mask is None else mask.flatten().double()

    def __call__(self, warped: Float[Tensor, "*shape"], weight: Tensor | None = None) -> Score:
        """See ``Similarity``; ``weight`` multiplies the sample weights, such as 0 outside the warped volume."""
        weights = _product(self.weight, None if weight is None else weight.flatten().double())
        position = warped.flatten().clamp(0, 1) * (self.bins - 1) + 1.5
        first = position.floor()
        cells = ((self.row + first.long()) + torch.arange(-1, 3, device=warped.device)[:, None]).flatten()
        taps, slopes = _cubic_weights(position - first)
        shares = taps.double() if weights is None else taps * weights
        size = (self.bins, self.bins + 4)
        joint = torch.bincount(cells, weights=shares.flatten(), minlength=math.prod(size))
        total = joint.sum().clamp(min=1e-12)
        p = (joint / total).view(size)
        independent = p.sum(1, keepdim=True) * p.sum(0, keepdim=True)
        log_ratio = torch.where(p > 0, torch.log(p.clamp(min=1e-300) / independent.clamp(min=1e-300)), 0.0)
        value = (p * log_ratio).sum()
        gradient = (log_ratio.flatten().float().index_select(0, cells).view(4, -1) * slopes).sum(dim=0)
        gradient *= (self.bins - 1) * (warped.numel() / total).float()
        if weights is not None:
            gradient *= weights.float()
        return Score(value.float(), gradient.view(warped.shape))


class MeanSquares:
    """The negative mean of squared differences.

    Args:
        fixed: any shape.
        mask: weights of the same shape, or None.
    """

    def __init__(self, fixed: Float[Tensor, "*shape"], mask: Tensor | None = None) -> None:
        self.fixed = fixed
        self.weight = torch.ones_like(fixed) if mask is None else mask
        self.total = self.weight.sum().clamp(min=1e-6)

    def __call__(self, warped: Float[Tensor, "*shape"]) -> Score:
        """See ``Similarity``."""
        weighted = (self.fixed - warped) * self.weight
        value = -(weighted * (self.fixed - warped)).sum() / self.total
        return Score(value, weighted * (2 * warped.numel() / self.total))


def local_window(grid: Grid, voxels: int) -> Separable:
    """Means over windows of about ``voxels`` voxels, of equal width in mm along every axis, for ``LocalNCC``.

    With thick slices and 2-D images a window has few voxels across slices; it is then wider within the slice, because a
    correlation of few voxels is noise. The windows are centred on every second voxel: neighbours overlap by four
    fifths, and the cost is one eighth.
    """
    smallest = grid.smallest_spacing
    share = [smallest / s if n > 1 else 0.0 for s, n in zip(grid.spacing, grid.shape, strict=True)]
    widest = max(2, max(grid.shape) // 8)  # a window that spans the image resolves no detail
    radius = max(range(1, widest + 1), key=lambda r: -abs(math.prod(2 * int(r * s + 1e-6) + 1 for s in share) - voxels))
    radii = [round(radius * s, 6) for s in share]  # independent of the unit of the spacing
    apart = [2 if r >= 2 and n > 4 * r else 1 for r, n in zip(radii, grid.shape, strict=True)]
    return per_axis(box, grid.shape, apart, radii)


def _lncc(fixed: Tensor, grid: Grid, mask: Tensor | None, window: int) -> Similarity:
    return LocalNCC(fixed, local_window(grid, window).to(fixed.device), mask)


SIMILARITIES: dict[str, Measure] = {
    "lncc": Measure(_lncc, refines_affine=True),
    "mi": Measure(lambda fixed, _grid, mask, _window: MutualInformation(fixed, mask), contrast="any"),
    "mind": Measure(lambda fixed, grid, mask, _window: MindSSC(fixed, grid, mask), contrast="any"),
    "mse": Measure(lambda fixed, _grid, mask, _window: MeanSquares(fixed, mask), contrast="equal"),
}


def _product(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a * b


def _cubic_weights(t: Float[Tensor, " n"]) -> tuple[Float[Tensor, "4 n"], Float[Tensor, "4 n"]]:
    """Values and slopes of the four cubic B-splines around a position with fractional part ``t``."""
    square, one = t * t, torch.ones_like(t)
    values = torch.tensor(CUBIC, dtype=t.dtype, device=t.device) @ torch.stack([one, t, square, square * t])
    slopes = torch.tensor(CUBIC, dtype=t.dtype, device=t.device)[:, 1:] @ torch.stack([one, 2 * t, 3 * square])
    return values, slopes
