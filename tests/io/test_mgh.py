"""FreeSurfer's own format is read where it lies."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from refusals import refused

from maxca.io.images import read

AFFINE = np.array([[-1.0, 0, 0, 80], [0, 0, 1.2, -100], [0, -1.1, 0, 90], [0, 0, 0, 1]])  # conformed: L S A
VOXELS = np.random.default_rng(0).integers(0, 255, (6, 7, 5)).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
def test_voxels_type_and_place_are_kept(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"norm{suffix}"
    nib.save(nib.MGHImage(VOXELS, AFFINE), path)
    image = read(path)
    np.testing.assert_array_equal(image.data, VOXELS)
    assert image.data.dtype == np.uint8
    np.testing.assert_allclose(image.grid.affine, AFFINE, atol=1e-5)


def test_a_header_that_does_not_say_where_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "norm.mgh"
    nib.save(nib.MGHImage(VOXELS, AFFINE), path)
    content = bytearray(path.read_bytes())
    content[28:30] = (0).to_bytes(2, "big")
    path.write_bytes(content)
    refused(path, "norm.mgh: the header does not define the position of the image")


@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"norm{suffix}"
    nib.save(nib.MGHImage(VOXELS, AFFINE), path)
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, path.name, "copy or convert it again")


def test_a_claim_of_terabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "norm.mgh"
    nib.save(nib.MGHImage(VOXELS, AFFINE), path)
    content = bytearray(path.read_bytes())
    for axis in range(3):
        content[4 + 4 * axis : 8 + 4 * axis] = (20_000).to_bytes(4, "big")
    path.write_bytes(content)
    refused(path, "norm.mgh")
