"""Label maps as integers."""

from __future__ import annotations

import numpy as np

from maxca.errors import MaxcaError
from maxca.io.images import Image

LARGEST_LABEL = 2**53  # integers up to here are exact in float64


def as_labels(image: Image) -> np.ndarray:
    """Voxels as integers.

    Raises:
        MaxcaError: if a voxel is not an integer.
    """
    if np.issubdtype(image.data.dtype, np.integer):
        return image.data
    rounded = np.rint(image.data)
    if not np.allclose(rounded, image.data, rtol=0, atol=1e-3):
        raise MaxcaError(f"{image.name}: labels must be integers; pass an image of labels, not of intensities")
    largest = float(np.abs(rounded).max())
    if largest > LARGEST_LABEL:
        raise MaxcaError(
            f"{image.name}: labels up to {largest:.3g}, beyond the precision of its type; use an integer type"
        )
    return rounded.astype(np.int32 if largest <= np.iinfo(np.int32).max else np.int64)


def labels_of(image: Image) -> np.ndarray:
    """The labels of a side of a pair.

    Raises:
        MaxcaError: for negative or non-integer values.
    """
    labels = as_labels(image)
    if labels.dtype.kind == "i" and labels.min() < 0:
        raise MaxcaError(
            f"{image.name}: contains the label {labels.min()}, but labels are integers from 0 (background) up; "
            "use another value for that region"
        )
    return labels
