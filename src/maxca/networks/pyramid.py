"""One pass from coarse to fine: each level warps the moving features by the flow so far and adds what is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from maxca.blocks import Block
from maxca.geometry.warp import voxel_coordinates
from maxca.networks.parts import (
    Encoder,
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

Stage = Callable[[int, int, Block, bool], nn.Module]


def coarse_to_fine(
    stage: Stage,
    encoder_channels: int,
    decoder_channels: int,
    levels: int,
    block: Blocks,
    *,
    finest: int,
    affine: bool,
    velocity: bool,
    composed: bool,
    symmetric: bool = False,
    flat: int = 0,
) -> CoarseToFine:
    """A ``CoarseToFine`` whose channels double from level to level.

    Args:
        stage: (encoder channels, channels, block, whether it is the coarsest) → a stage.
        encoder_channels: at full resolution.
        decoder_channels: at the finest level that is decoded.
        levels: resolutions, each half the next.
        block: of every decoded level, or one a level, finest first.
        finest: the finest level that is decoded: 0 is full resolution, 1 half of it, ….
        affine: see ``CoarseToFine``.
        velocity: likewise.
        composed: likewise.
        symmetric: likewise.
        flat: likewise.

    Raises:
        ValueError: when no level is left to decode, or what is asked for cannot be symmetric.
    """
    decoded = levels - finest
    if finest < 0 or decoded < 1:
        raise ValueError(f"{levels} levels have no level {finest} to decode from")
    encoder, decoder = widths(encoder_channels, levels)[finest:], widths(decoder_channels, decoded)
    stages = [
        stage(e, d, one, level == decoded - 1)
        for level, (e, d, one) in enumerate(zip(encoder, decoder, per_level(block, decoded), strict=True))
    ]
    return CoarseToFine(
        encoder_channels,
        decoder_channels,
        stages,
        finest=finest,
        affine=affine,
        velocity=velocity,
        composed=composed,
        symmetric=symmetric,
        flat=flat,
    )


class CoarseToFine(nn.Module):
    """A shared encoder, and per level: warp, a stage, a head.

    Args:
        encoder_channels: channels of the finest level of the encoder; twice as many at each coarser one.
        decoder_channels: the same for the stages.
        stages: one a level, finest first: (fixed features, warped moving features, upsampled features of the coarser
            level or None) → features.
        finest: the level of the encoder, 0 the finest, that the finest stage works on; its flow is made as fine as the
            images by interpolation.
        affine: find an affine at the coarsest level; it enters the flow and is returned too.
        velocity: integrate the flow, at full resolution, as a stationary velocity.
        composed: compose the flows of the levels, where the published networks add them.
        symmetric: half the difference of the velocities of the two directions: swapping the images inverts the answer,
            whatever the weights are, and two opinions are better than one. Only the decoder works twice.
        flat: so many of the finest halvings leave the third axis as it is: for stacks of a few thick slices.

    Raises:
        ValueError: when a flow that is not a velocity, or an affine, should be symmetric; when there are fewer halvings
            than ``flat`` ones, or an affine is to be found across them.
    """

    def __init__(
        self,
        encoder_channels: int,
        decoder_channels: int,
        stages: Sequence[nn.Module],
        *,
        finest: int = 0,
        affine: bool = False,
        velocity: bool = False,
        composed: bool = False,
        symmetric: bool = False,
        flat: int = 0,
    ) -> None:
        super().__init__()
        if symmetric and (affine or not velocity):
            raise ValueError("a symmetric network needs velocity=True and finds no affine")
        channels = widths(decoder_channels, len(stages))
        self.widths = channels
        halvings = finest + len(stages) - 1
        if not 0 <= flat <= halvings or (flat and affine):
            raise ValueError(f"{flat} flat halvings of {halvings}; and none may be where an affine is found")
        self.factors: list[Factors] = [(2, 2, 1)] * flat + [(2, 2, 2)] * (halvings - flat)
        self.finest = finest
        self.velocity = velocity
        self.composed = composed
        self.symmetric = symmetric
        self.encoder = Encoder(encoder_channels, self.factors)
        self.stages = nn.ModuleList(stages)
        self.upsample = nn.ModuleList(
            Upsample(coarse, fine, factors)
            for (fine, coarse), factors in zip(pairwise(channels), self.factors[finest:], strict=True)
        )
        self.heads = nn.ModuleList(FlowHead(c) for c in channels)
        self.affine = AffineHead(channels[-1]) if affine else None

    def forward(self, fixed: Tensor, moving: Tensor) -> Prediction:
        """Two (N, 1, I, J, K), any I, J, K → ``Prediction``."""
        check_pair(fixed, moving)
        shape = fixed.shape[2:]
        i, j, k = (prod(factors) for factors in zip((1, 1, 1), *self.factors, strict=True))
        both = self.encoder(padded(torch.cat([fixed, moving]), (i, j, k)))  # as one batch: fewer, larger convolutions
        levels = both[self.finest :]
        if self.symmetric:
            there, back = self._decoded(levels, [torch.cat(level.chunk(2)[::-1]) for level in levels])[0].chunk(2)
            flow, linear = (there - back) / 2, None
        else:
            fixed_levels, moving_levels = zip(*(level.chunk(2) for level in levels), strict=True)
            flow, linear = self._decoded(fixed_levels, moving_levels)
        for level in reversed(range(self.finest)):
            flow = upsample_flow(flow, self.factors[level])
        if self.velocity:
            flow = integrate(flow)
        matrix = None if linear is None else centred_matrix(linear, flow.shape[2:])
        return Prediction(cropped(self._whole(flow, linear), shape), matrix)

    def _decoded(self, fixed: Sequence[Tensor], moving: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Features of each level, finest first → the flow of the finest, and the affine."""
        coarsest = len(self.stages) - 1
        features = self.stages[coarsest](fixed[coarsest], moving[coarsest], None)
        flow = self.heads[coarsest](features)
        linear = None if self.affine is None else self.affine(features)
        for level in reversed(range(coarsest)):
            f, m = fixed[level], moving[level]
            flow = upsample_flow(flow, self.factors[self.finest + level])
            warped = warp(m, self._whole(flow, linear))
            features = self.stages[level](f, warped, self.upsample[level](features))
            more = self.heads[level](features)
            flow = compose(more, flow) if self.composed else flow + more
        return flow, linear

    def _whole(self, flow: Tensor, linear: Tensor | None) -> Tensor:
        """The deformation, then the affine."""
        if linear is None:
            return flow
        matrix = centred_matrix(linear, flow.shape[2:])
        start = voxel_coordinates(tuple(flow.shape[2:]), flow.device)
        moved = (start + flow).flatten(2)
        there = matrix[:, :, :3] @ moved + matrix[:, :, 3:]
        return there.view_as(flow) - start


class AffineHead(nn.Module):
    """Twelve numbers from the means of the features; at first all 0, which moves nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, 12)
        nn.init.normal_(self.out.weight, std=1e-5)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, I, J, K) → (N, 3, 4), relative: see ``centred_matrix``."""
        means = features.mean(dim=(2, 3, 4))
        return self.out(torch.relu(self.hidden(means))).float().unflatten(1, (3, 4))


def centred_matrix(linear: Tensor, shape: Sequence[int]) -> Tensor:
    """(N, 3, 4) from voxels to voxels of a grid.

    ``linear`` is what the matrix adds to the identity in coordinates whose origin is the middle of the grid and whose
    unit is half its longest side, so that it means the same at every level.
    """
    half = max(shape) / 2
    center = linear.new_tensor([(n - 1) / 2 for n in shape])
    matrix = linear[:, :, :3] + torch.eye(3, device=linear.device)
    shift = half * linear[:, :, 3] + center - matrix @ center
    return torch.cat([matrix, shift.unsqueeze(2)], dim=2)
