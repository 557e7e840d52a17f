"""Gradient directions of diffusion series, in FSL's files, turned with the frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maxca.errors import MaxcaError
from maxca.geometry import Affine, Grid
from maxca.io.regular import read_bytes
from maxca.workflows.series.motion import rotation_of

LONGEST = 1.1  # a gradient direction has length 1, or 0 without weighting


def read_gradients(path: str | Path, count: int) -> np.ndarray:
    """(T, 3) directions of a ``.bvec`` file: three rows of as many numbers as frames, or as many rows of three.

    Args:
        path: the file.
        count: of frames.

    Raises:
        MaxcaError: for a file that is missing, or contains something else.
    """
    path = Path(path)
    try:
        rows = [line.split() for line in read_bytes(path).decode("utf-8-sig").splitlines() if line.strip()]
        values = np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise MaxcaError(f"{path}: not a table of numbers; give gradient directions as FSL has them (.bvec)") from error
    if values.shape not in ((3, count), (count, 3)):
        size = " x ".join(map(str, values.shape))
        raise MaxcaError(
            f"{path}: {size} numbers, but {count} frames need 3 x {count}; give the directions of this series"
        )
    found = values.T if values.shape[0] == 3 else values
    if not np.isfinite(found).all() or np.linalg.norm(found, axis=1).max() > LONGEST:
        raise MaxcaError(f"{path}: directions longer than 1; give unit vectors, and 0 0 0 without weighting")
    return np.asarray(found)


def turned(directions: np.ndarray, affines: Sequence[Affine], frames: Grid, reference: Grid) -> np.ndarray:
    """(T, 3) directions relative to the anatomy in the reference.

    FSL's directions are along the axes of the voxels, the first of which is reversed if the axes are right-handed.
    Source: Leemans and Jones, Magn. Reson. Med. 61(6), 2009.

    Args:
        directions: (T, 3) along the axes of the frames.
        affines: reference world points → frame world points.
        frames: their grid.
        reference: the grid of the corrected series.
    """
    to_world, back = _axes(frames), np.linalg.inv(_axes(reference))
    rotations = [rotation_of(affine) for affine in affines]
    return np.array([back @ turn.T @ to_world @ each for turn, each in zip(rotations, directions, strict=True)])


def write_gradients(directions: np.ndarray, path: Path) -> None:
    """Write three rows."""
    lines = [" ".join(f"{value:.10g}" for value in row + 0.0) for row in np.round(directions.T, 10)]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def _axes(grid: Grid) -> np.ndarray:
    """(3, 3) from directions in FSL's convention to world directions."""
    axes = np.array(grid.direction)
    if np.linalg.det(axes) > 0:
        axes[:, 0] *= -1
    return axes
