"""The loss of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from maxca.geometry.grid import Grid, triple
from maxca.geometry.warp import voxel_coordinates
from maxca.losses.overlap import warped_dice
from maxca.losses.regularity import bending, diffusion, folding
from maxca.losses.similarity import batch_measure, dissimilarity
from maxca.networks import compose, warp
from maxca.training.config import Losses
from maxca.training.guide import GuidedPrediction, segmentation


def objective(
    network: nn.Module, batch: Mapping[str, Tensor], losses: Losses, chosen: int = 0, names: Sequence[int] = ()
) -> dict[str, Tensor]:
    """The terms of the loss, each with its weight, and their sum under ``"loss"``.

    Each is a mean over the pairs of the batch, so a batch may be divided among processes.

    Args:
        network: ``network(fixed, moving)`` → ``Prediction``; or ``GuidedPrediction``, with auxiliary segmentation
            heads.
        batch: ``fixed`` and ``moving`` (N, 1, I, J, K), ``spacing`` (N, 3); optionally ``fixed_labels`` and
            ``moving_labels`` (N, I, J, K).
        losses: the weights.
        chosen: generator of the voxels at which labels are compared.
        names: of the labels of the segmentation heads.
    """
    prediction = network(batch["fixed"], batch["moving"])
    flow = prediction.flow
    terms: dict[str, Tensor] = {}
    if losses.image:
        terms["image"] = -losses.image * mean_similarity(batch, flow, losses)
    if losses.diffusion:
        terms["diffusion"] = losses.diffusion * _roughness(diffusion, flow, batch["spacing"])
    if losses.bending:
        terms["bending"] = losses.bending * _roughness(bending, flow, batch["spacing"])
    if losses.folding:
        terms["folding"] = losses.folding * folding(flow)
    labelled = "fixed_labels" in batch and "moving_labels" in batch
    if losses.overlap and labelled:
        terms["overlap"] = losses.overlap * (1 - _overlaps(batch, flow, losses, chosen))
    if isinstance(prediction, GuidedPrediction) and labelled:
        terms["segmentation"] = losses.segmentation * segmentation(prediction, batch, names)
    if losses.consistency:
        back = network(batch["moving"], batch["fixed"]).flow
        terms["consistency"] = losses.consistency * compose(flow, back).square().sum(dim=1).mean()
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def mean_similarity(batch: Mapping[str, Tensor], flow: Tensor, losses: Losses) -> Tensor:
    """The similarity of the fixed and the warped image, mean over the batch."""
    warped = warp(batch["moving"], flow, "border")
    shape = triple(warped.shape[2:])
    grids = [Grid(shape, np.diag([*spacing, 1.0])) for spacing in batch["spacing"].tolist()]
    measure = batch_measure(losses.similarity, batch["fixed"][:, 0], grids, losses.window)
    return -dissimilarity(measure, warped[:, 0]).mean()


def _roughness(measure: Callable[[Tensor, list[float]], Tensor], flow: Tensor, spacings: Tensor) -> Tensor:
    """Mean over the batch, in units of the smallest spacing, so that a weight is independent of resolution."""
    relative = (spacings / spacings.amin(dim=1, keepdim=True)).tolist()
    return torch.stack([measure(one[None], mm) for one, mm in zip(flow, relative, strict=True)]).mean()


def _overlaps(batch: Mapping[str, Tensor], flow: Tensor, losses: Losses, chosen: int) -> Tensor:
    each = zip(batch["fixed_labels"], batch["moving_labels"], flow, strict=True)
    return torch.stack([_overlap(f, m, one, losses, chosen) for f, m, one in each]).mean()


def _overlap(fixed: Tensor, moving: Tensor, flow: Tensor, losses: Losses, chosen: int) -> Tensor:
    random = np.random.default_rng(chosen)
    names = sorted((set(fixed.unique().tolist()) & set(moving.unique().tolist())) - {0})
    if not names:
        return flow.sum() * 0 + 1
    i, j, k = (slice(int(random.integers(min(losses.lattice, n))), None, losses.lattice) for n in fixed.shape)
    moved = (voxel_coordinates(fixed.shape, flow.device)[0] + flow)[:, i, j, k]
    return warped_dice(fixed[i, j, k], moving, moved, names)
