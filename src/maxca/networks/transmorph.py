"""TransMorph: a Swin encoder on patches of the pair, a convolutional decoder with skips from the images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxca.blocks import Window
from maxca.blocks.layers import Conv3d, at_least_float32
from maxca.networks.flow import PUBLISHED, FlowOptions
from maxca.networks.parts import (
    ConvLayer,
    FlowHead,
    Prediction,
    channels_last,
    check_pair,
    cropped,
    instance_norm,
    integrate,
    padded,
)
from maxca.networks.perlevel import Blocks, per_level

PATCH = 4


class TransMorph(nn.Module):
    """Patches of 4³ voxels, stages of blocks with merging in between, then a decoder with skips.

    Args:
        channels: after the patch embedding; doubled at each merging.
        depths: blocks per stage; the default block is a pair of Swin layers.
        heads: attention heads per stage of the default block.
        window: voxels per window along each axis of the default block.
        block: of every stage, or one a stage, finest first.
        flow: only ``velocity`` is supported, because the flow is predicted at full resolution.

    Source: Chen et al., Medical Image Analysis 82, 2022.
    """

    def __init__(
        self,
        channels: int = 96,
        depths: Sequence[int] = (1, 1, 2, 1),
        heads: Sequence[int] = (4, 4, 8, 8),
        window: int = 5,
        block: Blocks | None = None,
        *,
        flow: FlowOptions = PUBLISHED,
    ) -> None:
        super().__init__()
        self.flow = flow.of_one_level()
        blocks = per_level(
            block or [partial(Window, heads=h, window=window, expansion=4.0) for h in heads], len(depths)
        )
        widths = [channels * 2**stage for stage in range(len(depths))]
        self.embed = Conv3d(2, channels, PATCH, stride=PATCH)
        self.norm = nn.LayerNorm(channels)
        self.stages = nn.ModuleList(
            nn.Sequential(*(make(width) for _ in range(depth)))
            for make, width, depth in zip(blocks, widths, depths, strict=True)
        )
        self.merge = nn.ModuleList(Conv3d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.image_half = ConvLayer(2, channels // 2)
        self.image_full = ConvLayer(2, max(channels // 6, 4))
        # The decoder: up to the finest stage, to half the resolution of the images, to their voxels.
        outs = [*reversed(widths[:-1]), channels // 2, max(channels // 6, 4)]
        ins = [widths[-1], *outs[:-1]]
        self.up = nn.ModuleList(UpStage(i, s, o) for i, s, o in zip(ins, outs, outs, strict=True))
        self.head = FlowHead(outs[-1])

    def forward(self, fixed: Tensor, moving: Tensor) -> Prediction:
        """Two (N, 1, I, J, K), any I, J, K → ``Prediction``."""
        check_pair(fixed, moving)
        pair = channels_last(padded(torch.cat([moving, fixed], dim=1), PATCH * 2 ** len(self.merge)))  # (N, 2, I, J, K)
        skips = [self.image_full(pair), self.image_half(F.avg_pool3d(pair, 2))]
        x = self.norm(self.embed(pair).permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)  # (N, c, I/4, J/4, K/4)
        for number, stage in enumerate(self.stages):
            x = stage(self.merge[number - 1](x) if number else x)  # (N, c·2ⁿ, I/4/2ⁿ, …)
            skips.append(x)
        x = skips.pop()
        for up in self.up:
            x = up(x, skips.pop())  # twice the resolution each time, up to (N, c/6, I, J, K)
        flow = self.head(x)  # (N, 3, I, J, K)
        return Prediction(cropped(integrate(flow) if self.flow.velocity else flow, fixed.shape[2:]))


class UpStage(nn.Module):
    """Twice the resolution, joined with a skip, two convolutions."""

    def __init__(self, channels_in: int, skip: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = Conv3d(channels_in + skip, channels_out, 3, padding=1)
        self.conv2 = Conv3d(channels_out, channels_out, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, C, I, J, K) and (N, S, 2I, 2J, 2K) → (N, C', 2I, 2J, 2K)."""
        x = F.interpolate(at_least_float32(x), size=skip.shape[2:], mode="trilinear", align_corners=False).to(
            skip.dtype
        )
        x = torch.cat([x, skip], dim=1)
        for conv in (self.conv1, self.conv2):
            x = F.leaky_relu(instance_norm(conv(x)), 0.2)
        return x
