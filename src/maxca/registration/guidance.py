"""What a user knows of both images, as terms that guide the deformation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from maxca.engine.labels import LabelTerm, label_vectors
from maxca.engine.points import PointTerm
from maxca.engine.settings import Settings
from maxca.engine.terms import Guide
from maxca.engine.volume import Volume, steps_within
from maxca.fields import OptionError
from maxca.geometry import Affine, Chain, Grid
from maxca.io.images import Image
from maxca.io.label_table import LabelEntry
from maxca.metrics import common_labels
from maxca.registration.correspondence import PointPair, point_pair
from maxca.registration.inputs import Side
from maxca.registration.record import GuidanceRecord

POINT_SHARE = 0.5
LABEL_SHARE = 0.2  # of the force; see docs/decisions/2026-11-27-guidance.md
COVERED = 0.5  # of a label that one image lacks: from here on, other labels cover it there
SHOWN = 5  # most labels in a message


class LabelPair(NamedTuple):
    """The label maps of both images.

    Args:
        fixed: labels of the fixed image, on any grid.
        moving: labels of the moving image, on any grid.
        used: values of both, without background.
        ignored: all others without background: of one map alone, or of weight 0.
        alone: values of one map alone.
        weights: of those used, at most 1.
    """

    fixed: Image
    moving: Image
    used: tuple[int, ...]
    ignored: tuple[int, ...]
    alone: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Guidance:
    """What guides a registration.

    Args:
        labels: None if they do not.
        points: None if they do not.
    """

    labels: LabelPair | None = None
    points: PointPair | None = None

    @property
    def given(self) -> bool:
        """Whether anything guides."""
        return self.labels is not None or self.points is not None

    @property
    def warnings(self) -> list[str]:
        """What is ignored."""
        warnings = []
        if self.labels is not None and self.labels.alone:
            warnings.append(f"labels of one image alone do not guide: {_listed(self.labels.alone)}")
        if self.points is not None and self.points.start() is None:
            warnings.append("the affine does not start from the landmarks: fewer than three, or on a line")
        return warnings

    def records(self, found: Sequence[float]) -> list[GuidanceRecord]:
        """For ``result.json``.

        Args:
            found: the distance of each landmark after registration, mm; empty without landmarks on both sides.
        """
        records = []
        if self.labels is not None:
            used, ignored = ([str(label) for label in labels] for labels in (self.labels.used, self.labels.ignored))
            records.append(GuidanceRecord("labels", LABEL_SHARE, used, ignored))
        if self.points is not None:
            records.append(GuidanceRecord("points", POINT_SHARE, self.points.names, [], self.points.suspected(found)))
        return records

    def start(self, known: Chain, *, rigid: bool, seed: int) -> Affine | None:
        """The affine between the landmarks, fixed world points → moving world points of the prepared images, if any.

        Args:
            known: an initial transform that the prepared moving image already has, see ``PreparedPair``.
            rigid: no scaling or shear.
            seed: see ``geometry.landmarks.robust_affine``.
        """
        return None if self.points is None else self.points.before(known).start(rigid=rigid, seed=seed)

    def terms(self, affine: Affine, known: Chain, fixed: Grid, settings: Settings, device: torch.device) -> list[Guide]:
        """The terms of the deformation.

        Args:
            affine: fixed world points → moving world points of the prepared images, applied after the field.
            known: an initial transform that the prepared moving image already has, see ``PreparedPair``.
            fixed: grid of the prepared fixed image.
            settings: of the optimisation.
            device: of the terms.
        """
        guides = []
        if self.labels is not None and settings.levels:
            finest = settings.levels[-1]
            mm = finest.nodes * finest.factor * fixed.smallest_spacing
            both = _vectors(self.labels, known @ Chain((affine,)), mm, device)
            both = both[0], _moved(both[1], known, fixed)
            guides.append(Guide(LabelTerm(*both, affine, even=True), LABEL_SHARE, compared="largest"))
        if self.points is not None:
            points = self.points.before(known)
            term = PointTerm(points.fixed, points.moving, affine, points.weights)
            guides.append(Guide(term, POINT_SHARE, compared="unit"))
        return guides


def read_guidance(
    names: tuple[str, ...], fixed: Side, moving: Side, table: Mapping[int, LabelEntry] | None = None
) -> Guidance:
    """What guides a registration.

    Args:
        names: of ``options.GUIDES``.
        fixed: the fixed side.
        moving: the moving side.
        table: weights of labels by number, if any.

    Raises:
        OptionError: if a side lacks what should guide, or both have nothing in common.
    """
    return Guidance(
        _label_pair(fixed, moving, table or {}) if "labels" in names else None,
        point_pair(fixed, moving) if "points" in names else None,
    )


def _moved(vectors: Volume, known: Chain, fixed: Grid) -> Volume:
    """Vectors of the moving image under a known transform, on the grid of the prepared images."""
    if not known.steps:
        return vectors
    channels = known.resample(vectors.channels, vectors.grid, fixed)
    mask = None if vectors.mask is None else known.resample(vectors.mask[None], vectors.grid, fixed)[0]
    return Volume(channels, fixed, mask)


def _label_pair(fixed: Side, moving: Side, table: Mapping[int, LabelEntry]) -> LabelPair:
    ours, theirs = fixed.label_image, moving.label_image
    if ours is None or theirs is None:
        raise OptionError("guide", "labels", "needs labels of both images, fixed_labels and moving_labels")
    common = common_labels(ours.data, theirs.data)
    if not common:
        raise OptionError(
            "guide", "labels", f"{ours.name} and {theirs.name} have no label in common, except background"
        )
    given = {label: table[label].weight if label in table else 1.0 for label in common}
    used = [label for label in common if given[label] > 0]
    if not used:
        raise OptionError("guide", "labels", "all labels have the weight 0 in the label_table")
    every = {int(label) for each in (ours, theirs) for label in np.unique(each.data)} - {0}
    ignored, alone = (tuple(sorted(every.difference(kept))) for kept in (used, common))
    weights = tuple(given[label] / max(given.values()) for label in used)
    return LabelPair(ours, theirs, tuple(used), ignored, alone, weights)


def _vectors(labels: LabelPair, chain: Chain, mm: float, device: torch.device) -> tuple[Volume, Volume]:
    """Both label maps as vectors about ``mm`` apart.

    Args:
        labels: both maps.
        chain: fixed world points → moving world points, approximately.
        mm: distance of the vectors.
        device: of the result.
    """
    grids = labels.fixed.grid, labels.moving.grid
    fixed, moving = (_classes(image.data, labels.used).to(device) for image in (labels.fixed, labels.moving))
    if labels.ignored:
        inverse = chain.inverse()[0]
        fixed, moving = (
            _without_covered(fixed, chain.resample((moving > 0)[None], grids[1], grids[0], "nearest")[0]),
            _without_covered(moving, inverse.resample((fixed > 0)[None], grids[0], grids[1], "nearest")[0]),
        )
    count = len(labels.used) + 1
    first, second = (
        label_vectors(classes, grid, count, steps_within(grid, mm))
        for classes, grid in zip((fixed, moving), grids, strict=True)
    )
    if len(set(labels.weights)) == 1:
        return first, second
    there = chain.resample(moving[None].int(), grids[1], first.grid, "nearest")[0]
    here = Chain().resample(fixed[None].int(), grids[0], first.grid, "nearest")[0]
    weights = _weights((here, there), labels.weights, first.grid)
    return replace(first, mask=weights if first.mask is None else weights * first.mask), second


def _weights(classes: tuple[torch.Tensor, torch.Tensor], weights: tuple[float, ...], grid: Grid) -> torch.Tensor:
    """(I, J, K) weight of the nearest label of either map; the larger one where they differ.

    Args:
        classes: (I, J, K), see ``_classes``, of both maps on ``grid``.
        weights: of the labels from 1.
        grid: of the result.
    """
    known = torch.tensor([0.0, *weights], device=classes[0].device)
    found = torch.maximum(*(known[each.clamp(min=0).long()] for each in classes)).cpu().numpy()
    nearest = distance_transform_edt(found == 0, sampling=grid.spacing, return_distances=False, return_indices=True)
    return torch.from_numpy(found[tuple(nearest)]).to(classes[0].device)


def _classes(data: np.ndarray, used: tuple[int, ...]) -> torch.Tensor:
    """Index of each label, from 1 in the order of ``used``; 0 for background, and from -1 downwards for others."""
    names, index = np.unique(data, return_inverse=True)
    numbers = {label: number for number, label in enumerate(used, 1)} | {0: 0}
    others = iter(range(-1, -len(names) - 1, -1))
    table = np.array([numbers[int(name)] if int(name) in numbers else next(others) for name in names], dtype=np.int32)
    return torch.from_numpy(table[index.reshape(data.shape)])


def _without_covered(classes: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Labels of one image alone become unknown where other labels cover them in the other image, else background.

    In an image with few labels, the place of a label that it lacks is background.

    Args:
        classes: (I, J, K), see ``_classes``.
        drawn: (I, J, K) bool: labelled in the other image.
    """
    alone = -classes.clamp(max=0).long()
    count = torch.bincount(alone.flatten())
    covered = torch.bincount(alone.flatten(), weights=drawn.flatten().double()) > COVERED * count
    unknown = torch.where(covered[alone], -1, 0).to(classes)
    return torch.where(classes < 0, unknown, classes)


def _listed(labels: tuple[int, ...]) -> str:
    return ", ".join(map(str, labels[:SHOWN])) + (", …" if len(labels) > SHOWN else "")
