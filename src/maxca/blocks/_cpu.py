"""Equivalents of the formulas of this folder for CPUs: a few planes at a time, in half the passes over memory.

Volumes are channels-last, so that norms and projections read along the channels and the convolution takes its fast
path; they are worked through in slabs (``_slabs``), each cut into tokens by a single copy. Other parts of a formula
are folded into small matrices: the lengths of queries and keys scale their C x C products instead of two volumes, and
the projections that follow an attention multiply its matrix instead of a third.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ._slabs import Slab, in_context, joined, slabs
from .layers import at_least_float32, channels_first, channels_last, convolve, pad_ends

if TYPE_CHECKING:
    from .channel import ResidualChannelAttention
    from .maxca import MAXCA, MultiAxisXCA
    from .xca import XCA

LEAST_SQUARE = 1e-24  # smallest norm of a channel along the tokens, as in F.normalize, eps = 1e-12
GROUPS = {"within": "(n a b c) (i j k) x", "across": "(n i j k) (a b c) x"}


def maxca(block: MAXCA, x: Tensor) -> Tensor:
    """``MAXCA.forward``, with slabs passed between its two halves."""
    x = channels_last(x)
    parts = _gated(block.channel, in_context(_multi_axis(block.mix, x), 2))
    for part, skipped in zip(parts, x.split([part.shape[1] for part in parts], dim=1), strict=True):
        part += skipped
    return channels_first(joined(parts))


def xca(layer: XCA, volume: Tensor) -> Tensor:
    """``XCA.forward``."""
    s = channels_last(volume)
    pieces = slabs(s, context=1, widest=3 * s.shape[-1], multiple=layer.region[0])
    tokens = [_tokens(layer, piece) for piece in pieces]
    attended = _attended(layer, tokens, layer.project.weight.T)
    out = [slab.own(slab.piece) + more for slab, more in zip(pieces, attended, strict=True)]
    return channels_first(joined(out) + layer.project.bias.to(s.dtype))


def channel_attention(block: ResidualChannelAttention, z: Tensor) -> Tensor:
    """``ResidualChannelAttention.forward``."""
    pieces = slabs(channels_last(z), context=2, widest=3 * z.shape[1])
    return channels_first(joined(_gated(block, pieces)))


def _multi_axis(mix: MultiAxisXCA, x: Tensor) -> list[Tensor]:
    """``MultiAxisXCA.forward`` of (N, I, J, K, C) → the same shape, in slabs along I.

    The split and the concatenation are not carried out: each branch has its rows of ``expand`` and its columns of
    ``merge``, and the latter are multiplied into the projection at the end of its attention.
    """
    branches = _branches(mix)
    constant = (mix.merge.bias + sum(branch.merge @ branch.layer.project.bias for branch in branches)).to(x.dtype)
    parts = []
    seen: list[list[_Tokens]] = [[] for _ in branches]
    for slab in slabs(x, context=1, widest=3 * x.shape[-1], multiple=max(b.layer.region[0] for b in branches)):
        normed = mix.norm(slab.piece)
        part = slab.own(slab.piece)
        for n, (branch, tokens) in enumerate(zip(branches, seen, strict=True)):
            y = F.gelu(F.linear(normed, branch.expand, branch.bias))
            merged = F.linear(slab.own(y), branch.merge, None if n else constant)
            part = part + merged
            tokens.append(_tokens(branch.layer, slab._replace(piece=y)))
            if branch.layer.tokens == "within":  # complete: nothing needs to be saved
                part += next(_attended(branch.layer, [tokens.pop()], branch.project))
        parts.append(part)
    for branch, tokens in zip(branches, seen, strict=True):
        for part, more in zip(parts, _attended(branch.layer, tokens, branch.project), strict=False):
            part += more
    return parts


class _Branch(NamedTuple):
    """A branch with its input and output parameters."""

    layer: XCA
    expand: Tensor
    bias: Tensor
    merge: Tensor
    project: Tensor


def _branches(mix: MultiAxisXCA) -> list[_Branch]:
    channels = mix.norm.normalized_shape[0]
    layers = [cast("XCA", layer) for layer in mix.branches.values()]
    return [
        _Branch(layer, expand, bias, merge, layer.project.weight.T @ merge.T)
        for layer, expand, bias, merge in zip(
            layers,
            mix.expand.weight.split(channels),
            mix.expand.bias.split(channels),
            mix.merge.weight.split(channels, dim=1),
            strict=True,
        )
    ]


class _Tokens(NamedTuple):
    """Intermediate results of a slab for the attention.

    Args:
        gram: (B, 2C, 2C), products of queries and keys with each other, summed over tokens: squared lengths on the
            diagonal, q kᵀ off the diagonal; float32.
        values: (B, T, C).
        shape: of the slab, without padding.
        sizes: of the axes in the rearrangement into tokens.
    """

    gram: Tensor
    values: Tensor
    shape: tuple[int, ...]
    sizes: dict[str, int]


def _tokens(layer: XCA, slab: Slab) -> _Tokens:
    """Queries, keys and values of a slab with a plane of context on either side."""
    shape, channels = (slab.planes, *slab.piece.shape[2:4]), slab.piece.shape[-1]
    i, j, k = (-n % r for n, r in zip(shape, layer.region, strict=True))
    piece = pad_ends(slab.piece, (0 if slab.after else i, j, k))
    normed = channels_first(layer.norm(piece))
    weight, bias = layer.qkv.weight, layer.qkv.bias
    qkv = channels_last(convolve(normed, weight, bias, before=not slab.before, after=not slab.after))
    counts = [n // r for n, r in zip(qkv.shape[1:4], layer.region, strict=True)]
    sizes = dict(zip("nabcijk", (len(qkv), *counts, *layer.region), strict=True))
    qk, v = (  # (attentions, tokens, 2C) and (…, C): each contiguous, as the products below want them
        rearrange(part, f"n (a i) (b j) (c k) x -> {GROUPS[layer.tokens]}", **sizes)
        for part in qkv.split([2 * channels, channels], dim=-1)
    )
    if layer.mask_padding and (i or j or k):
        qk = qk * _real(layer, v, shape, sizes)
    if qk.dtype == torch.float16:  # a sum of squares over a million tokens leaves its range
        qk = qk.float()
    gram = _Gram.apply(qk)
    return _Tokens(at_least_float32(gram), v, shape, sizes)


def _real(layer: XCA, t: Tensor, shape: Sequence[int], sizes: dict[str, int]) -> Tensor:
    """(B, T, 1): 1 for voxels of the volume, 0 for padding."""
    one = t.new_ones(1, *shape, 1)
    whole = [sizes[a] * sizes[i] for a, i in ("ai", "bj", "ck")]
    filled = pad_ends(one, [w - n for w, n in zip(whole, shape, strict=True)])
    mask = rearrange(filled, f"n (a i) (b j) (c k) x -> {GROUPS[layer.tokens]}", **(sizes | {"n": 1}))
    return mask.repeat(t.shape[0] // mask.shape[0], 1, 1)


def _attended(layer: XCA, tokens: Sequence[_Tokens], weight: Tensor) -> Iterator[Tensor]:
    """Attention, projected: (N, planes, J, K, C') slab by slab.

    Args:
        layer: of the attention.
        tokens: of all slabs of a volume; attention within regions may process one slab at a time.
        weight: (C, C'), projection of the values.
    """
    if layer.tokens == "across" and tokens:
        gram = sum((each.gram for each in tokens[1:]), tokens[0].gram)
        matrix = _matrix(layer, gram, sum(each.values.shape[1] for each in tokens), weight)
    for each in tokens:
        if layer.tokens == "within":
            matrix = _matrix(layer, each.gram, each.values.shape[1], weight)
        out = torch.bmm(each.values, matrix.to(each.values.dtype))
        volume = rearrange(out, f"{GROUPS[layer.tokens]} -> n (a i) (b j) (c k) x", **each.sizes)
        i, j, k = each.shape
        yield volume[:, :i, :j, :k]


def _matrix(layer: XCA, gram: Tensor, tokens: int, weight: Tensor) -> Tensor:
    """(B, C, C'): Σ_c W[c] A[c, j] for each j, so that attention and projection are one product with the values."""
    channels, heads = gram.shape[1] // 2, layer.heads
    d = channels // heads
    blocks = gram[:, :channels, channels:].unflatten(2, (heads, d)).unflatten(1, (heads, d))
    scores = blocks.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)  # (B, h, d, d)
    if layer.normalise:
        scale = gram.diagonal(dim1=1, dim2=2).clamp(min=LEAST_SQUARE).rsqrt()
        q_scale, k_scale = scale.split(channels, dim=1)
        scores = scores * q_scale.unflatten(1, (heads, d, 1)) * k_scale.unflatten(1, (heads, 1, d))
    else:
        scores = scores / tokens
    attention = torch.softmax(layer.temperature * scores, dim=-1)
    return torch.matmul(attention.transpose(2, 3), weight.unflatten(0, (heads, d)).to(attention.dtype)).flatten(1, 2)


class _Gram(torch.autograd.Function):
    """tᵀ t of (B, T, X): symmetric, so that its gradient is one product instead of the sum of two."""

    generate_vmap_rule = True

    @staticmethod
    def forward(t: Tensor) -> Tensor:
        return torch.bmm(t.transpose(1, 2), t)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (t,) = ctx.saved_tensors
        return torch.bmm(t, grad + grad.transpose(1, 2))


def _gated(block: ResidualChannelAttention, pieces: Sequence[Slab]) -> list[Tensor]:
    """Channel attention of slabs with two planes of context → (N, planes, J, K, C) each."""
    convolved = [_convolved(block, slab) for slab in pieces]
    voxels = sum(y[0, 0].numel() for y in convolved)
    means = sum(y.sum(dim=(2, 3, 4), keepdim=True) / voxels for y in convolved)
    gate = channels_last(block.gate(means))
    return [slab.own(slab.piece) + channels_last(y) * gate for slab, y in zip(pieces, convolved, strict=True)]


def _convolved(block: ResidualChannelAttention, slab: Slab) -> Tensor:
    """The gated values of the slab without context: (N, C, planes, J, K)."""
    y = channels_first(block.norm(slab.piece))
    y = convolve(y, block.conv1.weight, block.conv1.bias, slab.before < 2, slab.after < 2)
    y = F.leaky_relu(y, 0.2, inplace=True)
    return convolve(y, block.conv2.weight, block.conv2.bias, slab.before < 1, slab.after < 1)
