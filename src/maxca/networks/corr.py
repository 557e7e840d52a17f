"""CorrMLP and CorrXCA: one correlation-aware coarse-to-fine network, two blocks."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from maxca.blocks import MAXCA, Block, GatedMLP
from maxca.networks.correlation import CorrelationConv
from maxca.networks.encoder import Encoder, MakeEncoder
from maxca.networks.flow import PUBLISHED, FlowOptions
from maxca.networks.perlevel import Blocks
from maxca.networks.pyramid import CoarseToFine, coarse_to_fine


def corr_network(
    encoder_channels: int = 8,
    decoder_channels: int = 16,
    levels: int = 4,
    block: Blocks = GatedMLP,
    *,
    flow: FlowOptions = PUBLISHED,
    encoder: MakeEncoder = Encoder,
) -> CoarseToFine:
    """A correlation-aware coarse-to-fine network.

    Not symmetric by itself: the fixed image's features stay, the moving one's are warped; exchange the arguments for
    the other direction, which is the inverse only approximately. With ``flow.symmetric`` it is exact.

    Args:
        encoder_channels: e, at full resolution; doubled at each coarser level.
        decoder_channels: d, at the finest decoded level; doubled at each coarser level.
        levels: resolutions, each half the next.
        block: of every decoded level, or one per level, finest first.
        flow: see ``FlowOptions``.
        encoder: of each image; see ``MakeEncoder``.

    Source: Meng et al., CVPR 2024.
    """
    return coarse_to_fine(
        CorrelationStage, encoder_channels, decoder_channels, levels, block, flow=flow, encoder=encoder
    )


def corrxca(
    encoder_channels: int = 12,
    decoder_channels: int = 24,
    levels: int = 4,
    block: Blocks | None = None,
    region: int = 6,
    *,
    flow: FlowOptions = PUBLISHED,
    encoder: MakeEncoder = Encoder,
) -> CoarseToFine:
    """The correlation-aware network with MAXCA at every level; 2, 4, 8, 16, … heads from fine to coarse.

    Args: as for ``corr_network``; ``region`` is that of the default blocks. Source: arXiv 2412.18545.
    """
    blocks = block or [partial(MAXCA, heads=2 * 2**level, region=region) for level in range(levels - flow.finest)]
    return corr_network(encoder_channels, decoder_channels, levels, blocks, flow=flow, encoder=encoder)


class CorrelationStage(nn.Module):
    """Match the fixed with the moving features, then the result with that of the coarser level."""

    def __init__(self, encoder_channels: int, channels: int, block: Block, coarsest: bool) -> None:
        super().__init__()
        self.match = Fusion(encoder_channels, channels, block)
        self.merge = None if coarsest else Fusion(channels, channels, block)

    def forward(self, fixed: Tensor, moving: Tensor, coarser: Tensor | None) -> Tensor:
        """(N, e, I, J, K) twice and (N, d, I, J, K) → (N, d, I, J, K)."""
        matched = self.match(fixed, moving)
        return matched if self.merge is None or coarser is None else self.merge(matched, coarser)


class Fusion(nn.Module):
    """block(conv(concat(a, correlation(a, b), b)))."""

    def __init__(self, channels_in: int, channels_out: int, block: Block) -> None:
        super().__init__()
        self.fuse = CorrelationConv(channels_in, channels_out)
        self.block = block(channels_out)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(N, C, I, J, K) twice → (N, C', I, J, K)."""
        return self.block(self.fuse(a, b))
