"""An image in a file, for tests that read it, spoil it or write it anew."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from oblique import GRID


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, GRID.shape).astype(np.int16)


@pytest.fixture
def nifti(tmp_path: Path, voxels: np.ndarray) -> Path:
    path = tmp_path / "image.nii.gz"
    nib.save(nib.Nifti1Image(voxels, GRID.affine), path)
    return path
