"""Displacements in voxels, the format of the Learn2Reg challenges, ConvexAdam and many research scripts."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from maxca.errors import MaxcaError
from maxca.geometry import DenseField, Grid
from maxca.io.atomic import full_suffix
from maxca.io.nifti import load_nifti, open_nifti
from maxca.io.regular import check_regular, read_bytes
from maxca.io.voxels import DEFLATE_LIMIT, check_size

INTENTS = (0, 1006, 1007)  # none, or vectors; FSL's warps are 4-D too and have other intents
ARCHIVE_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
SHRINK = (1, 2)  # files contain every voxel or, in 2020 and 2021, every second one


def read_voxel_displacement(path: str | Path, fixed: Grid, moving: Grid) -> DenseField | None:
    """A field that gives for each fixed voxel the displacement in voxels to the corresponding moving voxel.

    ``.npz`` contains one array (3, I, J, K), also at half the resolution of the image with aligned corners; a NIfTI
    file is 4-D, (I, J, K, 3). Its header is ignored; the order of voxels is that of the fixed image.

    Args:
        path: the file.
        fixed: grid of the fixed image.
        moving: grid of the moving image.

    Returns:
        The field from fixed to moving world points; None for a file of another kind, such as ITK's.

    Raises:
        MaxcaError: for a damaged file, or one that does not fit the fixed image.
    """
    path = Path(path)
    voxels = _npz(path) if full_suffix(path) == ".npz" else _nifti(path)
    if voxels is None:
        return None
    if voxels.shape[0] != 3 or not any(voxels.shape[1:] == tuple(-(-n // s) for n in fixed.shape) for s in SHRINK):
        raise MaxcaError(
            f"{path}: displacements of shape {voxels.shape} do not fit a fixed image of {fixed.shape}: (3, I, J, K) "
            "in .npz or (I, J, K, 3) in NIfTI is expected"
        )
    if not np.isfinite(voxels).all():
        raise MaxcaError(f"{path}: the displacements contain NaN or infinite values")
    whole = F.interpolate(torch.as_tensor(voxels)[None].double(), fixed.shape, mode="trilinear", align_corners=True)
    start = np.stack(np.meshgrid(*(np.arange(n) for n in fixed.shape), indexing="ij"), axis=-1)
    there = moving.to_world(start + whole[0].permute(1, 2, 3, 0).numpy())
    moved = there - fixed.to_world(start)
    return DenseField(torch.from_numpy(moved).permute(3, 0, 1, 2).float(), fixed)


def _npz(path: Path) -> np.ndarray:
    content = io.BytesIO(read_bytes(path))
    try:
        with zipfile.ZipFile(content) as archive:
            members = archive.infolist()
            if len(members) != 1:
                raise MaxcaError(f"{path}: contains {len(members)} arrays, but one displacement field is expected")
            _check_array(archive, members[0], path)
            with archive.open(members[0]) as stream:
                return np.lib.format.read_array(stream, allow_pickle=False).astype(np.float32)
    except ARCHIVE_ERRORS as error:
        raise MaxcaError(f"{path}: not an array file of NumPy, or damaged; write it again") from error


def _check_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """Reject an array that claims more numbers than the file can contain, before NumPy allocates them."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
    check_size(path, int(np.prod(shape, dtype=object)) * dtype.itemsize, member.file_size, 1)
    check_size(path, member.file_size, member.compress_size, DEFLATE_LIMIT)


def _nifti(path: Path) -> np.ndarray | None:
    """The vectors of a 4-D file; None if its shape or intent is that of another kind."""
    if full_suffix(path) not in (".nii", ".nii.gz"):
        return None
    check_regular(path)
    nifti = open_nifti(path)
    if len(nifti.shape) != 4 or int(nifti.header["intent_code"]) not in INTENTS:
        return None
    return np.moveaxis(load_nifti(nifti, path).astype(np.float32, copy=False), -1, 0)
