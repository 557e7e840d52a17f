"""FSL's transforms: matrices of FLIRT and warp fields of FNIRT, in scaled voxels of their two images.

FSL's coordinates are voxel indices times the spacing; the first axis is reversed if the determinant of the
voxel-to-world matrix is positive. See https://fsl.fmrib.ox.ac.uk/fsl/docs/#/registration/flirt/faq.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, Grid
from maxca.io.nifti import load_nifti, nifti_grid
from maxca.io.nifti_writing import save_nifti
from maxca.io.transforms.frames import (
    Frames,
    affine_between,
    chain_between,
    mapped,
    matrix_between,
    node_positions,
    vectors_between,
)

FIELD = 2006  # intent of a displacement field
COEFFICIENTS = (2007, 2008, 2009, 2016, 2017, 2018)  # splines and cosines of FNIRT and topup, and topup's field
CLEAR = 2.0  # ratio of the two standard deviations above which a field is certainly relative or absolute


def flirt_affine(matrix: np.ndarray, images: tuple[Grid, Grid]) -> Affine:
    """The affine, fixed → moving world points, of FLIRT's ``-omat`` from the moving (``-in``) to the fixed (``-ref``).

    Raises:
        ValueError: for a matrix that is not finite, not affine or singular.
    """
    return affine_between(np.linalg.inv(Affine(matrix).matrix), _frames(*images))


def write_flirt(affine: Affine, path: Path, images: tuple[Grid, Grid]) -> None:
    """Write an affine as FLIRT does: moving to fixed, four rows of four numbers."""
    np.savetxt(path, np.linalg.inv(matrix_between(affine, _frames(*images))), fmt="%.12g")


def is_fsl(nifti: Any, note: str) -> bool:
    """Whether a NIfTI file is a warp of FSL, from its intent, or the note of an old FNIRT."""
    return int(nifti.header["intent_code"]) in (FIELD, *COEFFICIENTS) or "fnirt" in note.lower()


def read_fnirt(nifti: Any, path: Path, images: tuple[Grid, Grid] | None) -> Chain:
    """The chain, fixed → moving world points, of a field of FNIRT or convertwarp on the grid of the fixed image.

    The header does not define whether it holds displacements (relative) or positions (absolute). As in FSL's own
    applywarp, the smaller standard deviation decides, but that of displacements in world space, which does not depend
    on the order of the axes of the images, and only where it is clear.

    Raises:
        MaxcaError: for coefficients, another shape, an unknown moving image, or a field for which the rule is unclear.
    """
    shape = tuple(nifti.shape)
    if int(nifti.header["intent_code"]) != FIELD:
        raise MaxcaError(
            f"{path}: coefficients of FNIRT or topup, not a warp field; write one first: fnirtfileutils --in=THIS_FILE "
            "--ref=FIXED --out=field.nii.gz --withaff"
        )
    if len(shape) != 4 or shape[3] != 3:
        raise MaxcaError(f"{path}: a warp field of FSL has the shape (X, Y, Z, 3), but this is {shape}; write it again")
    if images is None:
        raise MaxcaError(
            f"{path}: a warp field of FSL, in scaled voxels of its two images, which are not both known here; convert "
            "it first: maxca transform convert THIS_FILE --fixed FIXED --moving MOVING -o warp.h5"
        )
    grid = nifti_grid(nifti, path)
    vectors = load_nifti(nifti, path).astype(np.float64)
    if not np.isfinite(vectors).all():
        raise MaxcaError(f"{path}: the warp field contains NaN or infinite values; write it again")
    frames = _frames(grid, images[1])
    nodes = node_positions(grid)
    start = mapped(frames[0], nodes)
    spread = {
        name: _spread(mapped(np.linalg.inv(frames[1]), there) - nodes)
        for name, there in (("relative", start + vectors), ("absolute", vectors))
    }
    if max(spread.values()) < CLEAR * min(spread.values()):
        raise MaxcaError(
            f"{path}: whether this field of FSL is relative or absolute is not clear from its values; write it as a "
            "relative one with smaller displacements, with the affine separate: convertwarp --premat"
        )
    relative = spread["relative"] < spread["absolute"]
    return chain_between(vectors if relative else vectors - start, grid, frames)


def write_fnirt(chain: Chain, path: Path, grid: Grid, images: tuple[Grid, Grid]) -> None:
    """Write a chain as a relative warp field for applywarp, on a grid in fixed space."""
    save_nifti(vectors_between(chain, grid, _frames(grid, images[1])).astype(np.float32), grid, path, intent=FIELD)


def scaled_voxels(grid: Grid) -> np.ndarray:
    """(4, 4): voxel indices to FSL's mm, which start at the last voxel of the first axis if that points right."""
    scaled = np.diag([*grid.spacing, 1.0])
    if np.linalg.det(grid.affine[:3, :3]) > 0:
        scaled[0, 0] *= -1
        scaled[0, 3] = (grid.shape[0] - 1) * grid.spacing[0]
    return scaled


def _frames(fixed: Grid, moving: Grid) -> Frames:
    return scaled_voxels(fixed) @ fixed.world_to_voxel, scaled_voxels(moving) @ moving.world_to_voxel


def _spread(vectors: np.ndarray) -> float:
    return float(vectors.std(axis=(0, 1, 2)).sum())
