"""One pass from coarse to fine: each level warps the moving features by the flow so far and adds what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from maxca.geometry.warp import voxel_coordinates
from maxca.networks.parts import (
    Encoder,
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


class CoarseToFine(nn.Module):
    """A shared encoder, and per level: warp, a stage, a head.

    Args:
        encoder_channels: channels of the finest level of the encoder; twice as many at each coarser one.
        decoder_channels: the same for the stages.
        stages: one a level, finest first: (fixed features, warped moving features, upsampled features of the coarser
            level or None) → features.
        affine: find an affine at the coarsest level; it enters the flow and is returned too.
        velocity: integrate the flow of the finest level as a stationary velocity.
        composed: compose the flows of the levels, where the published networks add them.
    """

    def __init__(
        self,
        encoder_channels: int,
        decoder_channels: int,
        stages: Sequence[nn.Module],
        *,
        affine: bool = False,
        velocity: bool = False,
        composed: bool = False,
    ) -> None:
        super().__init__()
        levels = len(stages)
        channels = widths(decoder_channels, levels)
        self.velocity = velocity
        self.composed = composed
        self.encoder = Encoder(encoder_channels, levels)
        self.stages = nn.ModuleList(stages)
        self.upsample = nn.ModuleList(Upsample(coarse, fine) for fine, coarse in pairwise(channels))
        self.heads = nn.ModuleList(FlowHead(c) for c in channels)
        self.affine = AffineHead(channels[-1]) if affine else None

    def forward(self, fixed: Tensor, moving: Tensor) -> Prediction:
        """Two (N, 1, I, J, K), any I, J, K → ``Prediction``."""
        check_pair(fixed, moving)
        shape = fixed.shape[2:]
        multiple = 2 ** (len(self.stages) - 1)
        both = self.encoder(padded(torch.cat([fixed, moving]), multiple))  # as one batch: fewer, larger convolutions
        fixed_levels, moving_levels = zip(*(level.chunk(2) for level in both), strict=True)
        coarsest = len(self.stages) - 1
        features = self.stages[coarsest](fixed_levels[coarsest], moving_levels[coarsest], None)
        flow = self.heads[coarsest](features)
        linear = None if self.affine is None else self.affine(features)
        for level in reversed(range(coarsest)):
            f, m = fixed_levels[level], moving_levels[level]
            flow = upsample_flow(flow, f.shape[2:])
            warped = warp(m, self._whole(flow, linear))
            features = self.stages[level](f, warped, self.upsample[level](features))
            more = self.heads[level](features)
            flow = compose(more, flow) if self.composed else flow + more
        if self.velocity:
            flow = integrate(flow)
        matrix = None if linear is None else centred_matrix(linear, flow.shape[2:])
        return Prediction(cropped(self._whole(flow, linear), shape), matrix)

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
