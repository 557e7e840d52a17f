"""The convolution and the norm that blocks and networks are made of: torch's, kept off its slow paths."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW = 20_480  # channels x I x J up to which torch (2.13) leaves a single example to a much slower path


class Conv3d(nn.Conv3d):
    """``nn.Conv3d`` that is as fast for one small volume on a CPU as for two."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.kernel_size == (3, 3, 3) and self.stride == (1, 1, 1) and self.padding == (1, 1, 1):
            return convolve(input, weight, bias)
        return super()._conv_forward(input, weight, bias)


def convolve(volume: Tensor, weight: Tensor, bias: Tensor | None, before: bool = True, after: bool = True) -> Tensor:
    """3x3x3 convolution, with a plane of zeros at every face, or not at the first and the last along I.

    A small volume on a CPU is cut into two overlapping halves, which go through as a batch: the same numbers on the
    fast path.

    Args:
        volume: (N, C, I, J, K).
        weight: (C', C, 3, 3, 3).
        bias: (C',).
        before: put a plane of zeros in front of the first; without it, the first plane is context alone.
        after: the same behind the last.

    Returns:
        (N, C', I', J, K): I' is I less the planes that are context alone.
    """
    planes = volume.shape[2] - 2 + before + after
    if volume.device.type != "cpu" or len(volume) != 1 or volume[0, :, :, :, 0].numel() > FEW:
        if before and after:
            return F.conv3d(volume, weight, bias, padding=1)
        return F.conv3d(pad_planes(volume, before, after), weight, bias, padding=(0, 1, 1))
    half = (planes + 1) // 2
    whole = pad_planes(volume, before, after + 2 * half - planes)
    halves = torch.cat([whole[:, :, : half + 2], whole[:, :, half:]])
    first, second = F.conv3d(halves, weight, bias, padding=(0, 1, 1)).chunk(2)
    return torch.cat([first, second[:, :, : planes - half]], dim=2)


def pad_planes(volume: Tensor, before: int, after: int) -> Tensor:
    """Zeros in front of and behind the first spatial axis of (N, C, I, J, K)."""
    return F.pad(volume, (0, 0, 0, 0, before, after)) if before or after else volume


def pad_ends(volume: Tensor, padding: Sequence[int]) -> Tensor:
    """Zeros at the end of each axis of (N, I, J, K, C)."""
    i, j, k = padding
    return F.pad(volume, (0, 0, 0, k, 0, j, 0, i)) if i or j or k else volume


class LayerNorm(nn.LayerNorm):
    """``nn.LayerNorm`` that computes bfloat16 in float32 on a CPU: three times as fast, and more exact."""

    def forward(self, input: Tensor) -> Tensor:
        """(…, C) → the same shape and type."""
        if input.device.type != "cpu" or input.dtype != torch.bfloat16:
            return super().forward(input)
        out = F.layer_norm(input.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)
        return out.to(input.dtype)
