"""NICE-Net and NICE-Trans: coarse to fine without correlation, NICE-Trans with an affine predicted in the same pass."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from maxca.blocks import Block, ConvBlock, Window
from maxca.networks.encoder import Encoder, MakeEncoder
from maxca.networks.flow import PUBLISHED, FlowOptions
from maxca.networks.parts import ConvLayer, channels_last
from maxca.networks.perlevel import Blocks
from maxca.networks.pyramid import CoarseToFine, coarse_to_fine


def nice_net(
    encoder_channels: int = 8,
    decoder_channels: int = 16,
    levels: int = 5,
    block: Blocks = ConvBlock,
    *,
    affine: bool = False,
    flow: FlowOptions = PUBLISHED,
    encoder: MakeEncoder = Encoder,
) -> CoarseToFine:
    """A non-iterative coarse-to-fine network. Not symmetric; see ``corr_network``.

    Args:
        encoder_channels: at full resolution; doubled at each coarser level.
        decoder_channels: at the finest decoded level; doubled at each coarser level.
        levels: resolutions, each half the next.
        block: of every decoded level, or one per level, finest first.
        affine: also predict an affine, at the coarsest level.
        flow: see ``FlowOptions``.
        encoder: of each image; see ``MakeEncoder``.

    Source: Meng et al., MICCAI 2022.
    """
    return coarse_to_fine(
        ConcatenationStage,
        encoder_channels,
        decoder_channels,
        levels,
        block,
        affine=affine,
        flow=flow,
        encoder=encoder,
    )


def nice_trans(
    encoder_channels: int = 8,
    decoder_channels: int = 16,
    levels: int = 5,
    block: Blocks | None = None,
    *,
    affine: bool = True,
    flow: FlowOptions = PUBLISHED,
    encoder: MakeEncoder = Encoder,
) -> CoarseToFine:
    """NICE-Net with shifted-window attention below full resolution, and an affine predicted in the same pass.

    Args: as for ``nice_net``. Source: Meng et al., MICCAI 2023.
    """
    if block is None:
        windows: list[Block] = [partial(Window, heads=2 * 2**level, window=5) for level in range(levels - 1)]
        block = [ConvBlock, *windows][flow.finest :]
    return nice_net(encoder_channels, decoder_channels, levels, block, affine=affine, flow=flow, encoder=encoder)


class ConcatenationStage(nn.Module):
    """block(conv(concat(fixed, warped moving, coarser)))."""

    def __init__(self, encoder_channels: int, channels: int, block: Block, coarsest: bool) -> None:
        super().__init__()
        self.fuse = ConvLayer(2 * encoder_channels + (0 if coarsest else channels), channels)
        self.block = block(channels)

    def forward(self, fixed: Tensor, moving: Tensor, coarser: Tensor | None) -> Tensor:
        """(N, e, I, J, K) twice and (N, d, I, J, K) → (N, d, I, J, K)."""
        parts = [fixed, moving] if coarser is None else [fixed, moving, coarser]
        return self.block(self.fuse(channels_last(torch.cat(parts, dim=1))))
