"""The MAXCA block: regional and dilated cross-covariance attention side by side, then channel attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .channel import ResidualChannelAttention
from .xca import XCA

Axis = Literal["dilated", "regional", "plain"]


class MAXCA(nn.Module):
    """x + channel_attention(multi_axis(x)).

    Fine relations come from attention within regions, far ones from attention across them, both at the cost of a
    convolution: linear in the voxels.

    Args:
        channels: C, in and out.
        heads: groups of channels that attend within themselves.
        region: voxels per region along each axis.
        axes: the branches. The paper's ablation takes ``("regional",)``, ``("dilated",)`` or ``("plain",)`` alone.
        mask_padding: leave the zeros that fill up the last regions out of the attention.
        checkpointing: in training, keep only the input of the block and compute the rest again on the way back.

    Source: arXiv 2412.18545.
    """

    def __init__(
        self,
        channels: int,
        heads: int = 1,
        region: int | Sequence[int] = 8,
        axes: Sequence[Axis] = ("dilated", "regional"),
        *,
        mask_padding: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.mix = MultiAxisXCA(channels, heads, region, axes, mask_padding=mask_padding)
        self.channel = ResidualChannelAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, I, J, K) → the same shape, any I, J, K ≥ 1."""
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(self._forward, x, use_reentrant=False)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last_3d)
        return x + self.channel(self.mix(x))


class MultiAxisXCA(nn.Module):
    """x + merge(concat(branch(u), …)), where u, … = split(gelu(expand(norm(x)))), one share of C channels a branch.

    Neither the split nor the concatenation is carried out: each branch has its rows of ``expand`` and its columns of
    ``merge``.
    """

    def __init__(
        self, channels: int, heads: int, region: int | Sequence[int], axes: Sequence[Axis], *, mask_padding: bool
    ) -> None:
        super().__init__()
        self.channels = channels
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, len(axes) * channels)
        self.axes = tuple(axes)
        self.branches = nn.ModuleDict({axis: _branch(axis, channels, heads, region, mask_padding) for axis in axes})
        self.merge = nn.Linear(len(axes) * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, I, J, K) → the same shape."""
        x = x.permute(0, 2, 3, 4, 1)
        normed = self.norm(x)
        out = x
        for n, axis in enumerate(self.axes):
            branch = self.branches[axis]
            assert isinstance(branch, XCA)
            share = slice(n * self.channels, (n + 1) * self.channels)
            y = F.gelu(F.linear(normed, self.expand.weight[share], self.expand.bias[share]))
            y = branch.channels_last(y)
            out = out + F.linear(y, self.merge.weight[:, share], None if n else self.merge.bias)
        return out.permute(0, 4, 1, 2, 3)


def _branch(axis: Axis, channels: int, heads: int, region: int | Sequence[int], mask_padding: bool) -> XCA:
    if axis == "plain":
        return XCA(channels, heads)
    if axis not in ("regional", "dilated"):
        raise ValueError(f"an axis is 'regional', 'dilated' or 'plain', received {axis!r}")
    tokens: Literal["within", "across"] = "within" if axis == "regional" else "across"
    return XCA(channels, heads, region, tokens, mask_padding=mask_padding)
