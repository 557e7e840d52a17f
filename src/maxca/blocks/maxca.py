"""The MAXCA block: parallel regional and dilated cross-covariance attention, then channel attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import _cpu
from .channel import ResidualChannelAttention
from .layers import LayerNorm, channels_first, channels_last, checkpointed, tuned
from .xca import XCA

Axis = Literal["dilated", "regional", "plain"]


class MAXCA(nn.Module):
    """x + channel_attention(multi_axis(x)).

    Attention within regions captures local relations, attention across them long-range ones, both at the cost of a
    convolution, linear in the number of voxels.

    Args:
        channels: C, in and out.
        heads: groups of channels with separate attention.
        region: voxels per region along each axis.
        axes: the branches. The paper's ablation uses ``("regional",)``, ``("dilated",)`` or ``("plain",)`` alone.
        mask_padding, temperature, normalise: of each attention; see ``XCA``.
        checkpointing: in training, keep only the input of the block and recompute the rest in the backward pass.

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

    @checkpointed
    @tuned(_cpu.maxca)
    def forward(self, x: Tensor) -> Tensor:
        """(N, C, I, J, K) → the same shape, any I, J, K ≥ 1."""
        return x + self.channel(self.mix(x))


class MultiAxisXCA(nn.Module):
    """x + merge(concat(branch(u), …)), where u, … = split(gelu(expand(norm(x)))), C channels for each branch."""

    def __init__(
        self, channels: int, heads: int, region: int | Sequence[int], axes: Sequence[Axis], **attention: Any
    ) -> None:
        super().__init__()
        self.norm = LayerNorm(channels)
        self.expand = nn.Linear(channels, len(axes) * channels)
        self.branches = nn.ModuleDict({axis: _branch(axis, channels, heads, region, **attention) for axis in axes})
        self.merge = nn.Linear(len(axes) * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, I, J, K) → the same shape."""
        y = channels_first(F.gelu(self.expand(self.norm(channels_last(x)))))
        inputs = y.chunk(len(self.branches), dim=1)  # C channels each
        attended = [branch(u) for branch, u in zip(self.branches.values(), inputs, strict=True)]
        return x + channels_first(self.merge(channels_last(torch.cat(attended, dim=1))))


def _branch(axis: Axis, channels: int, heads: int, region: int | Sequence[int], **attention: Any) -> XCA:
    if axis == "plain":
        return XCA(channels, heads, **attention)
    if axis not in ("regional", "dilated"):
        raise ValueError(f"an axis is 'regional', 'dilated' or 'plain', received {axis!r}")
    return XCA(channels, heads, region, "within" if axis == "regional" else "across", **attention)
