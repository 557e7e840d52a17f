"""VoxelMorph: a U-Net on the two images as channels, one flow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxca.networks.flow import PUBLISHED, FlowOptions
from maxca.networks.parts import ConvLayer, FlowHead, Prediction, channels_last, check_pair, cropped, integrate, padded
from maxca.networks.perlevel import Blocks, per_level


class VoxelMorph(nn.Module):
    """An encoder, a decoder with skips, a flow at full resolution.

    With ``flow.velocity``, minus the velocity registers the exchanged pair only approximately.

    Args:
        encoder: channels of each level of the encoder, finest first.
        decoder: channels of each level of the decoder, coarsest first, as many.
        final: channels of the last convolutions, at full resolution.
        block: after the convolution of every level of the encoder, or one a level, finest first.
        flow: only ``velocity`` is supported, because the flow is predicted at full resolution.

    Source: Balakrishnan et al., IEEE TMI 38(8), 2019; Dalca et al., Medical Image Analysis 57, 2019.
    """

    def __init__(
        self,
        encoder: Sequence[int] = (16, 32, 32, 32),
        decoder: Sequence[int] = (32, 32, 32, 32),
        final: Sequence[int] = (32, 16, 16),
        block: Blocks = "identity",
        *,
        flow: FlowOptions = PUBLISHED,
    ) -> None:
        super().__init__()
        if len(encoder) != len(decoder):
            raise ValueError(f"as many levels up as down are needed, received {len(encoder)} and {len(decoder)}")
        self.flow = flow.of_one_level()
        blocks = per_level(block, len(encoder))
        self.down = nn.ModuleList(ConvLayer(a, b) for a, b in zip([2, *encoder[:-1]], encoder, strict=True))
        self.blocks = nn.ModuleList(make(channels) for make, channels in zip(blocks, encoder, strict=True))
        skips = list(reversed(encoder))
        entries = [encoder[-1], *(d + s for d, s in zip(decoder, skips, strict=True))]
        self.up = nn.ModuleList(ConvLayer(a, b) for a, b in zip(entries[:-1], decoder, strict=True))
        self.final = nn.ModuleList(ConvLayer(a, b) for a, b in zip([entries[-1], *final[:-1]], final, strict=True))
        self.head = FlowHead(final[-1])

    def forward(self, fixed: Tensor, moving: Tensor) -> Prediction:
        """Two (N, 1, I, J, K), any I, J, K → ``Prediction``."""
        check_pair(fixed, moving)
        x = channels_last(padded(torch.cat([moving, fixed], dim=1), 2 ** len(self.down)))  # (N, 2, I, J, K)
        skips = []
        for conv, block in zip(self.down, self.blocks, strict=True):
            x = block(conv(x))  # (N, C, I/2ⁿ, J/2ⁿ, K/2ⁿ)
            skips.append(x)
            x = F.max_pool3d(x, 2)
        for conv in self.up:
            x = F.interpolate(conv(x), scale_factor=2, mode="nearest")
            x = torch.cat([x, skips.pop()], dim=1)  # twice the resolution each time, up to (N, C, I, J, K)
        for conv in self.final:
            x = conv(x)
        flow = self.head(x)  # (N, 3, I, J, K)
        return Prediction(cropped(integrate(flow) if self.flow.velocity else flow, fixed.shape[2:]))
