"""Validation of masks, which restrict the similarity to a region."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from maxca.engine.volume import brightness
from maxca.errors import MaxcaError
from maxca.io.images import Image

LEAST_EXTENT = 4  # voxels of a mask along each axis: fewer are not sufficient for a registration
FEW = 0.03  # fraction of the foreground covered by a mask: less is a lesion; a heart in its slices is 0.08
HARDLY, DARK = 0.1, 0.1  # of the foreground, and of the voxels of the mask with foreground: less is background
LEFT_OUT = (
    0.3  # fraction of the foreground outside a mask that contains the background: a lesion of 30 mm is 0.06 of a head
)
BACKGROUND = 0.9  # fraction of the background in a mask: more counts as all of it


def mask_of(image: Image, name: str, scan: Image) -> tuple[np.ndarray, tuple[str, ...]]:
    """The voxels of a mask, and warnings about it.

    Args:
        image: the mask, on the grid of its image.
        name: ``"fixed"`` or ``"moving"``, for messages.
        scan: its image.

    Raises:
        MaxcaError: for a mask that is empty, too small, or covers only the background.
    """
    mask = image.data != 0
    if not mask.any():
        raise MaxcaError(f"{image.name}: the {name} mask is empty; mark the region to register with non-zero voxels")
    found = np.argwhere(mask)
    extent = found.max(axis=0) - found.min(axis=0) + 1
    short = [axis for axis, n in enumerate(mask.shape) if extent[axis] < min(n, LEAST_EXTENT)]
    if short:
        size = "x".join(map(str, extent))
        raise MaxcaError(
            f"{image.name}: the {name} mask covers {len(found)} voxels, {size} along the axes, too few to "
            f"register; mark a region of at least {LEAST_EXTENT} voxels along each axis, or remove the mask"
        )
    soft: tuple[str, ...] = ()
    if image.data.dtype.kind == "f" and (count := int(np.count_nonzero(np.rint(image.data) != image.data))):
        soft = (
            f"{image.name}: the {name} mask has {count} voxels with fractions, and all non-zero voxels are used; "
            "threshold it if it contains probabilities",
        )
    doubt = doubt_of(mask, scan)
    if doubt is None:
        return mask, soft
    text = f"{image.name}: the {name} mask {doubt.text}"
    if doubt.nothing:
        raise MaxcaError(text)
    return mask, (*soft, text)


class Doubt(NamedTuple):
    """A problem of a mask.

    Args:
        text: a sentence about it.
        nothing: whether a registration is impossible.
    """

    text: str
    nothing: bool


def doubt_of(mask: np.ndarray, scan: Image) -> Doubt | None:
    """A problem of a mask: it covers the background alone, seems inverted, or covers hardly anything.

    Args:
        mask: (I, J, K) bool.
        scan: its image.
    """
    values = brightness(scan.data)
    share = float(values[mask].sum() / values.sum())
    covers = f"covers {np.count_nonzero(mask)} voxels"
    if not values[mask].any() or (share < HARDLY and (values[mask] > 0).mean() < DARK):
        return Doubt(
            f"{covers}, which are only the background of {scan.name}; it must be non-zero where the similarity is "
            "computed, so invert it if necessary",
            True,
        )
    background = values == 0
    if 1 - share > LEFT_OUT and np.count_nonzero(mask & background) > BACKGROUND * np.count_nonzero(background):
        return Doubt(
            f"{covers}, including the background, and excludes {100 * (1 - share):.0f} % of the foreground of "
            f"{scan.name}; invert it if necessary: it must be non-zero where the similarity is computed",
            False,
        )
    shown = np.count_nonzero(values[mask]) / np.count_nonzero(values)  # more for dark lungs
    if max(share, shown) < FEW:
        return Doubt(
            f"{covers}, {100 * share:.2g} % of the foreground of {scan.name}, and only they are used; to exclude a "
            "lesion instead, invert the mask: it must be non-zero where the similarity is computed",
            False,
        )
    return None
