"""Conversion of ITK's images and matrices, and of DICOM's grids, from and to LPS.

ITK's x and y point to the patient's left and posterior instead of right and anterior, so the first two components of
points, vectors and directions change their sign; those of transforms are converted in ``io/transforms``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from maxca.errors import MaxcaError
from maxca.geometry import Grid
from maxca.geometry.grid import SHEAR_TOLERANCE, triple

FLIP = np.array([-1.0, -1.0, 1.0])  # LPS ↔ RAS


def from_sitk(image: sitk.Image) -> tuple[np.ndarray, Grid]:
    """Voxels (I, J, K) and grid of a SimpleITK image of one component, 2-D or 3-D.

    Raises:
        ValueError: for invalid spacing or directions.
    """
    data = sitk.GetArrayFromImage(image).T
    grid = grid_from_sitk(image)
    return data.reshape(grid.shape), grid


def to_sitk(data: np.ndarray, grid: Grid, dimension: int = 3) -> sitk.Image:
    """A SimpleITK image of voxels (I, J, K) on a grid.

    Args:
        data: (I, J, K).
        grid: its grid.
        dimension: 2 for a 2-D image; a single slice oblique in world space becomes a 3-D one.

    Raises:
        MaxcaError: for a sheared grid, which ITK cannot represent.
    """
    refuse_shear(grid, "the image")
    flat = dimension == 2 and is_plane(grid)
    image = sitk.GetImageFromArray(data[:, :, 0].T if flat else data.T)
    n = 2 if flat else 3
    image.SetOrigin((grid.origin * FLIP)[:n].tolist())
    image.SetSpacing(grid.spacing[:n].tolist())
    image.SetDirection((grid.direction * FLIP[:, None])[:n, :n].ravel().tolist())
    return image


def grid_from_sitk(image: sitk.Image) -> Grid:
    """The grid of a 2-D or 3-D SimpleITK image; a 2-D one is at z = 0.

    Raises:
        ValueError: for invalid spacing or directions.
    """
    return grid_from_patient(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def grid_from_patient(
    size: Sequence[int], spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float]
) -> Grid:
    """A grid from its description in LPS coordinates, as in ITK and DICOM.

    Args:
        size: voxels per axis, two or three.
        spacing: mm per axis.
        origin: world position of the first voxel.
        direction: the matrix whose columns are the axes, row by row.

    Raises:
        ValueError: for invalid spacing or directions.
    """
    n = len(size)
    affine = np.eye(4)
    affine[:n, :n] = np.reshape(direction, (n, n)) * np.asarray(spacing)
    affine[:n, 3] = origin
    affine[:3] *= FLIP[:, None]
    if n == 2:
        affine[2, 2] = 1.0
    return Grid(triple([*size, 1][:3]), affine)


def flipped(matrix: np.ndarray) -> np.ndarray:
    """A (4, 4) map converted from RAS to LPS coordinates or back."""
    signs = np.append(FLIP, 1.0)
    return matrix * signs[:, None] * signs


def refuse_shear(grid: Grid, what: object) -> None:
    """Reject a grid that ITK cannot represent.

    Raises:
        MaxcaError: for axes that are not orthogonal.
    """
    if grid.is_sheared:
        raise MaxcaError(
            f"{what}: ITK cannot store a sheared grid; write an image as .nii.gz, and sample a transform on an image "
            "(maxca transform convert -r FIXED)"
        )


def is_plane(grid: Grid) -> bool:
    """Whether a grid is one slice perpendicular to z, like ITK's 2-D images, which have no position along z."""
    askew = np.abs(grid.direction[2, :2]).max() + np.abs(grid.direction[:2, 2]).max()
    return grid.shape[2] == 1 and bool(askew < SHEAR_TOLERANCE)
