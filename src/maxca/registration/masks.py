"""Masks that say where the similarity counts: enough to align by, and not the opposite of what is meant."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from maxca.engine.volume import brightness
from maxca.errors import MaxcaError
from maxca.io.images import Image

LEAST_EXTENT = 4  # voxels of a mask along each axis: fewer hold nothing to align by
FEW = 0.03  # share of the content of an image that a mask covers: less is a lesion; a heart in its slices is 0.08
HARDLY, DARK = 0.1, 0.1  # of the content, and of the voxels of the mask that show anything: less is background
LEFT_OUT = 0.3  # share of the content outside a mask that holds the background: a lesion of 30 mm is 0.06 of a head
BACKGROUND = 0.9  # share of the background that a mask holds: more is all of it


def mask_of(image: Image, name: str, scan: Image) -> tuple[np.ndarray, tuple[str, ...]]:
    """Where a mask is not zero, and warnings about what it covers.

    Args:
        image: the mask, on the grid of its image.
        name: ``"fixed"`` or ``"moving"``, for messages.
        scan: its image.

    Raises:
        MaxcaError: for a mask that is empty, too small to align by, or covers only the background.
    """
    mask = image.data != 0
    if not mask.any():
        raise MaxcaError(f"{image.name}: the {name} mask is empty; mark the region to align with non-zero voxels")
    found = np.argwhere(mask)
    extent = found.max(axis=0) - found.min(axis=0) + 1
    short = [axis for axis, n in enumerate(mask.shape) if extent[axis] < min(n, LEAST_EXTENT)]
    if short:
        size = "x".join(map(str, extent))
        raise MaxcaError(
            f"{image.name}: the {name} mask covers {len(found)} voxels, {size} along the axes, too few to align by; "
            f"mark a region of at least {LEAST_EXTENT} voxels along each axis, or leave the mask out"
        )
    soft: tuple[str, ...] = ()
    if image.data.dtype.kind == "f" and (count := int(np.count_nonzero(np.rint(image.data) != image.data))):
        soft = (
            f"{image.name}: the {name} mask has {count} voxels between whole numbers, and all that are not 0 count; "
            "threshold it if it holds probabilities",
        )
    doubt = doubt_of(mask, scan)
    if doubt is None:
        return mask, soft
    text = f"{image.name}: the {name} mask {doubt.text}"
    if doubt.nothing:
        raise MaxcaError(text)
    return mask, (*soft, text)


class Doubt(NamedTuple):
    """Why a mask is hardly what was meant.

    Args:
        text: a sentence about it.
        nothing: whether there is nothing to align by.
    """

    text: str
    nothing: bool


def doubt_of(mask: np.ndarray, scan: Image) -> Doubt | None:
    """What speaks against a mask: that it covers the background alone, seems inverted, or covers hardly anything.

    Args:
        mask: (I, J, K) bool.
        scan: its image.
    """
    values = brightness(scan.data)
    share = float(values[mask].sum() / values.sum())
    covers = f"covers {np.count_nonzero(mask)} voxels"
    if not values[mask].any() or (share < HARDLY and (values[mask] > 0).mean() < DARK):
        return Doubt(
            f"{covers}, which are only the background of {scan.name}; it is to be non-zero where the image counts, so "
            "invert it if it was drawn the other way round",
            True,
        )
    background = values == 0
    if 1 - share > LEFT_OUT and np.count_nonzero(mask & background) > BACKGROUND * np.count_nonzero(background):
        return Doubt(
            f"{covers}, the background among them, and leaves out {100 * (1 - share):.0f} % of what {scan.name} shows; "
            "if it was meant the other way round, invert it: non-zero is what counts",
            False,
        )
    shown = np.count_nonzero(values[mask]) / np.count_nonzero(values)  # of dark lungs this is more
    if max(share, shown) < FEW:
        return Doubt(
            f"{covers}, {100 * share:.2g} % of what {scan.name} shows, and only they count; to leave a lesion out "
            "instead, invert the mask: non-zero is what counts",
            False,
        )
    return None
