"""Checks of masks, labels and landmarks supplied by the user."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from maxca.geometry import Grid
from maxca.registration.masks import doubt_of
from maxca.report.verdict.check import Check, State, graded

if TYPE_CHECKING:
    from maxca.report.verdict.evidence import Registered

MISSED = 0.01  # Dice: up to here a label is missed
NOTABLE, LARGE = 2.0, 4.0  # voxels along each side: only labels at least this large count as missed
BENT = (0.05, 0.5)  # voxels
GAIN = (0.0, -0.02)  # of the mean Dice


def of_labels(case: Registered) -> Iterator[Check]:
    """Whether overlap improved, and whether a label was missed."""
    earlier, after = case.record.metrics.dice_before, case.record.metrics.dice_after
    if earlier is None or after is None or after.mean is None:
        return
    before, mean = earlier.mean or 0.0, after.mean
    told = f"mean Dice went from {before:.3f} to {mean:.3f}" + _guiding(case, "labels")
    if mean <= MISSED:
        yield Check(
            "labels", "failed", f"{told}: the labels do not overlap; check that both files use the same label values"
        )
    else:
        yield graded("labels", mean - before, *GAIN, told, "The registration reduced the overlap of the labels")
    sizes = _sides(case)
    known = {int(label): dice for label, dice in after.by_label.items() if dice is not None}
    if not known:
        return
    worst = min(known, key=lambda label: (known[label], -sizes.get(label, 0.0)))
    missed = [label for label, dice in known.items() if dice <= MISSED]
    largest = max((sizes.get(label, 0.0) for label in missed), default=0.0)
    state: State = "failed" if largest >= LARGE else "check" if largest >= NOTABLE else "aligned"
    named = case.record.label_names
    names = ", ".join(named.get(str(label), str(label)) for label in missed[:5])
    told = f"label {named.get(str(worst), str(worst))} has the lowest Dice, {known[worst]:.3f}"
    if state != "aligned":
        told += (
            f"; missed: {names}{', …' if len(missed) > 5 else ''}. Inspect it: left and right may be swapped, or the "
        )
        told += "structure beyond the capture range"
    yield Check("worst label", state, told)


def of_predicted_labels(case: Registered) -> Iterator[Check]:
    """Whether the overlap predicted by a segmentation model improved."""
    earlier, after = case.record.metrics.predicted_dice_before, case.record.metrics.predicted_dice_after
    if earlier is None or after is None or earlier.mean is None or after.mean is None:
        return
    told = f"the Dice predicted by the segmentation model went from {earlier.mean:.3f} to {after.mean:.3f}"
    reduced = "The registration reduced the overlap of the predicted labels"
    yield graded("predicted labels", after.mean - earlier.mean, *GAIN, told, reduced)


def of_masks(case: Registered) -> Iterator[Check]:
    """Whether the masks are plausible."""
    masks = [(name, side) for name, side in (("fixed", case.fixed), ("moving", case.moving)) if side.mask is not None]
    found = [(name, doubt_of(np.asarray(side.mask, dtype=bool), side.image)) for name, side in masks]
    doubts = [f"the {name} mask {doubt.text}" for name, doubt in found if doubt is not None]
    if doubts:
        yield Check("masks", "check", "; ".join(doubts))
    elif masks:
        yield Check("masks", "aligned", "they cover most of the foreground")


def of_bodies(case: Registered) -> Iterator[Check]:
    """Whether the transform is rigid in the bodies."""
    bodies = case.record.metrics.bodies
    if not bodies:
        return
    worst = max(bodies, key=lambda name: bodies[name].departure_voxels)
    yield graded(
        "bodies",
        bodies[worst].departure_voxels,
        *BENT,
        f"the transform departs from the motion of each part by at most {bodies[worst].departure_voxels:.2g} voxels "
        f"({worst})",
        "Two parts may move against each other in too little space: leave a wider gap between them",
    )


def _guiding(case: Registered, kind: str) -> str:
    guiding = any(each.kind == kind for each in case.record.guidance)
    return f" ({kind} that guided the registration)" if guiding else ""


def _sides(case: Registered) -> dict[int, float]:
    """Side in voxels of a cube with the volume of each label; the smaller one of the two images."""
    sides: dict[int, float] = {}
    for side in (case.fixed, case.moving):
        if side.labels is None:
            return {}
        labels, counts = np.unique(side.labels, return_counts=True)
        found = {int(a): float(n) ** (1 / _axes(side.image.grid)) for a, n in zip(labels, counts, strict=True)}
        sides = {a: min(n, sides[a]) for a, n in found.items() if a in sides} if sides else found
    return sides


def _axes(grid: Grid) -> int:
    return max(1, 3 - len(grid.thin_axes))


def of_points(case: Registered) -> Iterator[Check]:
    """Whether the distance between corresponding landmarks decreased."""
    errors = case.record.metrics.tre_mm_before, case.record.metrics.tre_mm_after
    if errors[0] is None or errors[1] is None:
        return
    before, after = errors[0].mean, errors[1].mean
    worst = max(errors[1].by_point or [after])
    # An error below a voxel is within the accuracy of manual placement, even if it increased.
    voxel = max(side.image.grid.largest_spacing for side in (case.fixed, case.moving))
    farther = max(0.0, after - max(before, voxel)) / voxel
    yield graded(
        "landmarks",
        farther,
        0.0,
        1.0,
        f"the mean error went from {before:.3g} to {after:.3g} mm, with a largest of {worst:.3g} mm "
        f"and voxels of {voxel:.3g} mm" + _guiding(case, "points"),
        "The registration increased their distance: check that both files use the same points and coordinate system",
    )
