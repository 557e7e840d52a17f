"""CorrMLP's block: gated MLPs over the voxels of windows of several sizes, then channel attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .channel import ResidualChannelAttention
from .layers import LayerNorm, cut_ends, pad_ends, to_whole


class GatedMLP(nn.Module):
    """s + channel_attention(mixed windows of s).

    Args:
        channels: C, in and out.
        windows: side of each kind of window, in voxels.

    Source: Meng et al., "Correlation-aware coarse-to-fine MLPs for deformable medical image registration", CVPR 2024;
    gated MLPs after Liu et al., NeurIPS 2021.
    """

    def __init__(self, channels: int, windows: Sequence[int] = (3, 5, 7)) -> None:
        super().__init__()
        self.mix = MultiWindow(channels, windows)
        self.channel = ResidualChannelAttention(channels)

    def forward(self, s: Tensor) -> Tensor:
        """(N, C, I, J, K) → the same shape."""
        s = s.contiguous(memory_format=torch.channels_last_3d)
        return s + self.channel(self.mix(s))


class MultiWindow(nn.Module):
    """s + project(Σ wᵢ · windowᵢ(norm(s))): the weights w of the windows are a softmax, channel by channel."""

    def __init__(self, channels: int, windows: Sequence[int]) -> None:
        super().__init__()
        self.norm = LayerNorm(channels)
        self.windows = nn.ModuleList([WindowGate(channels, side) for side in windows])
        self.weigh1 = nn.Linear(channels, max(1, channels // 4))
        self.weigh2 = nn.Linear(max(1, channels // 4), len(windows) * channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, s: Tensor) -> Tensor:
        """(N, C, I, J, K) → the same shape."""
        s = s.permute(0, 2, 3, 4, 1)
        y = self.norm(s)
        parts = [window(y) for window in self.windows]
        means = torch.stack([part.mean(dim=(1, 2, 3)) for part in parts]).sum(0)  # (N, C)
        weights = self.weigh2(F.gelu(self.weigh1(means))).unflatten(1, (s.shape[-1], len(parts))).softmax(dim=2)
        mixed = torch.zeros_like(s)
        for n, part in enumerate(parts):
            mixed = mixed + part * weights[:, None, None, None, :, n]
        return (s + self.project(mixed)).permute(0, 4, 1, 2, 3)


class WindowGate(nn.Module):
    """t + project(u · (1 + between(norm(v)))), where u, v = split(gelu(expand(norm(t)))), in windows of r³ voxels."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.norm = LayerNorm(channels)
        self.expand = nn.Linear(channels, 2 * channels)
        self.gate_norm = LayerNorm(channels)
        self.between = nn.Linear(side**3, side**3)
        self.project = nn.Linear(channels, channels)

    def forward(self, t: Tensor) -> Tensor:
        """(N, I, J, K, C) → the same shape."""
        shape = t.shape[1:4]
        t = pad_ends(t, to_whole(shape, (self.side,) * 3))
        counts = dict(zip("abc", (n // self.side for n in t.shape[1:4]), strict=True))
        sizes = {"i": self.side, "j": self.side, "k": self.side, **counts}
        t = rearrange(t, "n (a i) (b j) (c k) x -> (n a b c) (i j k) x", **sizes)
        u, v = F.gelu(self.expand(self.norm(t))).chunk(2, dim=-1)
        gate = torch.matmul(self.between.weight, self.gate_norm(v)) + self.between.bias[:, None]
        t = t + self.project(u * (1 + gate))
        t = rearrange(t, "(n a b c) (i j k) x -> n (a i) (b j) (c k) x", **sizes)
        return cut_ends(t, shape)
