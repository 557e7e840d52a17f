"""Residual channel attention: two convolutions whose result is gated channel by channel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Conv3d


class ResidualChannelAttention(nn.Module):
    """z + gate(conv(lrelu(conv(norm(z))))), as in RCAN, with a layer norm in front.

    Args:
        channels: C, in and out.
        squeeze: the gate's hidden layer has C / ``squeeze`` channels, at least one.

    Source: Zhang et al., ECCV 2018.
    """

    def __init__(self, channels: int, squeeze: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.conv1 = Conv3d(channels, channels, 3, padding=1)
        self.conv2 = Conv3d(channels, channels, 3, padding=1)
        self.gate = Gate(channels, max(1, channels // squeeze))

    def forward(self, z: Tensor) -> Tensor:
        """(N, C, I, J, K) → the same shape."""
        y = self.conv1(channel_norm(self.norm, z))
        y = self.conv2(F.leaky_relu(y, 0.2, inplace=True))
        return torch.addcmul(z, y, self.gate(y).to(y.dtype)) if y.dtype == z.dtype else z + y * self.gate(y)


class Gate(nn.Module):
    """Squeeze and excitation: a factor in (0, 1) for every channel, from the means of all. Source: Hu et al., 2018."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.squeeze = Conv3d(channels, hidden, 1)
        self.excite = Conv3d(hidden, channels, 1)

    def forward(self, y: Tensor) -> Tensor:
        """(N, C, I, J, K) → (N, C, 1, 1, 1)."""
        means = y.mean(dim=(2, 3, 4), keepdim=True)
        return torch.sigmoid(self.excite(F.relu(self.squeeze(means))))


def channel_norm(norm: nn.LayerNorm, volume: Tensor) -> Tensor:
    """Layer norm over the channels of (N, C, I, J, K); free of copies when the memory is channels-last."""
    return norm(volume.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)
