"""Parts of a tractogram that are in memory at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

AT_ONCE = 200_000  # points in memory
Map = Callable[[np.ndarray], np.ndarray]  # (N, 3) → (N, 3)


class Damaged(ValueError):
    """Raised with the reason for which a tractogram cannot be read, and what to do."""


def checked(points: np.ndarray) -> np.ndarray:
    """The same points in float64.

    Raises:
        Damaged: if one is not finite.
    """
    if not np.isfinite(points).all():
        raise Damaged("a point of a streamline is not a finite number; export it again")
    return points.astype(np.float64)
