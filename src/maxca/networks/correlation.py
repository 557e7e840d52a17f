"""Local correlation of two feature volumes, and the convolution that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from maxca.blocks.layers import Conv3d, convolve, pad_planes
from maxca.blocks.slabs import joined, slabs

SHIFTS = list(product((-1, 0, 1), repeat=3))  # in lexicographic order: along i slowest


def local_correlation(a: Float[Tensor, "n c i j k"], b: Float[Tensor, "n c i j k"]) -> Float[Tensor, "n 27 i j k"]:
    """Mean over the channels of a(x) · b(x + shift), for every shift of up to one voxel along each axis.

    Args:
        a: features of one image.
        b: features of the other, taken to be 0 outside.
    """
    return _Correlation.apply(a, pad_planes(b, 1, 1))


class CorrelationConv(nn.Module):
    """conv(concat(a, correlation(a, b), b)): what is concatenated is the widest thing in a network, so in slabs."""

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
            moving = pad_planes(moving, *beyond)
            matches = _Correlation.apply(fixed, moving)
            pair = torch.cat([fixed, matches, moving[:, :, 1:-1]], dim=1)
            pair = pair.contiguous(memory_format=torch.channels_last_3d)
            out = convolve(pair, self.conv.weight, self.conv.bias, before=not near.before, after=not near.after)
            parts.append(out.permute(0, 2, 3, 4, 1))
        return joined(parts).permute(0, 4, 1, 2, 3)


class _Correlation(torch.autograd.Function):
    """``local_correlation`` where ``b`` has a plane more at both ends of I; nothing but a and b is kept.

    Channels come first here, unlike elsewhere: sums over them and products with one of them are then sums and products
    of volumes.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        a, b = a.contiguous(), F.pad(b, (1, 1, 1, 1)).contiguous()
        ctx.save_for_backward(a, b)
        out = a.new_empty(len(a), len(SHIFTS), *a.shape[2:])
        product_ = torch.empty_like(a)
        for n, shift in enumerate(SHIFTS):
            torch.mul(a, _shifted(b, shift, a), out=product_)
            torch.sum(product_, dim=1, out=out[:, n])
        return out.div_(a.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        grad = grad.contiguous() / a.shape[1]
        grad_a, grad_b = torch.zeros_like(a), torch.zeros_like(b)
        for n, shift in enumerate(SHIFTS):
            grad_a.addcmul_(grad[:, n : n + 1], _shifted(b, shift, a))
            _shifted(grad_b, shift, a).addcmul_(grad[:, n : n + 1], a)
        return grad_a, grad_b[:, :, :, 1:-1, 1:-1]


def _shifted(padded: Tensor, shift: Sequence[int], like: Tensor) -> Tensor:
    i, j, k = (slice(1 + s, 1 + s + n) for s, n in zip(shift, like.shape[2:], strict=True))
    return padded[:, :, i, j, k]
