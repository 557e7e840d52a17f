"""Images and matrices of ITK, and DICOM's grids: LPS, their world, in and out.

ITK's x and y point to the patient's left and back where ours point to the right and front, so points, vectors and
directions change the sign of their first two components on the way in and out; those of transforms do so in
``io/transforms``.
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
        ValueError: for spacing or directions that make no grid.
    """
    data = sitk.GetArrayFromImage(image).T
    grid = grid_from_sitk(image)
    return data.reshape(grid.shape), grid


def to_sitk(data: np.ndarray, grid: Grid, dimension: int = 3) -> sitk.Image:
    """A SimpleITK image of voxels (I, J, K) on a grid.

    Args:
        data: (I, J, K).
        grid: its grid.
        dimension: 2 for a 2-D image; a single slice that lies askew in world space becomes a 3-D one nevertheless.

    Raises:
        MaxcaError: for a sheared grid, which ITK cannot hold.
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
    """The grid of a 2-D or 3-D SimpleITK image; a 2-D one lies at z = 0.

    Raises:
        ValueError: for spacing or directions that make no grid.
    """
    return grid_from_patient(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def grid_from_patient(
    size: Sequence[int], spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float]
) -> Grid:
    """A grid from its description in the patient's LPS coordinates, as ITK and DICOM have it.

    Args:
        size: voxels per axis, two or three.
        spacing: mm per axis.
        origin: world position of the first voxel.
        direction: the matrix whose columns are the axes, row by row.

    Raises:
        ValueError: for spacing or directions that make no grid.
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
    """The same (4, 4) map between the other kind of coordinates: LPS for RAS, RAS for LPS."""
    signs = np.append(FLIP, 1.0)
    return matrix * signs[:, None] * signs


def refuse_shear(grid: Grid, what: object) -> None:
    """Refuse a grid that ITK cannot hold.

    Raises:
        MaxcaError: for axes that are not at right angles.
    """
    if grid.is_sheared:
        raise MaxcaError(
            f"{what}: ITK cannot hold a sheared grid; name an image .nii.gz, and sample a transform on an image "
            "(maxca transform convert -r FIXED)"
        )


def is_plane(grid: Grid) -> bool:
    """Whether a grid is one slice across z, as ITK's 2-D images are; they leave out where along z it lies."""
    askew = np.abs(grid.direction[2, :2]).max() + np.abs(grid.direction[:2, 2]).max()
    return grid.shape[2] == 1 and bool(askew < SHEAR_TOLERANCE)
