"""Label maps as whole numbers."""

from __future__ import annotations

import numpy as np

from maxca.errors import MaxcaError
from maxca.io.images import Image

LARGEST_LABEL = 2**53  # up to here every whole number has a float64 of its own


def as_labels(image: Image) -> np.ndarray:
    """Voxels as whole numbers.

    Raises:
        MaxcaError: when a voxel is not a whole number.
    """
    if np.issubdtype(image.data.dtype, np.integer):
        return image.data
    rounded = np.rint(image.data)
    if not np.allclose(rounded, image.data, rtol=0, atol=1e-3):
        raise MaxcaError(f"{image.name}: labels must be whole numbers; pass an image of labels, not of intensities")
    largest = float(np.abs(rounded).max())
    if largest > LARGEST_LABEL:
        raise MaxcaError(
            f"{image.name}: labels up to {largest:.3g}, which a float cannot tell apart; use an integer type"
        )
    return rounded.astype(np.int32 if largest <= np.iinfo(np.int32).max else np.int64)


def labels_of(image: Image) -> np.ndarray:
    """The labels of a side of a pair, from 0 up.

    Raises:
        MaxcaError: for numbers that are not whole, or negative.
    """
    labels = as_labels(image)
    if labels.dtype.kind == "i" and labels.min() < 0:
        raise MaxcaError(
            f"{image.name}: holds the label {labels.min()}, and labels are whole numbers from 0, the background, up; "
            "give that region another number"
        )
    return labels
