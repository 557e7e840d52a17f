"""Residual channel attention: two convolutions whose result is gated channel by channel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Conv3d, LayerNorm, convolve
from .slabs import Slab, joined, slabs


class ResidualChannelAttention(nn.Module):
    """z + gate(conv(lrelu(conv(norm(z))))), as in RCAN, with a layer norm in front.

    Args:
        channels: C, in and out.
        squeeze: the gate's hidden layer has C / ``squeeze`` channels, at least one.

    Source: Zhang et al., ECCV 2018.
    """

    def __init__(self, channels: int, squeeze: int = 4) -> None:
        super().__init__()
        self.norm = LayerNorm(channels)
        self.conv1 = Conv3d(channels, channels, 3, padding=1)
        self.conv2 = Conv3d(channels, channels, 3, padding=1)
        self.gate = Gate(channels, max(1, channels // squeeze))

    def forward(self, z: Tensor) -> Tensor:
        """(N, C, I, J, K) → the same shape."""
        pieces = slabs(z.permute(0, 2, 3, 4, 1), context=2, widest=3 * z.shape[1])
        return joined(self.in_slabs(pieces)).permute(0, 4, 1, 2, 3)

    def in_slabs(self, pieces: Sequence[Slab]) -> list[Tensor]:
        """``forward`` of slabs with two planes of context → (N, planes, J, K, C) each."""
        gated = [self._gated(slab) for slab in pieces]
        voxels = sum(y[0, 0].numel() for y in gated)
        means = sum(y.sum(dim=(2, 3, 4), keepdim=True) / voxels for y in gated)
        gate = self.gate(means).permute(0, 2, 3, 4, 1)
        return [slab.own(slab.piece) + y.permute(0, 2, 3, 4, 1) * gate for slab, y in zip(pieces, gated, strict=True)]

    def _gated(self, slab: Slab) -> Tensor:
        """What the gate is for, of the slab's own planes: (N, C, planes, J, K)."""
        y = self.norm(slab.piece).permute(0, 4, 1, 2, 3)
        before, after = slab.before < 2, slab.after < 2
        y = convolve(y, self.conv1.weight, self.conv1.bias, before, after)
        before, after = slab.before < 1, slab.after < 1
        return convolve(F.leaky_relu(y, 0.2, inplace=True), self.conv2.weight, self.conv2.bias, before, after)


class Gate(nn.Module):
    """Squeeze and excitation: a factor in (0, 1) for every channel, from the means of all. Source: Hu et al., 2018."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.squeeze = Conv3d(channels, hidden, 1)
        self.excite = Conv3d(hidden, channels, 1)

    def forward(self, means: Tensor) -> Tensor:
        """(N, C, 1, 1, 1), the mean of each channel → the same shape."""
        return torch.sigmoid(self.excite(F.relu(self.squeeze(means))))
