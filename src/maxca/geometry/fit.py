"""What part of a map is affine."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from maxca.geometry.transforms import Affine

FLAT = 1e-6  # of the extent along the longest axis


def fitted_affine(points: Float[np.ndarray, "n 3"], moved: Float[np.ndarray, "n 3"]) -> Affine:
    """The affine that comes nearest to a map, by least squares.

    Args:
        points: world, mm. Across a plane or a line that holds them all nothing is stretched or turned.
        moved: where the map takes them.

    Raises:
        ValueError: when they all end in one plane, but did not begin in one.
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
