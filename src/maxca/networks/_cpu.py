"""Equivalents of the formulas of networks for CPUs; see ``maxca.blocks._cpu``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from maxca.blocks._slabs import joined, slabs
from maxca.blocks.layers import channels_first, channels_last, convolve, pad_planes

if TYPE_CHECKING:
    from maxca.networks.correlation import CorrelationConv

SHIFTS = list(product((-1, 0, 1), repeat=3))  # in lexicographic order: along i slowest


def correlation_conv(layer: CorrelationConv, a: Tensor, b: Tensor) -> Tensor:
    """``CorrelationConv.forward``: in slabs, because its concatenation is the widest tensor of a network."""
    widest = 2 * a.shape[1] + len(SHIFTS)
    a, b = channels_last(a), channels_last(b.to(a.dtype))
    parts = []
    for near, far in zip(slabs(a, context=1, widest=widest), slabs(b, context=2, widest=widest), strict=True):
        fixed, moving = (channels_first(slab.piece) for slab in (near, far))
        beyond = [far.before == near.before, far.after == near.after]  # the end of the volume, followed by zeros
        matched, *_ = _Matched.apply(fixed, pad_planes(moving, *beyond))
        out = convolve(matched, layer.conv.weight, layer.conv.bias, before=not near.before, after=not near.after)
        parts.append(channels_last(out))
    return channels_first(joined(parts))


class _Matched(torch.autograd.Function):
    """concat(a, correlation(a, b), b), channels-last, where ``b`` has an additional plane at both ends of I.

    Only a and b are saved for the backward pass. Channels come first internally: sums over them and products with one
    of them are then sums and products of volumes. The longest axis comes last, because shifted rows of a few voxels, as
    in stacks of thick slices, take eight times as long.
    """

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        channels = a.shape[1]
        n, _, *shape = a.shape
        out = a.new_empty(n, *shape, 2 * channels + len(SHIFTS)).permute(0, 4, 1, 2, 3)
        out[:, :channels] = a
        out[:, -channels:] = b[:, :, 1:-1]
        order = _order(a)
        a, b = _ordered(a, order), _ordered(F.pad(b, (1, 1, 1, 1)), order)
        products, sums = torch.empty_like(a), a.new_empty(n, len(SHIFTS), *a.shape[2:])
        for number, shift in enumerate(SHIFTS):
            torch.mul(a, shifted(b, [shift[axis] for axis in order], a), out=products)
            torch.sum(products, dim=1, out=sums[:, number])
        torch.div(_restored(sums, order), channels, out=out[:, channels:-channels])
        return out, a, b

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
        _, a, b = output  # in the order of axes of the backward pass
        ctx.order = _order(inputs[0])
        ctx.save_for_backward(a, b)
        ctx.mark_non_differentiable(a, b)
        ctx.set_materialize_grads(False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: None) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        channels, order = a.shape[1], ctx.order
        direct_a, sums, direct_b = grad.split([channels, len(SHIFTS), channels], dim=1)
        grad_a, grad_b = _ordered(direct_a, order), _ordered(F.pad(direct_b, (1,) * 6), order)
        sums = _ordered(sums, order) / channels
        for number, shift in enumerate(SHIFTS):
            there = [shift[axis] for axis in order]
            grad_a.addcmul_(sums[:, number : number + 1], shifted(b, there, a))
            shifted(grad_b, there, a).addcmul_(sums[:, number : number + 1], a)
        return _restored(grad_a, order), _restored(grad_b, order)[:, :, :, 1:-1, 1:-1]


def _order(a: Tensor) -> list[int]:
    """The spatial axes of (N, C, I, J, K), the longest one last."""
    return sorted(range(3), key=lambda axis: a.shape[2 + axis])


def _ordered(x: Tensor, order: Sequence[int]) -> Tensor:
    """A copy of (N, C, …) with its spatial axes in another order, contiguous."""
    return x.permute(0, 1, *(2 + axis for axis in order)).clone(memory_format=torch.contiguous_format)


def _restored(x: Tensor, order: Sequence[int]) -> Tensor:
    """A view with the original order of axes."""
    return x.permute(0, 1, *(2 + list(order).index(axis) for axis in range(3)))


def shifted(padded: Tensor, shift: Sequence[int], like: Tensor) -> Tensor:
    """(N, C, I, J, K) of b(x + shift), where ``padded`` is ``like`` padded by a voxel on every side."""
    i, j, k = (slice(1 + s, 1 + s + n) for s, n in zip(shift, like.shape[2:], strict=True))
    return padded[:, :, i, j, k]
