"""How an image is to be interpolated, and what lies outside its field of view, where nobody says it."""

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
# Share of a value's neighbours that differ from it, median over the values: at most 0.17 in label maps of brains,
# hearts, hippocampi and a heart valve, at least 0.93 in their images (docs/decisions/2026-11-26-label-maps.md).
DIFFERING = 0.65
MOST_LABELS = 4096
# A smooth image of few grey values has thin regions whose neighbours are the next value up or down. Of label maps those
# of vertebrae or layers are so too, but their regions are thick.
LEVELS = 12  # values: with no more an image is as good as a segmentation of itself
GRADED = 0.5  # share of differing neighbours that are the next value
THIN = 0.3  # share of a value's neighbours that differ from it
CONSTANT = 0.5  # share of the voxels on the faces of an image that have one value, for that to be its background


class Choice(NamedTuple):
    """An interpolation and why it was chosen."""

    interpolation: Interpolation
    reason: str


def choose(image: Image, wanted: InterpolationChoice = "auto") -> Choice:
    """The interpolation for an image: the one that is wanted, or ``"labels"`` for a label map and else ``"linear"``.

    Args:
        image: what will be resampled.
        wanted: ``"auto"`` recognises label maps: whole numbers, and an intent of labels in the NIfTI header, a file
            name that says so (BIDS ``_dseg``, ``_mask``), or values from 0 up that are constant over regions.

    Raises:
        MaxcaError: for an unknown interpolation.
    """
    if wanted not in CHOICES:
        raise MaxcaError(f"interpolation {wanted!r}: choose one of {', '.join(CHOICES)}")
    if wanted != "auto":
        return Choice(wanted, "as asked")
    if not _is_whole(image.data):
        return Choice("linear", "its values are not whole numbers")
    if image.intent in LABEL_INTENTS:
        return Choice("labels", "its header says that it holds labels")
    if image.path is not None and NAMED.search(image.path.name.removesuffix(full_suffix(image.path))):
        return Choice("labels", f"whole numbers, and the name {image.path.name}")
    if image.data.min() < 0:
        return Choice("linear", "it has negative values, and labels are numbers from 0 up")
    count, differing, graded = _regions(image.data)
    if count > LEVELS and graded > GRADED and differing > THIN:
        return Choice("linear", f"{count} whole numbers that rise and fall step by step")
    if count <= MOST_LABELS and differing < DIFFERING:
        return Choice("labels", f"{count} whole numbers, constant over regions")
    return Choice("linear", f"{count} whole numbers that change from voxel to voxel")


def background(image: Image) -> float:
    """What an image has outside the body: the value of most voxels on its faces, else the least if that is negative.

    0 where neither is there, as in most magnetic resonance images; −1024 in a computed tomogram.
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
    """As a number of Python, where an integer of any size is exact."""
    number: float = value.item()
    return number


def _is_whole(data: np.ndarray) -> bool:
    return data.dtype.kind in "iu" or bool((np.rint(data) == data).all())


def _regions(data: np.ndarray) -> tuple[int, float, float]:
    """How many values there are, the share of a value's neighbours that differ from it, and of these the next values.

    The most frequent value is left out, and the first share is the median over the values: air and padding around a CT
    image are constant, but the many values of its tissue are not.
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
