"""Quality measures of a registration, used by ``register``, ``evaluate`` and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from maxca import metrics
from maxca.engine.comparison import similarity_of
from maxca.engine.settings import Settings, level_steps
from maxca.engine.volume import FAINT, Volume, every
from maxca.geometry import Chain
from maxca.geometry.transforms import Residual
from maxca.models.guide import SegmentedPair
from maxca.registration.bodies import motion_of
from maxca.registration.exclusion import volumes_ml
from maxca.registration.inputs import Side
from maxca.registration.measures import ExcludedVolume
from maxca.registration.pair import LoadedPair, PreparedPair
from maxca.registration.record import Assessment, ByLabel, Compared, Distances, FoldingRecord
from maxca.registration.resampling import resample

COMPARED_POINTS = 200_000  # most voxels at which inverse consistency is measured


def assess(
    pair: LoadedPair,
    prepared: PreparedPair,
    settings: Settings,
    found: Chain,
    final: tuple[Chain, Chain],
    residual: Residual,
    segmented: SegmentedPair | None = None,
) -> Assessment:
    """Measure a registration.

    Args:
        pair: both sides, with labels and landmarks if given.
        prepared: the volumes used by the engine.
        settings: of the optimisation: its similarity, and its finest level.
        found: fixed world points → moving world points of the prepared volumes.
        final: fixed world points → moving world points, and the inverse, of the original images.
        residual: of the inverse.
        segmented: the segmentations of both images, if a model segmented them.
    """
    chain, inverse = final
    start, unit = Chain((prepared.guess,)) if prepared.guess else Chain(), pair.fixed.image.grid.smallest_spacing
    chains = {"before": start, "after": found}
    compared = _compared(pair, prepared, chains)
    folding, error = regularity(chain, inverse, prepared.upright, settings.levels[-1].factor)
    return Assessment(
        similarity=compared[0],
        similarity_by_channel=compared[1:],
        folding=folding,
        inverse_consistency_mm=error,
        inverse_residual_mm=Distances(residual.mean, residual.max),
        **overlap(pair.fixed, pair.moving, chain),
        **landmark_error(pair.fixed, pair.moving, chain),
        **predicted_overlap(segmented, chains),
        excluded=excluded_volumes(pair.fixed, pair.moving, chain, inverse),
        bodies={part.name: motion_of(part, inverse if part.moving else chain, unit) for part in pair.bodies},
    )


def _compared(pair: LoadedPair, prepared: PreparedPair, chains: dict[str, Chain]) -> list[Compared]:
    """Similarity under two chains, ``"before"`` and ``"after"``; of several channels the weighted mean, then each."""
    if not prepared.channels:
        score = similarity_of(prepared.fixed, prepared.moving, pair.measures[0], chains)
        return [Compared(pair.measures[0], **score)]
    found = [
        Compared(each.similarity, **similarity_of(each.fixed, each.moving, each.similarity, chains))
        for each in prepared.channels
    ]
    name = "+".join(dict.fromkeys(pair.measures))
    before, after = (
        float(np.average([getattr(each, when) for each in found], weights=pair.weights)) for when in chains
    )
    return [Compared(name, before, after), *found]


def regularity(chain: Chain, inverse: Chain, fixed: Volume, factor: int) -> tuple[FoldingRecord, Distances]:
    """Folding, and inverse consistency: the round-trip error of points.

    Both are measured at the voxels of the finest level inside the content; the field is linear between them.
    """
    lattice = every(fixed, level_steps(fixed.grid, factor))
    content = lattice.values.cpu().numpy() > FAINT
    if not content.any():
        content[:] = True
    voxels = np.argwhere(content)
    points = lattice.grid.to_world(voxels[:: max(1, len(voxels) // COMPARED_POINTS)])
    error = metrics.inverse_consistency(chain, inverse, points)
    folding = FoldingRecord(**metrics.folding(chain, lattice.grid, content)._asdict())
    return folding, Distances(float(error.mean()), float(error.max()))


def warped_labels(fixed: Side, moving: Side, chain: Chain) -> np.ndarray | None:
    """The moving labels on the fixed grid by nearest neighbour, for scoring; None if a side has no labels.

    All tools support nearest neighbour. The written labels are smoother, see ``Result``.
    """
    if fixed.labels is None or moving.label_image is None:
        return None
    return resample(moving.label_image, fixed.image.grid, chain, "nearest", fill=0).data


def label_scores(
    fixed: Side, moving: Side, chain: Chain, warped: np.ndarray | None = None
) -> metrics.LabelScores | None:
    """Scores of each label present in both maps; None if a side has no labels.

    Args:
        fixed: the fixed side.
        moving: the moving side.
        chain: fixed world points → moving world points.
        warped: the moving labels on the fixed grid, if warped by another tool.
    """
    warped = warped_labels(fixed, moving, chain) if warped is None else warped
    if fixed.labels is None or moving.label_image is None or warped is None:
        return None
    names = metrics.common_labels(fixed.labels, moving.label_image.data)
    return metrics.label_scores(fixed.labels, warped, fixed.image.grid.spacing, names)


def overlap(fixed: Side, moving: Side, chain: Chain) -> dict[str, Any]:
    """Dice and HD95 by label, before and after registration; empty if a side has no labels."""
    out = {}
    for name, each in (("before", Chain()), ("after", chain)):
        scores = label_scores(fixed, moving, each)
        if scores is not None:
            out[f"dice_{name}"] = _by_label(scores.dice)
            out[f"hd95_mm_{name}"] = _by_label(scores.hd95)
    return out


def predicted_overlap(segmented: SegmentedPair | None, chains: Mapping[str, Chain]) -> dict[str, Any]:
    """Expected Dice by label under each chain; empty without segmentations."""
    if segmented is None:
        return {}
    return {f"predicted_dice_{name}": _by_label(segmented.overlap(chain)) for name, chain in chains.items()}


def landmark_error(fixed: Side, moving: Side, chain: Chain) -> dict[str, Any]:
    """Target registration error of landmarks in mm, before and after registration; empty without landmarks."""
    if fixed.points is None or moving.points is None:
        return {}
    points = fixed.points.coordinates, moving.points.coordinates
    out = {}
    for name, each in (("before", Chain()), ("after", chain)):
        error = metrics.tre(*points, each)
        out[f"tre_mm_{name}"] = Distances(float(error.mean()), by_point=error.tolist())
    return out


def excluded_volumes(fixed: Side, moving: Side, chain: Chain, inverse: Chain) -> dict[str, ExcludedVolume]:
    """The volumes of the excluded regions before and after, by ``"fixed"`` and ``"moving"``.

    Args:
        fixed: the fixed side.
        moving: the moving side.
        chain: fixed world points → moving world points.
        inverse: moving world points → fixed world points.
    """
    return {
        name: ExcludedVolume(*volumes_ml(side.excluded, side.image.grid, each))
        for name, side, each in (("fixed", fixed, chain), ("moving", moving, inverse))
        if side.excluded is not None
    }


def _by_label(scores: Mapping[int, float]) -> ByLabel:
    mean = float(np.mean(list(scores.values()))) if scores else None
    return ByLabel(mean, {str(label): score for label, score in scores.items()})
