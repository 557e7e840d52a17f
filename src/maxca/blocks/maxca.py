"""The MAXCA block: regional and dilated cross-covariance attention side by side, then channel attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .channel import ResidualChannelAttention
from .layers import LayerNorm
from .slabs import in_context, joined, slabs
from .xca import XCA, Look

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
        mask_padding, temperature, normalise: of each attention; see ``XCA``.
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
        temperature: float = 1.0,
        normalise: bool = True,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        attention = {"mask_padding": mask_padding, "temperature": temperature, "normalise": normalise}
        self.mix = MultiAxisXCA(channels, heads, region, axes, **attention)
        self.channel = ResidualChannelAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, I, J, K) → the same shape, any I, J, K ≥ 1."""
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(self._forward, x, use_reentrant=False)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 4, 1)
        mixed = self.mix(x)
        parts = self.channel.in_slabs(in_context(mixed, 2))
        for part, skipped in zip(parts, x.split([part.shape[1] for part in parts], dim=1), strict=True):
            part += skipped
        return joined(parts).permute(0, 4, 1, 2, 3)


class MultiAxisXCA(nn.Module):
    """x + merge(concat(branch(u), …)), where u, … = split(gelu(expand(norm(x)))), one share of C channels a branch.

    Neither the split nor the concatenation is carried out: each branch has its rows of ``expand`` and its columns of
    ``merge``, and the latter join the projection that ends its attention.
    """

    def __init__(
        self, channels: int, heads: int, region: int | Sequence[int], axes: Sequence[Axis], **attention: Any
    ) -> None:
        super().__init__()
        self.norm = LayerNorm(channels)
        self.expand = nn.Linear(channels, len(axes) * channels)
        self.branches = nn.ModuleDict({axis: _branch(axis, channels, heads, region, **attention) for axis in axes})
        self.merge = nn.Linear(len(axes) * channels, channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, I, J, K, C) → the same shape, in slabs along I."""
        shares = self._shares()
        constant = (self.merge.bias + sum(share.merge @ share.layer.project.bias for share in shares)).to(x.dtype)
        parts = []
        looks: list[list[Look]] = [[] for _ in shares]
        for slab in slabs(x, context=1, widest=3 * x.shape[-1], multiple=max(s.layer.region[0] for s in shares)):
            normed = self.norm(slab.piece)
            part = slab.own(slab.piece)
            for n, (share, seen) in enumerate(zip(shares, looks, strict=True)):
                y = F.gelu(F.linear(normed, share.expand, share.bias))
                merged = F.linear(slab.own(y), share.merge, None if n else constant)
                part = part + merged
                seen.append(share.layer.look(slab._replace(piece=y)))
                if share.layer.tokens == "within":  # complete: nothing of it needs to be kept
                    part += next(share.layer.answers([seen.pop()], share.project))
            parts.append(part)
        for share, seen in zip(shares, looks, strict=True):
            for part, answer in zip(parts, share.layer.answers(seen, share.project), strict=False):
                part += answer
        return parts

    def _shares(self) -> list[Share]:
        channels = self.norm.normalized_shape[0]
        layers = [layer for layer in self.branches.values() if isinstance(layer, XCA)]
        return [
            Share(layer, expand, bias, merge, layer.project.weight.T @ merge.T)
            for layer, expand, bias, merge in zip(
                layers,
                self.expand.weight.split(channels),
                self.expand.bias.split(channels),
                self.merge.weight.split(channels, dim=1),
                strict=True,
            )
        ]


class Share(NamedTuple):
    """A branch and the parameters that lead to it and from it."""

    layer: XCA
    expand: Tensor
    bias: Tensor
    merge: Tensor
    project: Tensor


def _branch(axis: Axis, channels: int, heads: int, region: int | Sequence[int], **attention: Any) -> XCA:
    if axis == "plain":
        return XCA(channels, heads, **attention)
    if axis not in ("regional", "dilated"):
        raise ValueError(f"an axis is 'regional', 'dilated' or 'plain', received {axis!r}")
    return XCA(channels, heads, region, "within" if axis == "regional" else "across", **attention)
