"""A small grid that is oblique and anisotropic, as scans are."""

from __future__ import annotations

import numpy as np

from maxca.geometry import Grid

OBLIQUE = np.array([[-0.9, 0.3, 0.2, 12.0], [0.28, 1.1, -0.4, -30.0], [-0.11, 0.31, 2.4, 7.0], [0, 0, 0, 1]])


def upright(matrix: np.ndarray) -> np.ndarray:
    """The nearest matrix with the same spacing and axes at right angles."""
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    u, _, v = np.linalg.svd(matrix[:3, :3] / spacing)
    out = matrix.copy()
    out[:3, :3] = u @ v * spacing
    return out


GRID = Grid((5, 6, 7), upright(OBLIQUE))
