"""Writing of NIfTI files: header fields from a grid, and a check that the file is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from maxca.geometry import Grid
from maxca.io.atomic import atomic_path
from maxca.io.form import Form
from maxca.io.nifti import UNIT_MM
from maxca.io.stored import check_written

LARGEST_SIZE = 2**15 - 1  # voxels of an axis in NIfTI-1


def as_nifti(
    data: np.ndarray, grid: Grid, intent: str | int | None = None, form: Form | None = None
) -> nib.Nifti1Image:
    """An array whose first axes are those of the grid; sform and, except for a sheared grid, qform are equal.

    Args:
        data: (I, J), (I, J, K) or more.
        grid: voxel to world, RAS+ mm.
        intent: NIfTI intent, code or name.
        form: unit and codes of the header.
    """
    form = form or Form()
    affine = grid.affine.copy()
    affine[:3] /= UNIT_MM.get(form.unit, 1.0)
    large = max(data.shape) > LARGEST_SIZE
    nifti = (nib.Nifti2Image if large else nib.Nifti1Image)(data, affine, dtype=data.dtype)
    nifti.set_sform(affine, code=form.sform)
    nifti.set_qform(affine, code=0 if grid.is_sheared else form.qform)
    nifti.header.set_xyzt_units(form.unit)
    if intent:
        nifti.header.set_intent(intent)
    return nifti


def save_nifti(
    data: np.ndarray, grid: Grid, path: Path, intent: str | int | None = None, form: Form | None = None
) -> None:
    """Write what ``as_nifti`` makes to ``path``.

    Raises:
        MaxcaError: when the file cannot be written.
    """
    save_as_it_is(as_nifti(data, grid, intent, form), path)


def save_as_it_is(nifti: nib.Nifti1Image, path: Path) -> None:
    """Write an image in memory to ``path``.

    Raises:
        MaxcaError: when the file cannot be written.
    """
    header: Any = nifti.header
    size = header.single_vox_offset + header.extensions.get_sizeondisk() + np.asanyarray(nifti.dataobj).nbytes
    with atomic_path(path) as temporary:
        nib.save(nifti, temporary)
        check_written(temporary, size)
