"""A volume in slabs: operations with a support of a voxel or two can be computed a few planes at a time.

On a CPU, the intermediate tensors of a block are larger than the caches, and the operating system allocates and zeroes
each of them anew. Slabs are small enough to avoid both: a block is then bound by its convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

MOST_BYTES = 2**25  # bytes of the widest tensor in a slab: the C library requests larger ones from the system each time
LEAST_PLANES = 4  # planes of a slab: at least the largest context


class Slab(NamedTuple):
    """Some planes of a volume and their neighbours.

    Args:
        piece: (N, before + planes + after, J, K, C).
        before: context planes in front; 0 in the first slab.
        after: context planes behind; 0 in the last slab.
    """

    piece: Tensor
    before: int
    after: int

    @property
    def planes(self) -> int:
        """Number of planes without context."""
        return self.piece.shape[1] - self.before - self.after

    def own(self, piece: Tensor) -> Tensor:
        """The planes without context of a tensor computed from ``piece``."""
        return piece[:, self.before : self.before + self.planes]


def slabs(volume: Tensor, context: int, widest: int, multiple: int = 1) -> list[Slab]:
    """Cut a volume along I: into slabs on a CPU, a single one elsewhere.

    Args:
        volume: (N, I, J, K, C).
        context: planes on either side in the receptive field.
        widest: channels of the widest intermediate tensor.
        multiple: the number of planes of all but the last is a multiple of this.
    """
    count = volume.shape[1]
    thickness = count
    if volume.device.type == "cpu":
        plane = volume[:, 0, :, :, 0].numel() * widest * volume.element_size()
        least = -(-LEAST_PLANES // multiple)
        thickness = max(MOST_BYTES // plane // multiple, least) * multiple
    starts = range(0, count, thickness)
    if len(starts) == 1:
        return [Slab(volume.contiguous(), 0, 0)]
    bounds = [(start, min(start + thickness, count)) for start in starts]
    cuts = [(max(start - context, 0), min(end + context, count)) for start, end in bounds]
    pieces = _Overlapping.apply(volume, cuts)
    return [
        Slab(piece.contiguous(), start - low, high - end)
        for piece, (start, end), (low, high) in zip(pieces, bounds, cuts, strict=True)
    ]


def in_context(parts: Sequence[Tensor], context: int) -> list[Slab]:
    """Slabs of a volume in parts, each (N, i, J, K, C), all but the last of ``context`` planes or more."""
    slabs = []
    for n, part in enumerate(parts):
        before = [parts[n - 1][:, -context:]] if n else []
        after = [parts[n + 1][:, :context]] if n + 1 < len(parts) else []
        counts = [sum(piece.shape[1] for piece in pieces) for pieces in (before, after)]
        slabs.append(Slab(joined([*before, part, *after]), *counts))
    return slabs


def joined(pieces: Sequence[Tensor]) -> Tensor:
    """One volume (N, I, J, K, C) from its slabs."""
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces), dim=1)


class _Overlapping(torch.autograd.Function):
    """Overlapping slices along axis 1 with gradients added in place, where slicing would allocate a volume for each."""

    generate_vmap_rule = True

    @staticmethod
    def forward(volume: Tensor, cuts: Sequence[tuple[int, int]]) -> tuple[Tensor, ...]:
        return tuple(volume[:, low:high] for low, high in cuts)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Sequence[tuple[int, int]]], output: tuple[Tensor, ...]) -> None:
        ctx.shape, ctx.cuts = inputs[0].shape, inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        whole = grads[0].new_zeros(ctx.shape)
        for (low, high), grad in zip(ctx.cuts, grads, strict=True):
            whole[:, low:high] += grad
        return whole, None
