"""Displacement fields in NIfTI files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from maxca.errors import MaxcaError
from maxca.geometry import Chain, DenseField, Grid
from maxca.io.itk import FLIP, refuse_shear
from maxca.io.nifti import load_nifti, nifti_grid, open_nifti, save_nifti
from maxca.io.transforms.parts import itk_vectors

DISPLACEMENT_RAS, DISPLACEMENT_LPS = 1006, 1007  # NIfTI intents DISPVECT and VECTOR


def read_field(path: Path) -> DenseField:
    """A displacement field from fixed to moving world points, of a 5-D NIfTI in mm."""
    # Not through ITK, which reads a truncated NIfTI as zeros without a word.
    nifti = open_nifti(path)
    intent = int(nifti.header["intent_code"])
    if len(nifti.shape) != 5 or nifti.shape[3:] != (1, 3) or intent not in (DISPLACEMENT_RAS, DISPLACEMENT_LPS):
        raise MaxcaError(
            f"{path}: a displacement field has the shape (X, Y, Z, 1, 3) and intent 1007 (LPS mm) or 1006 (RAS mm), "
            f"this file has {nifti.shape} and intent {intent}; convert it to one of these"
        )
    grid = nifti_grid(nifti, path)
    vectors = load_nifti(nifti, path).astype(np.float32, copy=False)[:, :, :, 0]
    if intent == DISPLACEMENT_LPS:
        vectors = vectors * FLIP.astype(np.float32)
    return DenseField(torch.from_numpy(np.ascontiguousarray(np.moveaxis(vectors, -1, 0))), grid)


def write_field(chain: Chain, path: Path, grid: Grid | None) -> None:
    """Write a chain as one displacement NIfTI: 5-D, intent 1007, LPS mm."""
    fields = [step for step in chain.steps if isinstance(step, DenseField)]
    if grid is None and not fields:
        raise MaxcaError(f"{path}: an affine has no grid to sample a field on; name the file .h5, .tfm or .mat")
    grid = fields[0].grid if grid is None else grid
    refuse_shear(grid, path)
    alone = len(chain.steps) == 1 and len(fields) == 1 and fields[0].grid == grid
    field = fields[0] if alone else chain.field_on(grid)
    save_nifti(itk_vectors(field)[:, :, :, None], grid, path, intent="vector")
