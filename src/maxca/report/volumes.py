"""The two images as small volumes for the viewer of the page."""

from __future__ import annotations

import base64
import gzip

import nibabel as nib
import numpy as np
import torch

from maxca.geometry import Chain, Grid
from maxca.io.images import Image
from maxca.report.case import Case
from maxca.report.pictures import gray, window

MOST_VOXELS = 3_000_000  # a cropped brain at 1 mm: about 2 MB each after compression


def as_volumes(case: Case) -> list[dict[str, str]]:
    """Name and NIfTI, gzipped and in base64, of the fixed and the warped image; None for a single slice."""
    grid = case.fixed.image.grid
    if grid.thin_axes:
        return []
    factor = max(1.0, (float(np.prod(grid.shape)) / MOST_VOXELS) ** (1 / 3))
    small = grid.canonical.at_spacing([s * factor if n > 8 else None for s, n in zip(*_sides(grid), strict=True)])
    pair = ((case.fixed.image, Chain(), "fixed.nii.gz"), (case.moving.image, case.chain, "warped.nii.gz"))
    return [{"name": name, "data": _packed(image, chain, small)} for image, chain, name in pair]


def _sides(grid: Grid) -> tuple[np.ndarray, tuple[int, int, int]]:
    return grid.canonical.spacing, grid.canonical.shape


def _packed(image: Image, chain: Chain, grid: Grid) -> str:
    volume = torch.as_tensor(image.data.astype(np.float32))
    values = chain.resample(volume[None], image.grid, grid)[0].numpy()
    nifti = nib.Nifti1Image(gray(values, window(values)), grid.affine)
    return base64.b64encode(gzip.compress(nifti.to_bytes(), mtime=0)).decode()
