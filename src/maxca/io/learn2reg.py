"""Displacements in voxels, as the Learn2Reg challenges, ConvexAdam and many papers' scripts leave them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F

from maxca.errors import MaxcaError
from maxca.geometry import DenseField, Grid
from maxca.io.atomic import full_suffix

SHRINK = (1, 2)  # files may hold every voxel, or as those of 2020 and 2021 every second


def read_voxel_displacement(path: str | Path, fixed: Grid, moving: Grid) -> DenseField | None:
    """A field that says for each fixed voxel how many voxels further on, in the moving image, its partner is.

    ``.npz`` holds one array (3, I, J, K), also at half the resolution of the image, corners on corners; a NIfTI file is
    4-D, (I, J, K, 3). Its header is not looked at, only its order of voxels, which is that of the fixed image.

    Args:
        path: the file.
        fixed: grid of the fixed image.
        moving: grid of the moving image.

    Returns:
        The field from fixed to moving world points; None for a file that is of another kind, such as ITK's.

    Raises:
        MaxcaError: for a damaged file, or one that fits the fixed image in no way.
    """
    path = Path(path)
    voxels = _npz(path) if full_suffix(path) == ".npz" else _nifti(path)
    if voxels is None:
        return None
    if voxels.shape[0] != 3 or not any(voxels.shape[1:] == tuple(-(-n // s) for n in fixed.shape) for s in SHRINK):
        raise MaxcaError(
            f"{path}: displacements of shape {voxels.shape} do not fit a fixed image of {fixed.shape}: (3, I, J, K) "
            "in .npz, (I, J, K, 3) in NIfTI is meant"
        )
    if not np.isfinite(voxels).all():
        raise MaxcaError(f"{path}: the displacements hold NaN or infinite values")
    whole = F.interpolate(torch.as_tensor(voxels)[None].double(), fixed.shape, mode="trilinear", align_corners=True)
    start = np.stack(np.meshgrid(*(np.arange(n) for n in fixed.shape), indexing="ij"), axis=-1)
    there = moving.to_world(start + whole[0].permute(1, 2, 3, 0).numpy())
    moved = there - fixed.to_world(start)
    return DenseField(torch.from_numpy(moved).permute(3, 0, 1, 2).float(), fixed)


def _npz(path: Path) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = list(arrays)
            if len(names) != 1:
                raise MaxcaError(f"{path}: holds {len(names)} arrays, where one displacement field is meant")
            return arrays[names[0]].astype(np.float32)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise MaxcaError(f"{path}: not an array file of NumPy, or damaged") from error


def _nifti(path: Path) -> np.ndarray | None:
    if full_suffix(path) not in (".nii", ".nii.gz"):
        return None
    try:
        image: Any = nib.load(path)
        if len(image.shape) != 4:
            return None
        return np.moveaxis(np.asarray(image.dataobj, dtype=np.float32), -1, 0)
    except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise MaxcaError(f"{path}: not a NIfTI image, or damaged") from error
