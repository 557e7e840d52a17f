"""Coarse-to-fine networks: each level warps the moving features by the current flow and predicts the residual."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from maxca.blocks import Block
from maxca.networks.affine import AffineHead, centred_matrix, with_affine
from maxca.networks.encoder import Encoder, MakeEncoder
from maxca.networks.flow import FlowOptions
from maxca.networks.parts import (
    Factors,
    FlowHead,
    Prediction,
    Upsample,
    check_pair,
    compose,
    cropped,
    integrate,
    padded,
    upsample_flow,
    warp,
    widths,
)
from maxca.networks.perlevel import Blocks, per_level

Stage = Callable[[int, int, Block, bool], nn.Module]  # encoder channels, channels, block, whether it is the coarsest


def coarse_to_fine(
    stage: Stage,
    encoder_channels: int,
    decoder_channels: int,
    levels: int,
    block: Blocks,
    *,
    affine: bool = False,
    flow: FlowOptions,
    encoder: MakeEncoder = Encoder,
) -> CoarseToFine:
    """A ``CoarseToFine`` whose channels double from level to level.

    Args:
        stage: (encoder channels, channels, block, whether it is the coarsest) → a stage.
        encoder_channels: at full resolution.
        decoder_channels: at the finest decoded level.
        levels: resolutions, each half the next.
        block: of every decoded level, or one per level, finest first.
        affine: predict an affine at the coarsest level.
        flow: see ``FlowOptions``.
        encoder: see ``MakeEncoder``.

    Raises:
        ValueError: if no level is left to decode, the encoder has other channels, or an affine is not supported.
    """
    if affine and (flow.symmetric or flow.flat):
        raise ValueError("a network that predicts an affine is not symmetric and has no flat halvings")
    factors = flow.factors(levels)
    encoded, decoded = widths(encoder_channels, levels), widths(decoder_channels, levels - flow.finest)
    blocks = per_level(block, len(decoded))
    stages = [  # before the encoder: random numbers are drawn in this order
        stage(e, d, one, d == decoded[-1]) for e, d, one in zip(encoded[flow.finest :], decoded, blocks, strict=True)
    ]
    features = encoder(encoder_channels, factors)
    if list(features.widths) != encoded:
        raise ValueError(f"an encoder of {levels} levels has {encoded} channels, this one {list(features.widths)}")
    return CoarseToFine(
        encoder=features,
        stages=stages,
        upsample=[Upsample(c, f, by) for (f, c), by in zip(pairwise(decoded), factors[flow.finest :], strict=True)],
        heads=[FlowHead(channels) for channels in decoded],
        affine=AffineHead(decoded[-1]) if affine else None,
        flow=flow,
    )


class CoarseToFine(nn.Module):
    """A shared encoder, and from coarse to fine: warp, a stage, a head.

    Args:
        encoder: image → features of each level, finest first; see ``MakeEncoder``.
        stages: one for each decoded level, finest first: (fixed features, warped moving features, upsampled features of
            the coarser stage or None) → features.
        upsample: from each stage but the finest to the next finer one.
        heads: features → flow, one for each stage.
        affine: features of the coarsest stage → an affine, which is included in the flow and also returned; or None.
        flow: see ``FlowOptions``.
    """

    def __init__(
        self,
        *,
        encoder: Any,
        stages: Sequence[nn.Module],
        upsample: Sequence[nn.Module],
        heads: Sequence[FlowHead],
        affine: nn.Module | None = None,
        flow: FlowOptions,
    ) -> None:
        super().__init__()
        self.flow = flow
        self.encoder: Any = encoder
        self.stages = nn.ModuleList(stages)
        self.upsample = nn.ModuleList(upsample)
        self.heads = nn.ModuleList(heads)
        self.affine = affine
        self.factors: Sequence[Factors] = encoder.factors
        self.widths = [head.conv.in_channels for head in heads]

    def forward(self, fixed: Tensor, moving: Tensor) -> Prediction:
        """Two (N, 1, I, J, K), any I, J, K → ``Prediction``."""
        check_pair(fixed, moving)
        i, j, k = (prod(each) for each in zip((1, 1, 1), *self.factors, strict=True))
        # One batch of both images: fewer, larger convolutions.
        both = self.encoder(padded(torch.cat([fixed, moving]), (i, j, k)))  # a level: (2N, e·2ⁿ, I/2ⁿ, J/2ⁿ, K/2ⁿ)
        levels = both[self.flow.finest :]
        if self.flow.symmetric:
            exchanged = [torch.cat(level.chunk(2)[::-1]) for level in levels]
            there, back = self._decoded(levels, exchanged)[0].chunk(2)
            flow, linear = (there - back) / 2, None
        else:
            fixed_levels, moving_levels = zip(*(level.chunk(2) for level in levels), strict=True)
            flow, linear = self._decoded(fixed_levels, moving_levels)
        for factor in reversed(self.factors[: self.flow.finest]):
            flow = upsample_flow(flow, factor)
        if self.flow.velocity:
            flow = integrate(flow)
        matrix = None if linear is None else centred_matrix(linear, flow.shape[2:])  # (N, 3, 4)
        return Prediction(cropped(with_affine(flow, linear), fixed.shape[2:]), matrix)  # (N, 3, I, J, K)

    def _decoded(self, fixed: Sequence[Tensor], moving: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Features of each level, finest first → the flow of the finest, and the affine."""
        coarsest = len(self.stages) - 1
        features = self.stages[coarsest](fixed[coarsest], moving[coarsest], None)
        flow = self.heads[coarsest](features)
        linear = None if self.affine is None else self.affine(features)
        for level in reversed(range(coarsest)):
            flow = upsample_flow(flow, self.factors[self.flow.finest + level])
            warped = warp(moving[level], with_affine(flow, linear))
            features = self.stages[level](fixed[level], warped, self.upsample[level](features))  # (N, d·2ⁿ, I/2ⁿ, …)
            more = self.heads[level](features)  # (N, 3, I/2ⁿ, …), the residual flow of this level
            flow = compose(more, flow) if self.flow.composed else flow + more
        return flow, linear
