"""AFNI's transforms: ``.aff12.1D`` of 3dAllineate and 3dvolreg, and warp fields of 3dQwarp, LPS mm, fixed to moving.

AFNI ignores the obliquity of images: its coordinates are those of an image whose axes are turned to the nearest axes of
the patient, about its first voxel ("cardinal" coordinates). The grids of both images are therefore needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Extension

from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, Grid
from maxca.io.itk import FLIP, flipped
from maxca.io.nifti import load_nifti, nifti_grid
from maxca.io.nifti_writing import as_nifti, save_as_it_is
from maxca.io.transforms.frames import Frames, affine_between, chain_between, matrix_between, vectors_between
from maxca.io.transforms.text import require_last_line

EXTENSION = 4  # code of AFNI's NIfTI extension
OBLIQUE = np.radians(0.01)  # AFNI's threshold of obliquity
LARGEST = 1_000_000  # bytes of a file of matrices
EMPTY = b"<?xml version='1.0' ?>\n<AFNI_attributes ni_form=\"ni_group\">\n</AFNI_attributes>\n"


def parse_1d(content: bytes, images: tuple[Grid, Grid] | None, row: int | None = None) -> Affine:
    """The affine, fixed → moving world points, of a file with one matrix: 12 numbers, or three rows of four.

    Args:
        content: of the file.
        images: the grids of the fixed and the moving image.
        row: the matrix of a series, from 0; required for several.

    Raises:
        ValueError: for other content, several matrices, or unknown images.
    """
    matrices = _matrices(content)
    if row is None and len(matrices) > 1:
        raise ValueError(
            f"{len(matrices)} matrices of AFNI, one per volume of a series; select one, counted from 0: THIS_FILE{{0}}"
        )
    if row is not None and row >= len(matrices):
        raise ValueError(f"it has {len(matrices)} matrices, so there is no {{{row}}}; the first one is {{0}}")
    if images is None:
        raise ValueError(
            "AFNI's coordinates depend on its two images, which are not both known here; convert it first: maxca "
            "transform convert THIS_FILE --fixed FIXED --moving MOVING -o affine.tfm"
        )
    return affine_between(flipped(matrices[row or 0]), _frames(*images))


def count_1d(content: bytes) -> int:
    """The number of matrices in a file.

    Raises:
        ValueError: for other content.
    """
    return len(_matrices(content))


def _matrices(content: bytes) -> list[np.ndarray]:
    """The (4, 4) matrices of a file, LPS mm."""
    if len(content) > LARGEST or b"\0" in content:
        raise ValueError("not a matrix of AFNI")
    text = content.decode("latin-1")
    lines = [line.split("#")[0].split() for line in text.splitlines()]
    rows = [row for row in lines if row]
    try:
        numbers = [[float(word) for word in row] for row in rows]
    except ValueError as error:
        raise ValueError("not a matrix of AFNI, or damaged: one of its words is not a number") from error
    require_last_line(text)
    if rows and all(len(row) == 12 for row in rows):
        return [np.vstack([np.reshape(row, (3, 4)), [0, 0, 0, 1]]) for row in numbers]
    if [len(row) for row in rows] == [4, 4, 4]:
        return [np.vstack([numbers, [0, 0, 0, 1]])]
    raise ValueError("not a matrix of AFNI, or truncated: it has 12 numbers in one row, or three rows of four")


def write_1d(affine: Affine, path: Path, images: tuple[Grid, Grid]) -> None:
    """Write an affine as 3dAllineate's ``-1Dmatrix_save``: 12 numbers in one row."""
    numbers = flipped(matrix_between(affine, _frames(*images)))[:3].ravel()
    row = " ".join(f"{number:.12g}" for number in numbers)
    path.write_text(f"# 3dAllineate matrices (DICOM-to-DICOM, row-by-row):\n{row}\n", encoding="ascii")


def is_afni(nifti: Any) -> bool:
    """Whether a NIfTI file was written by AFNI, from its extension."""
    return any(extension.get_code() == EXTENSION for extension in nifti.header.extensions)


def read_qwarp(nifti: Any, path: Path, images: tuple[Grid, Grid] | None) -> Chain:
    """The chain, fixed → moving world points, of a field of 3dQwarp or 3dNwarpCat on the grid of the fixed image.

    Raises:
        MaxcaError: for a dataset that is no field, or an oblique one without its images.
    """
    shape = tuple(nifti.shape)
    if len(shape) != 5 or shape[3:] != (1, 3):
        raise MaxcaError(f"{path}: a dataset of AFNI of shape {shape}, not a warp (X, Y, Z, 1, 3); pass …_WARP.nii")
    grid = nifti_grid(nifti, path)
    if images is None and is_oblique(grid):
        raise MaxcaError(
            f"{path}: an oblique warp of AFNI, whose coordinates depend on its two images; convert it first: maxca "
            "transform convert THIS_FILE --fixed FIXED --moving MOVING -o warp.h5"
        )
    vectors = load_nifti(nifti, path)[:, :, :, 0].astype(np.float64) * FLIP
    # 3dQwarp requires that both images have one grid.
    return chain_between(vectors, grid, _frames(grid, images[1] if images else grid))


def write_qwarp(chain: Chain, path: Path, grid: Grid, images: tuple[Grid, Grid]) -> None:
    """Write a chain as a warp for 3dNwarpApply, on a grid in fixed space."""
    vectors = vectors_between(chain, grid, _frames(grid, images[1])) * FLIP
    nifti = as_nifti(vectors[:, :, :, None].astype(np.float32), grid, intent="vector")
    nifti.header.extensions.append(Nifti1Extension(EXTENSION, EMPTY))
    save_as_it_is(nifti, path)


def is_oblique(grid: Grid) -> bool:
    """Whether an axis of a grid deviates from the nearest axis of the patient by more than AFNI tolerates."""
    return bool(np.arccos(np.clip(np.abs(grid.direction).max(axis=0), 0, 1)).max() > OBLIQUE)


def cardinal(grid: Grid) -> np.ndarray:
    """(4, 4): voxel indices to AFNI's coordinates, but in RAS: each axis turned to the nearest one of the patient."""
    if not is_oblique(grid):
        return grid.affine
    turned = np.zeros((3, 3))
    for axis, direction in enumerate(grid.direction.T):
        nearest = int(np.abs(direction).argmax())
        turned[nearest, axis] = np.sign(direction[nearest]) * grid.spacing[axis]
    affine = grid.affine.copy()
    affine[:3, :3] = turned
    return affine


def _frames(fixed: Grid, moving: Grid) -> Frames:
    return cardinal(fixed) @ fixed.world_to_voxel, cardinal(moving) @ moving.world_to_voxel
