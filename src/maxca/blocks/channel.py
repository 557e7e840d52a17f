"""Residual channel attention: two convolutions whose result is gated channel by channel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import _cpu
from .layers import Conv3d, LayerNorm, channels_first, channels_last, tuned


class ResidualChannelAttention(nn.Module):
    """z + gate(y) y, where y = conv(lrelu(conv(norm(z)))), as in RCAN, with a layer norm in front.

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

    @tuned(_cpu.channel_attention)
    def forward(self, z: Tensor) -> Tensor:
        """(N, C, I, J, K) → the same shape."""
        y = channels_first(self.norm(channels_last(z)))
        y = self.conv2(F.leaky_relu(self.conv1(y), 0.2))
        return z + y * self.gate(y.mean(dim=(2, 3, 4), keepdim=True))


class Gate(nn.Module):
    """Squeeze and excitation: a factor in (0, 1) for every channel, from the means of all. Source: Hu et al., 2018."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.squeeze = Conv3d(channels, hidden, 1)
        self.excite = Conv3d(hidden, channels, 1)

    def forward(self, means: Tensor) -> Tensor:
        """(N, C, 1, 1, 1), the mean of each channel → the same shape."""
        return torch.sigmoid(self.excite(F.relu(self.squeeze(means))))
