"""The affine part of a map."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from maxca.geometry.transforms import Affine

FLAT = 1e-6  # of the extent along the longest axis


def fitted_affine(points: Float[np.ndarray, "n 3"], moved: Float[np.ndarray, "n 3"]) -> Affine:
    """The affine that best fits a map in the least-squares sense.

    Args:
        points: world, mm. If they all lie in a plane or on a line, nothing is scaled or rotated across it.
        moved: their images under the map.

    Raises:
        ValueError: when their images all lie in one plane, but they do not.
    """
    _, extents, axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=len(points) < 3)
    extents = np.pad(extents, (0, 3 - len(extents)))
    known, ends = [points], [moved]
    for normal in axes[extents <= FLAT * extents[0]]:
        known.append(points + normal)
        ends.append(moved + normal)
    start = np.concatenate(known)
    matrix = np.eye(4)
    matrix[:3] = np.linalg.lstsq(np.column_stack([start, np.ones(len(start))]), np.concatenate(ends), rcond=None)[0].T
    return Affine(matrix)
