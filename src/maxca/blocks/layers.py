"""Convolution and layer norm of torch without its slow code paths on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Forward = Callable[..., Tensor]

FEW = 20_480  # channels x I x J up to which torch (2.13) uses a much slower path for a single example


def eager_on_cpu(x: Tensor) -> bool:
    """Whether the version for CPU caches may replace the formula.

    A compiler or an exporter gets the formula, which it fuses in its own way. Tensors on "meta" have shapes alone:
    of these the cost of what a CPU does is counted.
    """
    return x.device.type in ("cpu", "meta") and not torch.compiler.is_compiling()


def tuned(fast: Forward) -> Callable[[Forward], Forward]:
    """Give a ``forward`` an equivalent that is faster on a CPU: a function of the module and its inputs."""

    def decorate(forward: Forward) -> Forward:
        @wraps(forward)
        def chosen(self: Any, *inputs: Tensor) -> Tensor:
            return (fast if eager_on_cpu(inputs[0]) else forward)(self, *inputs)

        return chosen

    return decorate


def checkpointed(forward: Forward) -> Forward:
    """A ``forward`` that keeps only its input for the backward pass, where ``checkpointing`` is set, in training."""

    @wraps(forward)
    def thrifty(self: Any, x: Tensor) -> Tensor:
        if self.checkpointing and self.training and torch.is_grad_enabled():
            out: Tensor = checkpoint(forward, self, x, use_reentrant=False)
            return out
        return forward(self, x)

    return thrifty


def at_least_float32(x: Tensor) -> Tensor:
    """The tensor in float32, or in its own type if that is more precise."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Conv3d(nn.Conv3d):
    """``nn.Conv3d`` with a fast path for a single small volume on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, I, J, K) → (N, C', I', J', K')."""
        ours = self.kernel_size == (3, 3, 3) and self.stride == (1, 1, 1) and self.padding == (1, 1, 1)
        if ours and eager_on_cpu(input):
            return convolve(input, self.weight, self.bias)
        return super().forward(input)


def convolve(volume: Tensor, weight: Tensor, bias: Tensor | None, before: bool = True, after: bool = True) -> Tensor:
    """3x3x3 convolution, zero-padded at every face, optionally except at the first and the last along I.

    A small volume on a CPU is split into two overlapping halves, processed as a batch: the same values on the fast
    path.

    Args:
        volume: (N, C, I, J, K).
        weight: (C', C, 3, 3, 3).
        bias: (C',).
        before: zero-pad in front of the first plane; otherwise it is context only.
        after: zero-pad behind the last plane; otherwise it is context only.

    Returns:
        (N, C', I', J, K): I' is I without context planes.
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


def to_whole(size: Sequence[int], region: Sequence[int]) -> list[int]:
    """Padding of each axis to whole regions, written for exporters, unlike ``-n % r``."""
    return [(n + r - 1) // r * r - n for n, r in zip(size, region, strict=True)]


def pad_planes(volume: Tensor, before: int, after: int) -> Tensor:
    """Zeros in front of and behind the first spatial axis of (N, C, I, J, K)."""
    return F.pad(volume, (0, 0, 0, 0, before, after)) if before or after else volume


def pad_ends(volume: Tensor, padding: Sequence[int]) -> Tensor:
    """Zeros at the end of each axis of (N, I, J, K, C)."""
    i, j, k = padding
    # To an exporter the sizes are symbols: whether there is anything to pad must not be asked.
    if torch.compiler.is_compiling() or i or j or k:
        return F.pad(volume, (0, 0, 0, k, 0, j, 0, i))
    return volume


def cut_ends(volume: Tensor, size: Sequence[int], start: Sequence[int] = (0, 0, 0)) -> Tensor:
    """The first ``size`` voxels along each axis of (N, I, J, K, C), or those from ``start``."""
    if torch.compiler.is_compiling():  # the strides of a slice would depend on whether anything is cropped
        for axis, (first, n) in enumerate(zip(start, size, strict=True), start=1):
            volume = volume.index_select(axis, torch.arange(first, first + n, device=volume.device))
        return volume
    i, j, k = (slice(first, first + n) for first, n in zip(start, size, strict=True))
    return volume[:, i, j, k]


class LayerNorm(nn.LayerNorm):
    """``nn.LayerNorm`` that computes bfloat16 in float32 on a CPU: three times as fast, and more accurate."""

    def forward(self, input: Tensor) -> Tensor:
        """(…, C) → the same shape and type."""
        if input.device.type != "cpu" or input.dtype != torch.bfloat16:
            return super().forward(input)
        out = F.layer_norm(input.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)
        return out.to(input.dtype)


def channels_last(x: Tensor) -> Tensor:
    """(N, C, I, J, K) → (N, I, J, K, C)."""
    return x.permute(0, 2, 3, 4, 1)


def channels_first(x: Tensor) -> Tensor:
    """(N, I, J, K, C) → (N, C, I, J, K)."""
    return x.permute(0, 4, 1, 2, 3)
