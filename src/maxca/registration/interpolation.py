"""Default interpolation of an image, and its value outside the field of view."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, get_args

import numpy as np

from maxca.errors import MaxcaError
from maxca.geometry import Interpolation
from maxca.io.atomic import full_suffix
from maxca.io.images import Image

InterpolationChoice = Literal["auto", "linear", "nearest", "labels", "bspline"]
CHOICES: tuple[InterpolationChoice, ...] = get_args(InterpolationChoice)
LABEL_INTENTS = (1002, 1005)  # NIfTI: LABEL, NEURONAME
NAMED = re.compile(r"(^|[_.-])(dseg|seg|segmentation|mask|labels?|parcellation|aseg|aparc.*|gt)$", re.IGNORECASE)
# Fraction of a value's neighbours that differ from it, median over the values: at most 0.17 in label maps of brains,
# hearts, hippocampi and a heart valve, at least 0.93 in their images (docs/decisions/2026-11-26-label-maps.md).
DIFFERING = 0.65
MOST_LABELS = 4096
# A smooth image of few grey values has thin regions adjacent to the next value up or down. This also holds for label
# maps of vertebrae or layers, but their regions are thick.
LEVELS = 12  # values: an image with at most this many is treated as a segmentation
GRADED = 0.5  # fraction of differing neighbours that have the next value
THIN = 0.3  # fraction of a value's neighbours that differ from it
CONSTANT = 0.5  # fraction of the voxels on the faces of an image with one value, for it to be the background


class Choice(NamedTuple):
    """An interpolation and the reason for it."""

    interpolation: Interpolation
    reason: str


def choose(image: Image, wanted: InterpolationChoice = "auto") -> Choice:
    """The interpolation of an image: as given, or ``"labels"`` for a label map and otherwise ``"linear"``.

    Args:
        image: to resample.
        wanted: ``"auto"`` detects label maps: integers, and a label intent in the NIfTI header, a file name such as
            BIDS ``_dseg`` or ``_mask``, or non-negative values that are constant over regions.

    Raises:
        MaxcaError: for an unknown interpolation.
    """
    if wanted not in CHOICES:
        raise MaxcaError(f"interpolation {wanted!r}: choose one of {', '.join(CHOICES)}")
    if wanted != "auto":
        return Choice(wanted, "as asked")
    if not _is_whole(image.data):
        return Choice("linear", "its values are not integers")
    if image.intent in LABEL_INTENTS:
        return Choice("labels", "its header declares labels")
    if image.path is not None and NAMED.search(image.path.name.removesuffix(full_suffix(image.path))):
        return Choice("labels", f"integers, and the name {image.path.name}")
    if image.data.min() < 0:
        return Choice("linear", "it has negative values, but labels are not negative")
    count, differing, graded = _regions(image.data)
    if count > LEVELS and graded > GRADED and differing > THIN:
        return Choice("linear", f"{count} integers that change gradually")
    if count <= MOST_LABELS and differing < DIFFERING:
        return Choice("labels", f"{count} integers, constant over regions")
    return Choice("linear", f"{count} integers that vary from voxel to voxel")


def background(image: Image) -> float:
    """Background value of an image: the most frequent one on its faces, otherwise the minimum if that is negative.

    Otherwise 0, as in most MR images; −1024 in a CT image.
    """
    faces = np.concatenate(
        [
            image.data.take(side, axis=axis).ravel()
            for axis, n in enumerate(image.data.shape)
            if n > 1
            for side in (0, -1)
        ]
        or [image.data.ravel()]
    )
    values, counts = np.unique(faces, return_counts=True)
    if counts.max() >= CONSTANT * faces.size:
        return _number(values[counts.argmax()])
    return min(0, _number(image.data.min()))


def _number(value: np.generic) -> float:
    """As a Python number, in which integers of any size are exact."""
    number: float = value.item()
    return number


def _is_whole(data: np.ndarray) -> bool:
    return data.dtype.kind in "iu" or bool((np.rint(data) == data).all())


def _regions(data: np.ndarray) -> tuple[int, float, float]:
    """Number of values, fraction of neighbours that differ, and fraction of these with the next value.

    The most frequent value is excluded, and the first fraction is the median over the values: air and padding around a
    CT image are constant, but the many values of its tissue are not.
    """
    values, rank, counts = np.unique(data, return_inverse=True, return_counts=True)
    rank = rank.reshape(data.shape)
    inside = rank != counts.argmax()
    pairs, differing = np.zeros(len(values)), np.zeros(len(values))
    steps = nexts = 0
    for axis, n in enumerate(data.shape):
        first, second = (slice(0, n - 1), slice(1, n))
        here, there = (tuple(s if a == axis else slice(None) for a in range(data.ndim)) for s in (first, second))
        both = inside[here] & inside[there]
        step = np.abs(rank[here] - rank[there])[both]
        steps += int(np.count_nonzero(step))
        nexts += int(np.count_nonzero(step == 1))
        other = rank[here] != rank[there]
        for side in (rank[here], rank[there]):
            pairs += np.bincount(side[both], minlength=len(values))
            differing += np.bincount(side[both & other], minlength=len(values))
    met = pairs > 0
    share = float(np.median(differing[met] / pairs[met])) if met.any() else 0.0
    return len(values), share, nexts / max(steps, 1)
