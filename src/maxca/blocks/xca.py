"""Cross-covariance attention over a volume: channels attend to channels, tokens are voxels.

One layer serves plain XCA (all voxels are the tokens of one attention), regional XCA (those within a region) and
dilated XCA (those at the same place across all regions): they differ in which voxels are tokens of one attention.

Speed: volumes are channels-last, so that norms and projections read along the channels and the convolution takes its
fast path; they are worked through in slabs, each cut into tokens by a single copy. What else the formula asks for is
folded into small matrices: the lengths of queries and keys scale their C x C products instead of two volumes, and the
output projection multiplies the attention matrix instead of a third.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from .layers import Conv3d, LayerNorm, convolve, pad_ends
from .slabs import Slab, joined, slabs

Tokens = Literal["within", "across"]
Region = tuple[int, int, int]

LEAST_SQUARE = 1e-24  # of a channel's length along the tokens: that of F.normalize, eps = 1e-12


class XCA(nn.Module):
    """s + project(softmax(τ · q̂ k̂ᵀ) v), where q, k, v come from a 3x3x3 convolution and ^ is L2 along the tokens.

    Args:
        channels: C, in and out.
        heads: the channels are split into so many groups, each attending within itself.
        region: voxels per region along each axis; None for one region that covers the volume (plain XCA).
        tokens: ``"within"``: the tokens of one attention are the voxels of a region; ``"across"``: those at the same
            offset in every region.
        mask_padding: leave the zeros that fill up the last regions out of the attention; the published block does not.
        temperature: what τ, which is learnt, begins with; the published block's is 1.
        normalise: divide q and k by their lengths along the tokens, so that scores are correlations, as published;
            otherwise by the root of the number of tokens, so that they are covariances.

    Raises:
        ValueError: when the heads do not divide the channels, or a region is empty.

    Source: El-Nouby et al., "XCiT", NeurIPS 2021; regions after arXiv 2412.18545.
    """

    def __init__(
        self,
        channels: int,
        heads: int = 1,
        region: int | Sequence[int] | None = None,
        tokens: Tokens = "within",
        *,
        mask_padding: bool = False,
        temperature: float = 1.0,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"{heads} heads do not divide {channels} channels")
        if tokens not in ("within", "across"):
            raise ValueError(f"tokens are 'within' or 'across' regions, received {tokens!r}")
        self.heads = heads
        # Attention over the whole volume is attention across regions of one voxel.
        self.region = (1, 1, 1) if region is None else as_region(region)
        self.tokens: Tokens = "across" if region is None else tokens
        self.mask_padding = mask_padding
        self.normalise = normalise
        self.temperature = nn.Parameter(torch.full((heads, 1, 1), float(temperature)))
        self.norm = LayerNorm(channels)
        self.qkv = Conv3d(channels, 3 * channels, 3, padding=1)
        self.project = nn.Linear(channels, channels)

    def forward(self, volume: Tensor) -> Tensor:
        """(N, C, I, J, K) → the same shape."""
        s = volume.permute(0, 2, 3, 4, 1)
        pieces = slabs(s, context=1, widest=3 * s.shape[-1], multiple=self.region[0])
        looks = [self.look(piece) for piece in pieces]
        answers = self.answers(looks, self.project.weight.T)
        out = [slab.own(slab.piece) + answer for slab, answer in zip(pieces, answers, strict=True)]
        return (joined(out) + self.project.bias.to(s.dtype)).permute(0, 4, 1, 2, 3)

    def look(self, slab: Slab) -> Look:
        """What attention needs to know of a slab with a plane of context on either side."""
        shape, channels = (slab.planes, *slab.piece.shape[2:4]), slab.piece.shape[-1]
        i, j, k = (-n % r for n, r in zip(shape, self.region, strict=True))
        piece = pad_ends(slab.piece, (0 if slab.after else i, j, k))
        normed = self.norm(piece).permute(0, 4, 1, 2, 3)
        weight, bias = self.qkv.weight, self.qkv.bias
        qkv = convolve(normed, weight, bias, before=not slab.before, after=not slab.after).permute(0, 2, 3, 4, 1)
        counts = [n // r for n, r in zip(qkv.shape[1:4], self.region, strict=True)]
        sizes = dict(zip("nabcijk", (len(qkv), *counts, *self.region), strict=True))
        qk, v = (  # (attentions, tokens, 2C) and (…, C): each contiguous, as the products below want them
            rearrange(part, f"n (a i) (b j) (c k) x -> {self._groups}", **sizes)
            for part in qkv.split([2 * channels, channels], dim=-1)
        )
        if self.mask_padding and (i or j or k):
            qk = qk * self._real(v, shape, sizes)
        if qk.dtype == torch.float16:  # a sum of squares over a million tokens leaves its range
            qk = qk.float()
        gram = _Gram.apply(qk)
        return Look(gram.to(torch.promote_types(gram.dtype, torch.float32)), v, shape, sizes)

    def answers(self, looks: Sequence[Look], weight: Tensor) -> Iterator[Tensor]:
        """Attention, projected: (N, planes, J, K, C') for one slab after the other.

        Args:
            looks: at all slabs of a volume; attention within regions may be given one at a time.
            weight: (C, C'), what the values are projected with.
        """
        if self.tokens == "across" and looks:
            gram = sum((look.gram for look in looks[1:]), looks[0].gram)
            matrix = self._matrix(gram, sum(look.values.shape[1] for look in looks), weight)
        for look in looks:
            if self.tokens == "within":
                matrix = self._matrix(look.gram, look.values.shape[1], weight)
            yield self._back(look, matrix)

    @property
    def _groups(self) -> str:
        return "(n a b c) (i j k) x" if self.tokens == "within" else "(n i j k) (a b c) x"

    def _matrix(self, gram: Tensor, tokens: int, weight: Tensor) -> Tensor:
        """(B, C, C'): Σ_c W[c] A[c, j] for each j, so that attention and projection are one product with the values."""
        channels, heads = gram.shape[1] // 2, self.heads
        d = channels // heads
        blocks = gram[:, :channels, channels:].unflatten(2, (heads, d)).unflatten(1, (heads, d))
        scores = blocks.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)  # (B, h, d, d)
        if self.normalise:
            scale = gram.diagonal(dim1=1, dim2=2).clamp(min=LEAST_SQUARE).rsqrt()
            q_scale, k_scale = scale.split(channels, dim=1)
            scores = scores * q_scale.unflatten(1, (heads, d, 1)) * k_scale.unflatten(1, (heads, 1, d))
        else:
            scores = scores / tokens
        attention = torch.softmax(self.temperature * scores, dim=-1)
        return torch.matmul(attention.transpose(2, 3), weight.unflatten(0, (heads, d)).to(attention.dtype)).flatten(
            1, 2
        )

    def _back(self, look: Look, matrix: Tensor) -> Tensor:
        """The values, mixed, in their places."""
        out = torch.bmm(look.values, matrix.to(look.values.dtype))
        volume = rearrange(out, f"{self._groups} -> n (a i) (b j) (c k) x", **look.sizes)
        i, j, k = look.shape
        return volume[:, :i, :j, :k]

    def _real(self, t: Tensor, shape: Sequence[int], sizes: dict[str, int]) -> Tensor:
        """(B, T, 1): 1 for voxels of the volume, 0 for those that fill up the last regions."""
        one = t.new_ones(1, *shape, 1)
        whole = [sizes[a] * sizes[i] for a, i in ("ai", "bj", "ck")]
        filled = pad_ends(one, [w - n for w, n in zip(whole, shape, strict=True)])
        mask = rearrange(filled, f"n (a i) (b j) (c k) x -> {self._groups}", **(sizes | {"n": 1}))
        return mask.repeat(t.shape[0] // mask.shape[0], 1, 1)


class Look(NamedTuple):
    """What attention needs to know of a slab.

    Args:
        gram: (B, 2C, 2C), products of queries and keys with each other, summed over tokens: squared lengths on the
            diagonal, q kᵀ beside it; float32.
        values: (B, T, C).
        shape: of the slab, without what fills up the last regions.
        sizes: of the axes by which it was cut into tokens.
    """

    gram: Tensor
    values: Tensor
    shape: tuple[int, ...]
    sizes: dict[str, int]


class _Gram(torch.autograd.Function):
    """tᵀ t of (B, T, X): symmetric, so that one product leads back where autograd would take two and add them."""

    @staticmethod
    def forward(ctx: Any, t: Tensor) -> Tensor:
        ctx.save_for_backward(t)
        return torch.bmm(t.transpose(1, 2), t)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (t,) = ctx.saved_tensors
        return torch.bmm(t, grad + grad.transpose(1, 2))


def as_region(size: int | Sequence[int]) -> Region:
    """Three sizes from one or three."""
    i, j, k = (size,) * 3 if isinstance(size, int) else tuple(int(n) for n in size)
    if min(i, j, k) < 1:
        raise ValueError(f"a region has at least one voxel along each axis, received {size}")
    return i, j, k
