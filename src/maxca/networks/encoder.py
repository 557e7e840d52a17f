"""The encoder of the coarse-to-fine networks, and its interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from maxca.blocks.layers import Conv3d
from maxca.networks.parts import Factors, channels_last, halved, instance_norm, widths

# (channels, factors) → a module: image (N, 1, I, J, K) → features (N, channels · 2ⁿ, …) of levels n = 0, 1, …, where
# factors[n] voxels of level n become one of level n + 1. Its attributes ``widths`` and ``factors`` are those numbers.
MakeEncoder = Callable[[int, Sequence[Factors]], Any]  # an nn.Module, whose type cannot say that it has these two


class Encoder(nn.Module):
    """A pyramid of features of one image: channels c, 2c, 4c, … at full, half, quarter, … resolution.

    Args:
        channels: c.
        factors: downsampling factors along each axis between levels.
    """

    def __init__(self, channels: int, factors: Sequence[Factors]) -> None:
        super().__init__()
        self.widths = widths(channels, 1 + len(factors))
        self.factors = factors
        ins = [1, *self.widths[:-1]]
        self.levels = nn.ModuleList(EncoderLevel(a, b) for a, b in zip(ins, self.widths, strict=True))

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, 1, I, J, K) → one volume per level, finest first."""
        features = []
        x = channels_last(image)
        for number, level in enumerate(self.levels):
            x = level(halved(x, self.factors[number - 1]) if number else x)  # (N, c·2ⁿ, I/2ⁿ, J/2ⁿ, K/2ⁿ)
            features.append(x)
        return features


class EncoderLevel(nn.Module):
    """Twice: convolution, LeakyReLU, instance norm."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = Conv3d(channels_in, channels_out, 3, padding=1)
        self.conv2 = Conv3d(channels_out, channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, I, J, K) → (N, C', I, J, K)."""
        for conv in (self.conv1, self.conv2):
            x = instance_norm(F.leaky_relu(conv(x), 0.2))
        return x
