"""Local correlation of two feature volumes, and the convolution that reads it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxca.blocks.layers import Conv3d, tuned
from maxca.networks import _cpu
from maxca.networks._cpu import SHIFTS, shifted


class CorrelationConv(nn.Module):
    """conv(concat(a, correlation(a, b), b)), 3x3x3."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = Conv3d(2 * channels_in + len(SHIFTS), channels_out, 3, padding=1)

    @tuned(_cpu.correlation_conv)
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(N, C, I, J, K) twice → (N, C', I, J, K)."""
        b = b.to(a.dtype)
        return self.conv(torch.cat([a, correlation(a, b), b], dim=1))


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Mean over the channels of a(x) · b(x + shift), for every shift of up to one voxel along each axis.

    Args:
        a: (N, C, I, J, K).
        b: of the same shape; 0 outside.

    Returns:
        (N, 27, I, J, K), one channel for each of ``SHIFTS``.
    """
    around = F.pad(b, (1,) * 6)
    return torch.stack([(a * shifted(around, shift, a)).mean(dim=1) for shift in SHIFTS], dim=1)
