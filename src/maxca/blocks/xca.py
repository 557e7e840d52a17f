"""Cross-covariance attention over a volume: channels attend to channels, tokens are voxels.

One layer serves plain XCA (all voxels are the tokens of one attention), regional XCA (those within a region) and
dilated XCA (those at the same position in all regions): they differ in the voxels that are tokens of one attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from . import _cpu
from .layers import (
    Conv3d,
    LayerNorm,
    at_least_float32,
    channels_first,
    channels_last,
    cut_ends,
    pad_ends,
    to_whole,
    tuned,
)

Tokens = Literal["within", "across"]
Region = tuple[int, int, int]

# The tokens of one attention, among voxels of region (a, b, c) at position (i, j, k) within it.
GROUPS = {"within": "(n a b c) h d (i j k)", "across": "(n i j k) h d (a b c)"}


class XCA(nn.Module):
    """s + project(softmax(τ · q̂ k̂ᵀ) v), where q, k, v come from a 3x3x3 convolution and ^ is L2 along the tokens.

    Args:
        channels: C, in and out.
        heads: number of groups of channels, each attending within itself.
        region: voxels per region along each axis; None for one region that covers the volume (plain XCA).
        tokens: ``"within"``: the tokens of one attention are the voxels of a region; ``"across"``: those at the same
            offset in every region.
        mask_padding: exclude zero-padding from the attention; the published block includes it.
        temperature: initial value of τ, which is learnt; 1 in the published block.
        normalise: divide q and k by their norms along the tokens, so that scores are correlations, as published;
            otherwise by the root of the number of tokens, so that they are covariances.

    Raises:
        ValueError: if the heads do not divide the channels, or a region is empty.

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

    @tuned(_cpu.xca)
    def forward(self, volume: Tensor) -> Tensor:
        """(N, C, I, J, K) → the same shape."""
        s = channels_last(volume)
        filling = to_whole(s.shape[1:4], self.region)
        qkv = self.qkv(channels_first(self.norm(pad_ends(s, filling))))
        q, k, v = (self._cut(part) for part in qkv.chunk(3, dim=1))
        if self.mask_padding:
            real = self._cut(channels_first(pad_ends(torch.ones_like(s), filling)))
            q, k = q * real, k * real
        q, k = self._scaled(q), self._scaled(k)
        attention = torch.softmax(self.temperature * (q @ k.transpose(-2, -1)), dim=-1)
        out = self._joined(attention.to(v.dtype) @ v, s.shape, filling)
        return channels_first(s + self.project(out))

    def _cut(self, t: Tensor) -> Tensor:
        """(N, C, I, J, K), whole regions → (attentions, heads, C / heads, tokens)."""
        i, j, k = self.region
        groups = f"n (h d) (a i) (b j) (c k) -> {GROUPS[self.tokens]}"
        return rearrange(t, groups, i=i, j=j, k=k, h=self.heads)

    def _scaled(self, t: Tensor) -> Tensor:
        """Each channel over its tokens, divided by its norm or by the root of the number of tokens, in float32."""
        t = at_least_float32(t)
        return F.normalize(t, dim=-1) if self.normalise else t / t.shape[-1] ** 0.5

    def _joined(self, out: Tensor, shape: Sequence[int], filling: Sequence[int]) -> Tensor:
        """(attentions, heads, C / heads, tokens) → (N, I, J, K, C), without padding."""
        counts = [(n + f) // r for n, f, r in zip(shape[1:4], filling, self.region, strict=True)]
        sizes = dict(zip("abcijk", (*counts, *self.region), strict=True))
        whole = rearrange(out, f"{GROUPS[self.tokens]} -> n (a i) (b j) (c k) (h d)", **sizes)
        return cut_ends(whole, shape[1:4])


def as_region(size: int | Sequence[int]) -> Region:
    """Three sizes from one or three."""
    i, j, k = (size,) * 3 if isinstance(size, int) else tuple(int(n) for n in size)
    if min(i, j, k) < 1:
        raise ValueError(f"a region has at least one voxel along each axis, received {size}")
    return i, j, k
