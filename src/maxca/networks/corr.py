"""CorrMLP and CorrXCA: one correlation-aware coarse-to-fine network, two blocks."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from maxca.blocks import MAXCA, Block, GatedMLP
from maxca.networks.correlation import CorrelationConv
from maxca.networks.perlevel import Blocks
from maxca.networks.pyramid import CoarseToFine, coarse_to_fine


def corr_network(
    encoder_channels: int = 8,
    decoder_channels: int = 16,
    levels: int = 4,
    block: Blocks = GatedMLP,
    *,
    finest: int = 0,
    velocity: bool = False,
    composed: bool = False,
    symmetric: bool = False,
    flat: int = 0,
) -> CoarseToFine:
    """A correlation-aware coarse-to-fine network.

    Not symmetric by itself: the fixed image's features stay, the moving one's are warped; swap the arguments for the
    other direction, which is the inverse only as far as training made it so. With ``symmetric`` it is.

    Args:
        encoder_channels: e, at full resolution; doubled at each coarser level.
        decoder_channels: d, at the finest decoded level, likewise.
        levels: resolutions, each half the next.
        block: of every decoded level, or one a level, finest first.
        finest: the finest level that is decoded; 1 leaves out full resolution, where most of the work is.
        velocity: integrate the flow as a stationary velocity.
        composed: compose the flows of the levels instead of adding them.
        symmetric: half the difference of the velocities of both directions.
        flat: so many of the finest halvings leave the third axis as it is: for stacks of a few thick slices.

    Raises:
        ValueError: when it should be symmetric without ``velocity``, or have more flat halvings than levels to halve.

    Source: Meng et al., CVPR 2024.
    """
    return coarse_to_fine(
        CorrelationStage,
        encoder_channels,
        decoder_channels,
        levels,
        block,
        finest=finest,
        affine=False,
        velocity=velocity,
        composed=composed,
        symmetric=symmetric,
        flat=flat,
    )


def corrxca(
    encoder_channels: int = 12,
    decoder_channels: int = 24,
    levels: int = 4,
    block: Blocks | None = None,
    region: int = 6,
    *,
    finest: int = 0,
    velocity: bool = False,
    composed: bool = False,
    symmetric: bool = False,
    flat: int = 0,
) -> CoarseToFine:
    """The correlation-aware network with MAXCA at every level; 2, 4, 8, 16, … heads from fine to coarse.

    Args: as for ``corr_network``; ``region`` is that of the default blocks. Source: arXiv 2412.18545.
    """
    blocks = block or [partial(MAXCA, heads=2 * 2**level, region=region) for level in range(levels - finest)]
    return corr_network(
        encoder_channels,
        decoder_channels,
        levels,
        blocks,
        finest=finest,
        velocity=velocity,
        composed=composed,
        symmetric=symmetric,
        flat=flat,
    )


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
