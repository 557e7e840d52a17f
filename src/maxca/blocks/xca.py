"""Cross-covariance attention over a volume: channels attend to channels, tokens are voxels.

One layer serves plain XCA (all voxels are the tokens of one attention), regional XCA (those within a region) and
dilated XCA (those at the same place across all regions): they differ in which voxels are tokens of one attention.

Memory: volumes are channels-last, so that layer norm and projections read along the channels, the convolution takes its
fast path and cutting into regions is a single copy. What else the formula asks for is folded into small matrices: the
norms of queries and keys scale the C x C Gram matrix instead of two volumes, and the output projection multiplies
the attention matrix instead of a third.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .layers import Conv3d

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
    ) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"{heads} heads do not divide {channels} channels")
        if tokens not in ("within", "across"):
            raise ValueError(f"tokens are 'within' or 'across' regions, received {tokens!r}")
        self.heads = heads
        self.region = None if region is None else as_region(region)
        self.tokens = tokens
        self.mask_padding = mask_padding
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.norm = nn.LayerNorm(channels)
        self.qkv = Conv3d(channels, 3 * channels, 3, padding=1)
        self.project = nn.Linear(channels, channels)

    def forward(self, volume: Tensor) -> Tensor:
        """(N, C, I, J, K) → the same shape."""
        return self.channels_last(volume.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)

    def channels_last(self, s: Tensor) -> Tensor:
        """``forward`` of (N, I, J, K, C)."""
        shape = s.shape[1:4]
        region = shape if self.region is None else self.region
        padding = [-n % r for n, r in zip(shape, region, strict=True)]
        s = pad_ends(s, padding)
        normed = self.norm(s)
        qkv = self.qkv(normed.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
        counts = [n // r for n, r in zip(qkv.shape[1:4], region, strict=True)]
        sizes = dict(zip("abcijk", (*counts, *region), strict=True))
        groups = "(n a b c) (i j k) x" if self.tokens == "within" else "(n i j k) (a b c) x"
        t = rearrange(qkv, f"n (a i) (b j) (c k) x -> {groups}", **sizes)  # (attentions, tokens, 3C)
        mask = self._real(t, shape, padding, groups, sizes) if self.mask_padding and any(padding) else None
        out = self._attend(t, mask)
        back = rearrange(out, f"{groups} -> n (a i) (b j) (c k) x", n=s.shape[0], **sizes)
        out = s + back
        return out[:, : shape[0], : shape[1], : shape[2]] if any(padding) else out

    def _attend(self, t: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, 3C) → (B, T, C): attention and projection."""
        channels = t.shape[2] // 3
        d = channels // self.heads
        qk, v = t[..., : 2 * channels], t[..., 2 * channels :]
        if mask is not None:
            qk = qk * mask
        if qk.dtype == torch.float16:  # a sum of squares over a million tokens leaves its range
            qk = qk.float()
        gram = torch.bmm(qk.transpose(1, 2), qk)  # (B, 2C, 2C): lengths on the diagonal, q kᵀ beside it
        scale = gram.diagonal(dim1=1, dim2=2).clamp(min=LEAST_SQUARE).rsqrt()
        blocks = gram[:, :channels, channels:].unflatten(2, (self.heads, d)).unflatten(1, (self.heads, d))
        scores = blocks.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)  # (B, h, d, d)
        q_scale = scale[:, :channels].unflatten(1, (self.heads, d, 1))
        k_scale = scale[:, channels:].unflatten(1, (self.heads, 1, d))
        attention = torch.softmax(self.temperature * q_scale * k_scale * scores, dim=-1)
        # out = Σ_c W[:, c] Σ_j A[c, j] v[j]: one matrix per attention instead of two passes over the volume.
        weight = self.project.weight.T.unflatten(0, (self.heads, d)).to(attention.dtype)  # (h, d, C)
        matrix = torch.matmul(attention.transpose(2, 3), weight).flatten(1, 2).to(v.dtype)  # (B, C, C)
        return torch.baddbmm(self.project.bias.to(v.dtype), v, matrix)

    def _real(
        self,
        t: Tensor,
        shape: Sequence[int],
        padding: Sequence[int],
        groups: str,
        sizes: dict[str, int],
    ) -> Tensor:
        """(B, T, 1): 1 for voxels of the volume, 0 for those that fill up the last regions."""
        one = t.new_ones(1, *shape, 1)
        mask = rearrange(pad_ends(one, padding), f"n (a i) (b j) (c k) x -> {groups}", **sizes)
        return mask.repeat(t.shape[0] // mask.shape[0], 1, 1)


def pad_ends(volume: Tensor, padding: Sequence[int]) -> Tensor:
    """Zeros at the end of each axis of (N, I, J, K, C)."""
    if not any(padding):
        return volume
    i, j, k = padding
    return F.pad(volume, (0, 0, 0, k, 0, j, 0, i))


def as_region(size: int | Sequence[int]) -> Region:
    """Three sizes from one or three."""
    i, j, k = (size,) * 3 if isinstance(size, int) else tuple(int(n) for n in size)
    if min(i, j, k) < 1:
        raise ValueError(f"a region has at least one voxel along each axis, received {size}")
    return i, j, k
