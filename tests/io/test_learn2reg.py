"""Displacements in voxels become a field in the world."""

from __future__ import annotations

import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from maxca.errors import MaxcaError
from maxca.geometry import Grid
from maxca.io.learn2reg import read_voxel_displacement

FIXED = Grid((7, 6, 5), np.array([[-2.0, 0, 0, 9], [0, 0, 1.5, 0], [0, 1.0, 0, -4], [0, 0, 0, 1]]))
MOVING = Grid((9, 9, 9), np.diag([1.0, 2.0, 3.0, 1.0]))


def voxels() -> np.ndarray:
    """(3, I, J, K), linear in the position, so that every second voxel tells all."""
    i, j, k = np.meshgrid(*(np.arange(n) for n in FIXED.shape), indexing="ij")
    return np.stack([0.1 * i - 1, 0.2 * j + 0.1 * k, 0.05 * i + 1]).astype(np.float32)


@pytest.mark.parametrize("kind", ["whole.npz", "half.npz", "field.nii.gz"])
def test_a_fixed_voxel_meets_its_partner(kind: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    if kind == "field.nii.gz":
        nib.save(nib.Nifti1Image(np.moveaxis(voxels(), 0, -1), np.eye(4)), path)
    else:
        np.savez(path, voxels()[:, ::2, ::5, ::2] if kind == "half.npz" else voxels())
    if kind == "half.npz":  # 6 voxels along j are not every second one with both ends: 3 is what such files hold
        np.savez(path, voxels()[:, ::2, [0, 2, 5]][..., ::2])
    field = read_voxel_displacement(path, FIXED, MOVING)
    assert field is not None
    where = np.array([[0, 0, 0], [6, 5, 4], [2, 5, 4]])
    expected = MOVING.to_world(where + voxels()[:, where[:, 0], where[:, 1], where[:, 2]].T)
    np.testing.assert_allclose(field.map_points(FIXED.to_world(where)), expected, atol=1e-3)


def test_a_field_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((7, 6, 5, 1, 3), np.float32), np.eye(4)), tmp_path / "itk.nii.gz")
    assert read_voxel_displacement(tmp_path / "itk.nii.gz", FIXED, MOVING) is None
    (tmp_path / "a.h5").touch()
    assert read_voxel_displacement(tmp_path / "a.h5", FIXED, MOVING) is None


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", np.zeros((3, 7, 6, 6), np.float32))
    with pytest.raises(MaxcaError, match=r"a.npz: displacements of shape \(3, 7, 6, 6\) do not fit"):
        read_voxel_displacement(tmp_path / "a.npz", FIXED, MOVING)
    np.savez(tmp_path / "b.npz", np.zeros(3), np.zeros(3))
    with pytest.raises(MaxcaError, match="contains 2 arrays"):
        read_voxel_displacement(tmp_path / "b.npz", FIXED, MOVING)
    np.savez(tmp_path / "c.npz", np.full((3, 7, 6, 5), np.nan, np.float32))
    with pytest.raises(MaxcaError, match="NaN"):
        read_voxel_displacement(tmp_path / "c.npz", FIXED, MOVING)
    np.savez(tmp_path / "d.npz", np.array([{"a": 1}], dtype=object))
    with pytest.raises(MaxcaError, match="damaged"):
        read_voxel_displacement(tmp_path / "d.npz", FIXED, MOVING)


def test_a_warp_of_fsl_is_not_taken_for_voxels(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.moveaxis(voxels(), 0, -1), np.eye(4))
    image.header["intent_code"] = 2006
    nib.save(image, tmp_path / "fnirt.nii.gz")
    assert read_voxel_displacement(tmp_path / "fnirt.nii.gz", FIXED, MOVING) is None


def test_an_array_that_claims_more_than_it_holds_or_is_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, voxels())
    content = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        flipped = bytearray(content)
        flipped[random.integers(len(content))] ^= 1 << random.integers(8)
        path.write_bytes(bytes(flipped))
        try:
            field = read_voxel_displacement(path, FIXED, MOVING)
        except MaxcaError as error:
            assert path.name in str(error) and len(str(error)) < 500
        else:
            path.write_bytes(content)
            whole = read_voxel_displacement(path, FIXED, MOVING)
            assert field is not None and whole is not None
            assert bool((field.displacement == whole.displacement).all())
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (3, 100000, 100000, 100), }"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header.ljust(127) + b"\n")
    with pytest.raises(MaxcaError, match="truncated or damaged"):
        read_voxel_displacement(path, FIXED, MOVING)
