"""Images and maps for the tests of other tools' transforms, computed from definitions, without the package's code.

All maps lead from fixed to moving world points, RAS+ mm.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from maxca.geometry import Grid

TURN = Rotation.from_euler("xyz", (14, -9, 21), degrees=True).as_matrix()
DIRECTIONS = {
    "RAS": np.eye(3),
    "LAS": np.diag([-1.0, 1, 1]),
    "LPS": np.diag([-1.0, -1, 1]),
    "PIR": np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]]),
    "oblique": TURN,
    "oblique LAS": TURN @ np.diag([-1.0, 1, 1]),
}
FIXED_SHAPE, FIXED_SPACING = (17, 15, 13), (2.0, 2.5, 3.0)
MOVING_SHAPE, MOVING_SPACING = (16, 19, 14), (2.2, 1.9, 2.6)
AFFINE = np.array([[1.06, 0.08, -0.03, 2.5], [-0.06, 0.94, 0.07, -3.0], [0.02, -0.05, 1.03, 1.5], [0, 0, 0, 1]])


def matrix(kind: str, shape: tuple[int, ...], spacing: tuple[float, ...], middle: tuple[float, ...]) -> np.ndarray:
    """Voxels to world of an image of a kind of ``DIRECTIONS`` around a point."""
    out = np.eye(4)
    out[:3, :3] = DIRECTIONS[kind] * spacing
    out[:3, 3] = np.array(middle) - out[:3, :3] @ ((np.array(shape) - 1) / 2)
    return out


def grids(kind: str, other: str | None = None) -> tuple[Grid, Grid]:
    """A fixed and a moving grid of different sizes; the moving one of another kind if given."""
    fixed = matrix(kind, FIXED_SHAPE, FIXED_SPACING, (3.0, -4.0, 6.0))
    moving = matrix(other or kind, MOVING_SHAPE, MOVING_SPACING, (4.0, -6.0, 8.0))
    return Grid(FIXED_SHAPE, fixed), Grid(MOVING_SHAPE, moving)


def images(folder: Path, kind: str, other: str | None = None) -> tuple[Path, Path]:
    """Both images as files."""
    paths = folder / "fixed.nii.gz", folder / "moving.nii.gz"
    for path, grid in zip(paths, grids(kind, other), strict=True):
        image = nib.Nifti1Image(volume(grid), grid.affine)
        image.set_sform(grid.affine, 1)
        image.set_qform(grid.affine, 1)
        nib.save(image, path)
    return paths


def volume(grid: Grid) -> np.ndarray:
    """A smooth image in 0…1 that depends on world positions only."""
    x, y, z = np.moveaxis(nodes(grid), -1, 0)
    return (0.5 + 0.5 * np.sin(x / 7) * np.cos(y / 6 + 1) * np.sin(z / 8 + 0.5)).astype(np.float32)


def mapped(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (…, 3) through a (4, 4) matrix."""
    return points @ affine[:3, :3].T + affine[:3, 3]


def nodes(grid: Grid) -> np.ndarray:
    """(I, J, K, 3) world positions."""
    return mapped(grid.affine, np.moveaxis(np.indices(grid.shape), 0, -1).astype(float))


def bend(points: np.ndarray) -> np.ndarray:
    """A smooth deformation, with an affine part."""
    x, y, z = np.moveaxis(points, -1, 0)
    wave = np.stack([np.sin(y / 9), np.cos(z / 10 + x / 15), np.sin(x / 8 - z / 12)], axis=-1)
    return mapped(AFFINE, points) + 1.5 * wave


def inner_points(grid: Grid, count: int = 200) -> np.ndarray:
    """Nodes of a grid that are not at its border: there a field stores the map exactly."""
    inside = nodes(grid)[1:-1, 1:-1, 1:-1].reshape(-1, 3)
    return np.random.default_rng(0).permutation(inside)[:count]


def resampled(values: np.ndarray, moving: Grid, points: np.ndarray) -> np.ndarray:
    """Linear interpolation of an image at world points; NaN outside."""
    index = mapped(np.linalg.inv(moving.affine), points)
    return ndimage.map_coordinates(values, np.moveaxis(index, -1, 0), order=1, cval=np.nan)
