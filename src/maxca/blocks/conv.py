"""The control: a residual block of two convolutions, matched in size to another block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cost import cost
from .layers import Conv3d

Block = Callable[[int], nn.Module]


class ConvBlock(nn.Module):
    """x + conv(lrelu(conv(x))), 3x3x3 each.

    Args:
        channels: C, in and out.
        width: channels in between; C by default. See ``matched``.
    """

    def __init__(self, channels: int, width: int | None = None) -> None:
        super().__init__()
        self.conv1 = Conv3d(channels, width or channels, 3, padding=1)
        self.conv2 = Conv3d(width or channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, I, J, K) → the same shape."""
        return x + self.conv2(F.leaky_relu(self.conv1(x), 0.2))


class Identity(nn.Module):
    """x: the network without a block.

    Args:
        channels: unused, for the interface.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, I, J, K) → the same."""
        return x


def matched(block: Block, by: Literal["parameters", "multiply_adds"], side: int = 12) -> Block:
    """Convolution blocks matched in size to another block at each number of channels.

    Args:
        block: what to match.
        by: the quantity to match.
        side: multiply-adds are counted on a cube of ``side`` voxels; use a multiple of the block's region.

    Returns:
        channels → ``ConvBlock`` of the closest width.
    """

    def convolutions(channels: int) -> ConvBlock:
        volume = torch.zeros(1, channels, side, side, side)
        target = getattr(cost(block(channels), volume), by)
        narrow, wide = (getattr(cost(ConvBlock(channels, width), volume), by) for width in (1, 2))
        return ConvBlock(channels, max(1, round(1 + (target - narrow) / (wide - narrow))))

    return convolutions
