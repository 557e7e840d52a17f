"""The prediction of a network for one pair, as a field in world space, and its acceptance check."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations, count, product

import numpy as np
import torch
from torch import Tensor

from maxca.engine.comparison import similarity_of
from maxca.engine.deformable import optimise
from maxca.engine.settings import Level, Settings, refining
from maxca.engine.volume import Volume, crop, resampled
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.geometry.warp import transform_vectors
from maxca.models.domain import outside_domain
from maxca.models.focus import focus
from maxca.models.load import COMPARED_MM, Model

COMPARED = 1_000_000  # most samples for the comparison of fields: every second voxel of a head at 1 mm
FEWEST, MOST = 8, 30_000_000  # voxels along the longest axis, and in all, of a grid on which a network runs
FADE = 8  # fraction (1/n) of a box over which the motion decays to zero at its ends


@dataclass(frozen=True)
class PredictedField:
    """The prediction of a model for a pair.

    Args:
        model: of the prediction.
        field: fixed world → fixed world before the affine; for an initialisation, with or without the coarser
            levels of the optimisation.
        similarity: of the pair under the affine alone, ``"affine"``, and with the network's field, ``"network"``; and
            for an initialisation, after the coarser levels from it, ``"started"``, and from zero motion,
            ``"optimised"``. Empty if the network cannot run on the pair.
        accepted: whether it passed the acceptance check.
        reason: of the outcome.
    """

    model: Model
    field: DenseField
    similarity: dict[str, float]
    accepted: bool
    reason: str


def predict(model: Model, fixed: Volume, moving: Volume, affine: Affine, settings: Settings) -> PredictedField:
    """The prediction of a model, accepted if the pair is more similar under it than under the affine alone.

    If the optimisation continues from the prediction, its coarser levels, which take seconds, are run from the
    prediction and from zero motion; the prediction is accepted, with or without these levels, if its similarity is
    higher than that of the levels from zero motion.

    Args:
        model: a trained network.
        fixed: prepared fixed image.
        moving: prepared moving image.
        affine: fixed world points → moving world points, applied after the field.
        settings: of the optimisation without a model.
    """
    if obstacle := _obstacle(model, fixed):
        still = DenseField(torch.zeros(3, *fixed.grid.shape, device=fixed.device), fixed.grid)
        return PredictedField(model, still, {}, False, obstacle)
    flow = network_field(model, fixed, moving, affine)
    fields = {"network": flow}
    if model.refine is None:
        coarse = replace(settings, levels=settings.levels[: -len(refining(settings).levels)])
        for name, initial in (("started", flow), ("optimised", None)):
            fields[name] = optimise(fixed, moving, affine, coarse, initial=initial)[0]
    chains = {"affine": Chain((affine,)), **{name: Chain((field, affine)) for name, field in fields.items()}}
    known = model.domain is not None and not outside_domain(model.domain, fixed, moving, settings.similarity)
    apart = COMPARED_MM if known else _finest(fixed.grid)
    scores = similarity_of(_within(fixed, flow.grid), moving, settings.similarity, chains, apart)
    reason = f"{settings.similarity} went from {scores['affine']:.3f} to {scores['network']:.3f}"
    if model.refine is None:
        reason += f", {scores['started']:.3f} after coarse levels, {scores['optimised']:.3f} after these alone"
    best = max(scores, key=lambda name: scores[name])
    accepted = best in ("network", "started")
    return PredictedField(model, fields[best] if accepted else flow, scores, accepted, reason)


def network_field(
    model: Model, fixed: Volume, moving: Volume, affine: Affine, motion: Volume | None = None
) -> DenseField:
    """The flow of a network for a pair, as a field in world space.

    Args:
        model: a trained network and the spacing of its grid.
        fixed: prepared fixed image.
        moving: prepared moving image.
        affine: fixed world points → moving world points, applied after the field.
        motion: how much images like the fixed one differ, for one place of the part for all of them.

    Returns:
        Fixed world → fixed world before the affine, on the network's grid over ``fixed.grid``; or, if that is larger
        than its input, over the part where the two images differ most, with zero motion at its ends.
    """
    grid = fixed.grid.canonical.at_spacing(model.spacing or (None, None, None))
    fixed_on_grid = resampled(fixed, grid, Chain())
    moving_on_grid = resampled(moving, grid, Chain((affine,)))
    differing = (fixed_on_grid, moving_on_grid)
    if motion is not None:
        there = resampled(motion, grid, Chain())
        differing = (there, torch.zeros_like(there))
    low, high = focus(*differing, model.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    flow = _mean_flow(model, fixed_on_grid[box][None, None], moving_on_grid[box][None, None])
    for axis in grid.thin_axes:
        flow[axis] = 0
    for axis, (a, b, n) in enumerate(zip(low, high, grid.shape, strict=True)):
        flow *= _fading(b - a, before=a > 0, after=b < n).to(flow).view([-1 if d == axis else 1 for d in range(3)])
    return DenseField(transform_vectors(grid.affine[:3, :3], flow.unsqueeze(0))[0], grid.box(low, high))


def _finest(grid: Grid) -> float:
    """Spacing in mm of the finest samples of a grid for the comparison of fields."""
    factor = next(n for n in count(1) if Level(n, 0).voxels(grid) <= COMPARED)
    return factor * grid.smallest_spacing


def _obstacle(model: Model, fixed: Volume) -> str:
    """Why a network cannot run on an image; empty if it can."""
    grid = fixed.grid.canonical.at_spacing(model.spacing or (None, None, None))
    if max(grid.shape) >= FEWEST and math.prod(grid.shape) <= MOST:
        return ""
    spacing = " x ".join(f"{mm:.3g}" for mm in grid.spacing)
    size = " x ".join(map(str, grid.shape))
    return f"at its spacing of {spacing} mm the fixed image has {size} voxels"


def _within(volume: Volume, grid: Grid) -> Volume:
    """The part of a volume covered by a grid, to which the comparison is restricted."""
    index = volume.grid.to_voxel(grid.to_world(np.array(list(product(*((0, n - 1) for n in grid.shape))))))
    low = np.clip(np.floor(index.min(axis=0) + 1e-3), 0, None).astype(int)
    high = np.clip(np.ceil(index.max(axis=0) - 1e-3) + 1, None, volume.grid.shape).astype(int)
    return crop(volume, low.tolist(), high.tolist())


def _fading(n: int, *, before: bool, after: bool) -> Tensor:
    """(n,) weights that increase from 0 at a cropped end to 1 over an eighth of the length."""
    ramp = torch.arange(n) / max(1, n // FADE)
    ends = torch.ones(n)
    if before:
        ends = torch.minimum(ends, ramp)
    return torch.minimum(ends, ramp.flip(0)) if after else ends


def _mean_flow(model: Model, fixed: Tensor, moving: Tensor) -> Tensor:
    """(3, I, J, K): the network's flow for a pair (1, 1, I, J, K), the mean over its mirror images."""
    flows = []
    for mirrored in range(len(model.mirror) + 1):
        for axes in combinations(model.mirror, mirrored):
            dims = [2 + axis for axis in axes]
            flow = model.network(fixed.flip(dims), moving.flip(dims)).flow.flip(dims)[0]
            flows.append(torch.stack([-part if axis in axes else part for axis, part in enumerate(flow)]))
    return torch.stack(flows).mean(dim=0)
