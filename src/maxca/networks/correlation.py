"""Local correlation of two feature volumes, and the convolution that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from maxca.blocks.layers import Conv3d, convolve, pad_planes
from maxca.blocks.slabs import joined, slabs

SHIFTS = list(product((-1, 0, 1), repeat=3))  # in lexicographic order: along i slowest


class CorrelationConv(nn.Module):
    """conv(concat(a, correlation(a, b), b)): what is concatenated is the widest thing in a network, so in slabs.

    The correlation is the mean over the channels of a(x) · b(x + shift), for every shift of up to one voxel along each
    axis; b is 0 outside.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = Conv3d(2 * channels_in + len(SHIFTS), channels_out, 3, padding=1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(N, C, I, J, K) twice → (N, C', I, J, K), channels-last."""
        widest = 2 * a.shape[1] + len(SHIFTS)
        a, b = (x.permute(0, 2, 3, 4, 1) for x in (a, b.to(a.dtype)))
        parts = []
        for near, far in zip(slabs(a, context=1, widest=widest), slabs(b, context=2, widest=widest), strict=True):
            fixed, moving = (slab.piece.permute(0, 4, 1, 2, 3) for slab in (near, far))
            beyond = [far.before == near.before, far.after == near.after]  # the end of the volume: zeros follow
            matched = _Matched.apply(fixed, pad_planes(moving, *beyond))
            out = convolve(matched, self.conv.weight, self.conv.bias, before=not near.before, after=not near.after)
            parts.append(out.permute(0, 2, 3, 4, 1))
        return joined(parts).permute(0, 4, 1, 2, 3)


class _Matched(torch.autograd.Function):
    """concat(a, correlation(a, b), b), channels-last, where ``b`` has a plane more at both ends of I.

    Nothing but a and b is kept. Channels come first in between, unlike elsewhere: sums over them and products with one
    of them are then sums and products of volumes. The longest axis comes last: shifted rows of a few voxels, as in
    stacks of thick slices, take eight times as long.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        channels = a.shape[1]
        n, _, *shape = a.shape
        out = a.new_empty(n, *shape, 2 * channels + len(SHIFTS)).permute(0, 4, 1, 2, 3)
        out[:, :channels] = a
        out[:, -channels:] = b[:, :, 1:-1]
        order = sorted(range(3), key=lambda axis: shape[axis])
        a, b = _ordered(a, order), _ordered(F.pad(b, (1, 1, 1, 1)), order)
        ctx.save_for_backward(a, b)
        ctx.order = order
        products, sums = torch.empty_like(a), a.new_empty(n, len(SHIFTS), *a.shape[2:])
        for number, shift in enumerate(SHIFTS):
            torch.mul(a, _shifted(b, [shift[axis] for axis in order], a), out=products)
            torch.sum(products, dim=1, out=sums[:, number])
        torch.div(_restored(sums, order), channels, out=out[:, channels:-channels])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        channels, order = a.shape[1], ctx.order
        direct_a, sums, direct_b = grad.split([channels, len(SHIFTS), channels], dim=1)
        grad_a, grad_b = _ordered(direct_a, order), _ordered(F.pad(direct_b, (1,) * 6), order)
        sums = _ordered(sums, order) / channels
        for number, shift in enumerate(SHIFTS):
            there = [shift[axis] for axis in order]
            grad_a.addcmul_(sums[:, number : number + 1], _shifted(b, there, a))
            _shifted(grad_b, there, a).addcmul_(sums[:, number : number + 1], a)
        return _restored(grad_a, order), _restored(grad_b, order)[:, :, :, 1:-1, 1:-1]


def _ordered(x: Tensor, order: Sequence[int]) -> Tensor:
    """A copy of (N, C, …) with its spatial axes in another order, contiguous."""
    return x.permute(0, 1, *(2 + axis for axis in order)).clone(memory_format=torch.contiguous_format)


def _restored(x: Tensor, order: Sequence[int]) -> Tensor:
    """A view with the axes as they were."""
    return x.permute(0, 1, *(2 + list(order).index(axis) for axis in range(3)))


def _shifted(padded: Tensor, shift: Sequence[int], like: Tensor) -> Tensor:
    i, j, k = (slice(1 + s, 1 + s + n) for s, n in zip(shift, like.shape[2:], strict=True))
    return padded[:, :, i, j, k]
