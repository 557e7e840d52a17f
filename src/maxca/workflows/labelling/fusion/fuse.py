"""From registered atlases to one label map: the votes of the atlases at each voxel, slab by slab."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from maxca.workflows.labelling.fusion.joint import joint_weights
from maxca.workflows.labelling.fusion.patches import best_matches, correlation, offsets
from maxca.workflows.labelling.fusion.stack import AtlasStack, Slab
from maxca.workflows.labelling.options import FusionName

TIE = 1e-3  # of a vote
Radii = tuple[int, int, int]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class FusionSettings:
    """Settings of the fusions.

    Args:
        patch: radius of the patches of joint label fusion, voxels.
        search: radius within which it looks for the best patch of an atlas, voxels.
        alpha: see ``joint_weights``.
        beta: see ``joint_weights``.
        window: radius of the windows of local correlation, voxels.
        power: of the correlation, for local weights.
    """

    patch: int = 2
    search: int = 1
    alpha: float = 0.1
    beta: float = 2.0
    window: int = 3
    power: float = 4.0


class Fused(NamedTuple):
    """The fused labels on the grid of the scan.

    Args:
        labels: (I, J, K) integers.
        confidence: (I, J, K) the share of the votes of each voxel's label, float32; 1 where no atlas has a label.
        probabilities: (I, J, K) by label, float32, of the labels that were asked for.
    """

    labels: np.ndarray
    confidence: np.ndarray
    probabilities: dict[int, np.ndarray]


class Votes(NamedTuple):
    """The votes at the contested voxels of a slab.

    Args:
        voxels: (M,) in the flattened slab.
        candidates: (L,) labels that occur in the slab, as positions in ``AtlasStack.values``.
        shares: (M, L) of the votes; each row adds up to 1.
    """

    voxels: Int[Tensor, " m"]
    candidates: Int[Tensor, " l"]
    shares: Float[Tensor, "m l"]


def fuse(
    stack: AtlasStack,
    fusion: FusionName,
    settings: FusionSettings | None = None,
    wanted: tuple[int, ...] | None = (),
    progress: Progress = lambda _stage, _share: None,
) -> Fused:
    """Fuse the labels of registered atlases.

    Where all atlases have one label, it is kept.

    Args:
        stack: the scan and the atlases; of labels with equally many votes, that of the first atlas is taken.
        fusion: ``"joint"``, ``"local"`` or ``"vote"``.
        settings: of the fusion.
        wanted: labels whose probabilities are returned; None for all. Each takes four bytes per voxel.
        progress: called with the completed fraction.
    """
    settings = settings or FusionSettings()
    chosen = [int(v) for v in stack.values if (v != 0 if wanted is None else int(v) in wanted)]
    labels = np.zeros(stack.shape, stack.values.dtype)
    confidence = np.ones(stack.shape, np.float32)
    probabilities = {label: np.zeros(stack.shape, np.float32) for label in chosen}
    halo = _halo(stack, fusion, settings)
    for slab in stack.slabs(halo):
        inner = tuple(slice(halo, n - halo) for n in slab.target.shape)
        place = (slice(stack.box[0].start + slab.planes[0], stack.box[0].start + slab.planes[1]), *stack.box[1:])
        votes = _votes(slab, fusion, settings)
        best = votes.shares.max(1)
        found, sure = slab.labels[0].clone(), torch.ones(slab.target.shape)
        found.flatten()[votes.voxels] = votes.candidates[best.indices].int()
        sure.flatten()[votes.voxels] = best.values
        labels[place] = stack.values[found[inner].numpy()]
        confidence[place] = sure[inner].numpy()
        for label, number, column in _columns(stack, votes, chosen):
            share = (slab.labels[0] == number).float()
            share.flatten()[votes.voxels] = votes.shares[:, column] if column is not None else 0.0
            probabilities[label][place] = share[inner].numpy()
        progress("fusing labels", slab.planes[1] / stack.target.shape[0])
    return Fused(labels, confidence, probabilities)


def _columns(stack: AtlasStack, votes: Votes, chosen: list[int]) -> Iterator[tuple[int, int, int | None]]:
    """Each label with its position in the stack and its column in the votes, None if nobody votes for it."""
    at = {number: column for column, number in enumerate(votes.candidates.tolist())}
    for label in chosen:
        number = int(np.searchsorted(stack.values, label))
        yield label, number, at.get(number)


def _halo(stack: AtlasStack, fusion: FusionName, settings: FusionSettings) -> int:
    """The number of voxels around a slab that its result depends on."""
    return {"vote": 0, "local": settings.window, "joint": 2 * settings.patch + settings.search}[fusion]


def _radii(slab: Slab, radius: int) -> Radii:
    """A radius along each axis: none along an axis with a single voxel."""
    a, b, d = (radius if n - 2 * slab.halo > 1 else 0 for n in slab.target.shape)
    return a, b, d


def _votes(slab: Slab, fusion: FusionName, settings: FusionSettings) -> Votes:
    voxels = (slab.contested & slab.inner(slab.halo)).flatten().nonzero()[:, 0]
    if fusion == "joint":
        return _joint(slab, voxels, settings)
    # Of labels with equally many votes, that of an earlier atlas.
    earlier = torch.arange(len(slab.images), 0, -1) / len(slab.images)
    weights = (1 + TIE * earlier)[:, None].expand(-1, len(voxels))
    if fusion == "local":
        radii = _radii(slab, settings.window)
        each = [correlation(slab, n, radii).flatten()[voxels] for n in range(len(slab.images))]
        weights = torch.stack(each).clamp(min=1e-3) ** settings.power
    return _counted(slab, voxels, voxels, torch.zeros(weights.shape, dtype=torch.long), weights, (0, 0, 0))


def _joint(slab: Slab, voxels: Tensor, settings: FusionSettings) -> Votes:
    patch, reach = _radii(slab, settings.patch), _radii(slab, settings.search)
    voters = (slab.contested & slab.inner(settings.patch + settings.search)).flatten().nonzero()[:, 0]
    matches = torch.stack([best_matches(slab, n, voters, patch, reach) for n in range(len(slab.images))])
    weights = joint_weights(slab, voters, matches, patch, settings.alpha, settings.beta)
    return _counted(slab, voxels, voters, matches, weights, patch)


def _counted(slab: Slab, voxels: Tensor, voters: Tensor, matches: Tensor, weights: Tensor, patch: Radii) -> Votes:
    """The votes of patches: each votes for the labels of its match, voxel by voxel.

    Args:
        slab: with the labels.
        voxels: (M,) whose votes are counted.
        voters: (V,) the middles of the patches.
        matches: (N, V) steps to the matching patches of each atlas.
        weights: (N, V) of the atlases.
        patch: radii of the patches.
    """
    candidates = slab.labels.unique()
    columns = torch.zeros(int(candidates.max()) + 1, dtype=torch.long)
    columns[candidates.long()] = torch.arange(len(candidates))
    row = torch.full((slab.target.numel(),), -1, dtype=torch.long)
    row[voxels] = torch.arange(len(voxels))
    counts = torch.zeros(len(voxels) * len(candidates))
    for step in offsets(patch, slab.target.shape).tolist():
        rows = row[voters + step]
        counted = (rows >= 0).nonzero()[:, 0]
        rows, places = rows[counted] * len(candidates), voters[counted] + step
        for number, labels in enumerate(slab.labels):
            column = columns[labels.flatten()[places + matches[number, counted]].long()]
            counts.index_add_(0, rows + column, weights[number, counted])
    shares = counts.view(len(voxels), len(candidates))
    return Votes(voxels, candidates, shares / shares.sum(1, keepdim=True).clamp(min=1e-12))
