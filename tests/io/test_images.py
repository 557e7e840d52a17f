"""Images are read where they lie, and bad ones are refused in one line that names the file and says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from oblique import GRID, OBLIQUE
from refusals import refused

from maxca.errors import MaxcaError
from maxca.geometry import Grid
from maxca.io import voxels as voxel_rules
from maxca.io.form import Form
from maxca.io.images import read, write
from maxca.io.itk import to_sitk

# Reading


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".img"])
def test_nifti_keeps_voxels_type_and_place(tmp_path: Path, voxels: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    nib.save((nib.Nifti1Pair if suffix == ".img" else nib.Nifti1Image)(voxels, GRID.affine), path)
    image = read(path)
    assert image.dtype == np.int16
    assert image.path == path and image.dimension == 3 and not image.warnings
    np.testing.assert_array_equal(image.data, voxels)
    assert image.grid.same_as(GRID)


def test_big_endian_voxels_become_native(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "big.nii"
    stored = nib.Nifti1Image(voxels, GRID.affine, nib.Nifti1Header(endianness=">"))
    stored.set_data_dtype(np.int16)
    nib.save(stored, path)
    assert path.read_bytes()[:4] == b"\0\0\1\x5c"
    image = read(path)
    assert image.dtype == np.int16 and image.dtype.isnative
    np.testing.assert_array_equal(image.data, voxels)


def test_scaled_integers_become_float32(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "scaled.nii.gz"
    stored = nib.Nifti1Image(voxels, GRID.affine)
    stored.header.set_slope_inter(0.5, 10)
    nib.save(stored, path)
    raw = nib.load(path)
    image = read(path)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image.data, raw.get_fdata(), rtol=1e-6)


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd"])
def test_itk_formats_honour_the_direction_matrix(tmp_path: Path, voxels: np.ndarray, suffix: str) -> None:
    reference = tmp_path / "image.nii.gz"
    write(voxels, GRID, reference)
    path = tmp_path / f"image{suffix}"
    sitk.WriteImage(sitk.ReadImage(str(reference)), str(path))
    image = read(path)
    assert image.dtype == np.int16
    np.testing.assert_array_equal(image.data, voxels)
    assert image.grid.same_as(GRID)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_itk_sees_a_written_image_where_we_do(tmp_path: Path, voxels: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    write(voxels, GRID, path)
    seen = sitk.ReadImage(str(path))
    for index in [(0, 0, 0), (4, 0, 0), (1, 5, 2), (3, 2, 6)]:
        point = np.array(seen.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        np.testing.assert_allclose(point, GRID.to_world(np.array(index)), atol=1e-4)
        assert seen.GetPixel(index) == voxels[index]


def test_objects_of_nibabel_simpleitk_and_our_own_are_taken_as_they_are(nifti: Path, voxels: np.ndarray) -> None:
    ours = read(nifti)
    assert read(ours) is ours
    for source in (nib.load(nifti), nib.Nifti1Image(voxels, GRID.affine), sitk.ReadImage(str(nifti))):
        image = read(source)
        np.testing.assert_array_equal(image.data, voxels)
        assert image.grid.same_as(GRID)


@pytest.mark.parametrize("kind", [bool, np.float64, np.float16])
def test_bool_becomes_uint8_and_floats_float32(kind: type) -> None:
    array = (np.arange(24).reshape(2, 3, 4) % 2).astype(kind)
    image = read(sitk.GetImageFromArray(array.T.astype(float if kind is np.float16 else kind).astype(np.float64)))
    assert image.dtype == np.float32
    as_stored = voxel_rules.plain(array)
    assert as_stored.dtype == (np.uint8 if kind is bool else np.float32)


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1)])
def test_a_slice_has_the_dimensions_of_its_file(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "slice.nii.gz"
    nib.save(nib.Nifti1Image(np.ones(shape, np.uint8), GRID.affine), path)
    image = read(path)
    assert image.data.shape == (5, 6, 1) and image.dimension == len(shape)
    np.testing.assert_allclose(image.grid.affine, GRID.affine, atol=1e-5)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".nii.gz"])
def test_two_dimensional_images_go_to_itk_and_back(tmp_path: Path, suffix: str) -> None:
    affine = np.array([[-1.5, 0, 0, 10], [0, 2.0, 0, -20], [0, 0, 1, 0], [0, 0, 0, 1]])
    data = np.arange(30, dtype=np.uint8).reshape(5, 6, 1)
    path = tmp_path / f"slice{suffix}"
    write(data, Grid((5, 6, 1), affine), path, form=Form(dimension=2))
    assert sitk.ReadImage(str(path)).GetDimension() == 2
    image = read(path)
    np.testing.assert_array_equal(image.data, data)
    np.testing.assert_allclose(image.grid.affine, affine, atol=1e-5)
    assert image.dimension == 2


def test_a_2d_nifti_without_a_third_axis_gets_one(tmp_path: Path) -> None:
    stored = nib.Nifti1Image(np.ones((5, 6), np.uint8), np.diag([2.0, 3, 1, 1]))
    stored.header["sform_code"], stored.header["srow_z"] = 1, 0
    nib.save(stored, tmp_path / "slice.nii")
    np.testing.assert_allclose(read(tmp_path / "slice.nii").grid.affine, np.diag([2.0, 3, 1, 1]))


def test_a_single_time_point_is_squeezed(tmp_path: Path, voxels: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(voxels[..., None], GRID.affine), tmp_path / "one.nii.gz")
    np.testing.assert_array_equal(read(tmp_path / "one.nii.gz").data, voxels)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".nii"])
def test_one_volume_on_a_fourth_axis_is_an_image_in_every_format(
    tmp_path: Path, voxels: np.ndarray, suffix: str
) -> None:
    path = tmp_path / f"image{suffix}"
    if suffix == ".nii":
        nib.save(nib.Nifti1Image(voxels[..., None], GRID.affine), path)
    else:
        series = sitk.JoinSeries([to_sitk(voxels, GRID)])
        assert series.GetDimension() == 4
        sitk.WriteImage(series, path)
        sitk.WriteImage(sitk.JoinSeries([to_sitk(voxels, GRID)] * 2), tmp_path / f"two{suffix}")
        refused(tmp_path / f"two{suffix}", "4-D")
    image = read(path)
    np.testing.assert_array_equal(image.data, voxels)
    assert image.grid.same_as(GRID) and image.dimension == 3


def test_units_other_than_mm_are_converted(tmp_path: Path, voxels: np.ndarray) -> None:
    stored = nib.Nifti1Image(voxels, np.diag([2000.0, 1000, 500, 1]))
    stored.header.set_xyzt_units("micron")
    nib.save(stored, tmp_path / "micron.nii")
    np.testing.assert_allclose(read(tmp_path / "micron.nii").grid.spacing, [2, 1, 0.5])


def test_only_a_sform_is_enough(tmp_path: Path, voxels: np.ndarray) -> None:
    stored = nib.Nifti1Image(voxels, GRID.affine)
    stored.set_qform(None, 0)
    nib.save(stored, tmp_path / "sform.nii.gz")
    image = read(tmp_path / "sform.nii.gz")
    assert image.grid.same_as(GRID) and not image.warnings


def test_a_qform_elsewhere_is_warned_of(tmp_path: Path, voxels: np.ndarray) -> None:
    stored = nib.Nifti1Image(voxels, GRID.affine)
    stored.set_qform(np.eye(4), 1)
    nib.save(stored, tmp_path / "two.nii.gz")
    image = read(tmp_path / "two.nii.gz")
    assert image.grid.same_as(GRID)
    assert "two.nii.gz: sform and qform differ by up to" in image.warnings[0]


# Writing


def test_written_integers_are_rounded_and_clipped(tmp_path: Path) -> None:
    data = np.array([-5.0, 0.4, 0.6, 254.7, 300, np.nan]).reshape(1, 2, 3)
    write(data, Grid((1, 2, 3), np.eye(4)), tmp_path / "a.nii.gz", np.uint8)
    np.testing.assert_array_equal(read(tmp_path / "a.nii.gz").data.ravel(), [0, 0, 1, 255, 255, 0])
    write(np.full((1, 2, 3), 1e30), Grid((1, 2, 3), np.eye(4)), tmp_path / "b.nii", np.int64)
    assert read(tmp_path / "b.nii").data.min() > 2**62
    write(np.full((1, 2, 3), -7, np.int16), Grid((1, 2, 3), np.eye(4)), tmp_path / "c.nii", np.uint16)
    assert read(tmp_path / "c.nii").data.max() == 0


def test_equal_images_make_equal_files(tmp_path: Path, voxels: np.ndarray) -> None:
    write(voxels, GRID, tmp_path / "a.nii.gz")
    write(voxels, GRID, tmp_path / "b.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_sform_and_qform_are_both_set_but_a_sheared_grid_has_no_qform(tmp_path: Path, voxels: np.ndarray) -> None:
    write(voxels, GRID, tmp_path / "a.nii")
    header = nib.load(tmp_path / "a.nii").header
    assert (header["sform_code"], header["qform_code"]) == (1, 1)
    np.testing.assert_allclose(header.get_qform(), GRID.affine, atol=1e-4)
    sheared = Grid(GRID.shape, OBLIQUE)
    write(voxels, sheared, tmp_path / "b.nii")
    assert nib.load(tmp_path / "b.nii").header["qform_code"] == 0
    np.testing.assert_allclose(read(tmp_path / "b.nii").grid.affine, OBLIQUE, atol=1e-5)
    with pytest.raises(MaxcaError, match="sheared"):
        write(voxels, sheared, tmp_path / "b.mha")


@pytest.mark.parametrize("name", ["a.jpg", "a.mhd", "a.hdr"])
def test_other_formats_are_not_written(tmp_path: Path, voxels: np.ndarray, name: str) -> None:
    with pytest.raises(MaxcaError, match="images are written as"):
        write(voxels, GRID, tmp_path / name)


@pytest.mark.parametrize("room", [0, 300, 4096, 20_000, 40_000, -20, -1])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_a_disc_that_fills_while_writing_leaves_nothing(tmp_path: Path, suffix: str, room: int) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0).integers(0, 30000, (30, 30, 30)).astype(np.int16)
    write(noise, Grid(noise.shape, np.eye(4)), tmp_path / f"big{suffix}")
    room = room if room >= 0 else (tmp_path / f"big{suffix}").stat().st_size + room
    (tmp_path / f"big{suffix}").unlink()
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(MaxcaError, match="cannot write"):
            write(noise, Grid(noise.shape, np.eye(4)), tmp_path / f"big{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_decimal_commas_of_the_users_language_change_nothing(tmp_path: Path) -> None:
    language = "de_DE.UTF-8"
    if not shutil.which("localedef"):
        pytest.skip("makes a locale with localedef")
    made = subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", tmp_path / language], capture_output=True)
    if made.returncode:
        pytest.skip("has no sources of locales")
    code = f"""
import locale
import numpy as np
from maxca.geometry import Grid
from maxca.io.images import read, write

locale.setlocale(locale.LC_ALL, "{language}")
grid = Grid((2, 3, 4), np.diag([3.5, 0.75, 1.25, 1]))
write(np.ones((2, 3, 4), np.float32), grid, "scan.nrrd")
assert read("scan.nrrd").grid.spacing.tolist() == [3.5, 0.75, 1.25]
assert locale.localeconv()["decimal_point"] == ","
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=os.environ | {"LOCPATH": str(tmp_path)})
