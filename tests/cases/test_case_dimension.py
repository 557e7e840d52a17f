"""Outputs follow their reference: grid, dimension, unit and codes."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

import maxca
from maxca.geometry import Affine, Chain
from maxca.io.images import Image, read, write
from maxca.io.transforms import read_transform, write_transform
from maxca.registration.resampling import apply, compose

RANDOM = np.random.default_rng(5)


def saved(
    path: Path, shape: tuple[int, ...], affine: np.ndarray, unit: str = "mm", codes: tuple[int, int] = (1, 1)
) -> Path:
    nifti = nib.Nifti1Image(RANDOM.random(shape, np.float32), affine)
    nifti.set_sform(affine, codes[0])
    nifti.set_qform(affine, codes[1])
    nifti.header.set_xyzt_units(unit)
    nib.save(nifti, path)
    return path


def test_the_qform_takes_the_place_of_a_singular_sform(tmp_path: Path) -> None:
    affine = np.diag([-2.0, 3, 4, 1])
    affine[:3, 3] = 10, -20, 30
    path = saved(tmp_path / "a.nii", (8, 9, 7), affine)
    content = bytearray(path.read_bytes())
    content[280:328] = bytes(48)  # srow_x, srow_y, srow_z
    path.write_bytes(content)
    image = read(path)
    np.testing.assert_allclose(image.grid.affine, affine, atol=1e-5)
    assert image.warnings == (f"{path}: the sform is singular; the qform is used",)


@pytest.mark.parametrize("unit", ["mm", "micron", "meter"])
def test_sform_and_qform_are_compared_in_voxels(tmp_path: Path, unit: str) -> None:
    affine = np.diag([2.0, 3, 4, 1])
    path = saved(tmp_path / "a.nii", (8, 9, 7), affine, unit)
    assert read(path).warnings == ()
    nifti = nib.load(path)
    affine[0, 3] = 1.0
    nifti.set_qform(affine, 1)
    nifti.header.set_xyzt_units(unit)
    nib.save(nifti, tmp_path / "b.nii")
    assert len(read(tmp_path / "b.nii").warnings) == 1


@pytest.mark.parametrize("source", [(12, 12, 1), (12, 12, 10), (12, 12)])
@pytest.mark.parametrize("target", [(12, 12, 10), (12, 12, 1), (9, 8)])
def test_the_output_has_the_dimension_of_the_reference(
    tmp_path: Path, source: tuple[int, ...], target: tuple[int, ...]
) -> None:
    affine = np.diag([1, 1, 6, 1.0])
    affine[2, 3] = 37.5
    image = saved(tmp_path / "image.nii.gz", source, affine)
    reference = saved(tmp_path / "reference.nii.gz", target, affine)
    warped = apply(image, reference, [Chain()])
    write(warped.data, warped.grid, tmp_path / "out.nii.gz", form=warped.form)
    wanted, found = (sitk.ReadImage(tmp_path / name) for name in ("reference.nii.gz", "out.nii.gz"))
    assert found.GetSize() == wanted.GetSize()
    np.testing.assert_allclose(found.GetOrigin(), wanted.GetOrigin())
    np.testing.assert_allclose(found.GetSpacing(), wanted.GetSpacing())
    assert nib.load(tmp_path / "out.nii.gz").shape == target


@pytest.mark.parametrize("unit", ["mm", "micron", "meter", "unknown"])
@pytest.mark.parametrize("codes", [(1, 1), (2, 4), (4, 0), (0, 3)])
def test_the_output_has_the_unit_and_the_codes_of_the_reference(
    tmp_path: Path, unit: str, codes: tuple[int, int]
) -> None:
    affine = np.diag([-2.0, 3, 4, 1]) * 0.25
    affine[3, 3] = 1
    path = saved(tmp_path / "a.nii.gz", (6, 7, 8), affine, unit, codes)
    image = read(path)
    write(image.data, image.grid, tmp_path / "b.nii.gz", form=image.form)
    header = nib.load(tmp_path / "b.nii.gz").header
    assert header.get_xyzt_units()[0] == unit
    assert (int(header["sform_code"]), int(header["qform_code"])) == (codes[0] or codes[1], codes[1] or codes[0])
    np.testing.assert_allclose(header.get_sform(), affine, atol=1e-6)
    np.testing.assert_allclose(header.get_qform(), affine, atol=1e-6)
    np.testing.assert_allclose(read(tmp_path / "b.nii.gz").grid.affine, image.grid.affine, rtol=1e-6)


def test_one_slice_lands_in_its_place_in_a_volume(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[2, 3] = 5
    nib.save(nib.Nifti1Image(np.full((12, 12, 1), 7, np.uint8), affine), tmp_path / "slice.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((12, 12, 10), np.uint8), np.eye(4)), tmp_path / "reference.nii.gz")
    warped = apply(tmp_path / "slice.nii.gz", tmp_path / "reference.nii.gz", [Chain()], "nearest")
    assert warped.data.shape == (12, 12, 10)
    assert (warped.data == 7).sum() == (warped.data[:, :, 5] == 7).sum() == 144


def test_the_transform_of_two_dimensional_images_is_two_dimensional(tmp_path: Path) -> None:
    from scipy.ndimage import gaussian_filter

    scan = (900 * gaussian_filter(RANDOM.normal(size=(40, 44)), 3)).astype(np.float32)
    for name, data in (("f", scan), ("m", np.roll(scan, 2, axis=0))):
        nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / f"{name}.nii.gz")
    result = maxca.register(tmp_path / "f.nii.gz", tmp_path / "m.nii.gz", effort="fast", threads=1)
    result.save(tmp_path / "r")
    fixed, moving = (sitk.ReadImage(tmp_path / f"{name}.nii.gz") for name in "fm")
    for name in ("transform.h5", "inverse_transform.h5"):
        assert sitk.ReadTransform(tmp_path / "r" / name).GetDimension() == 2
    theirs = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, sitk.ReadTransform(tmp_path / "r" / "transform.h5")))
    np.testing.assert_allclose(theirs.T[3:-3, 3:-3], result.warped.data[3:-3, 3:-3, 0], atol=0.02 * np.ptp(scan))
    ours = read_transform(tmp_path / "r" / "transform.h5")
    assert ours.dimension == 2
    result.save(tmp_path / "r", overwrite=True, save_field=True)
    assert nib.load(tmp_path / "r" / "displacement.nii.gz").shape == (40, 44, 1, 1, 2)
    field = read_transform(tmp_path / "r" / "displacement.nii.gz")
    assert field.dimension == compose([field, ours], tmp_path / "f.nii.gz").dimension == 2
    points = RANDOM.uniform(5, 30, (20, 3)) * [1, 1, 0]
    np.testing.assert_allclose(field.map_points(points), ours.map_points(points), atol=0.05)
    write_transform(ours.inverse()[0], tmp_path / "i.h5")
    assert sitk.ReadTransform(tmp_path / "i.h5").GetDimension() == 2


@pytest.mark.parametrize("suffix", [".tfm", ".mat", ".h5"])
def test_an_affine_of_the_plane_is_written_in_two_dimensions(tmp_path: Path, suffix: str) -> None:
    matrix = np.eye(4)
    matrix[:2] = [[0.9, 0.2, 0, 3], [-0.1, 1.1, 0, -4]]
    write_transform(Chain((Affine(matrix),), dimension=2), tmp_path / f"a{suffix}")
    theirs = sitk.ReadTransform(tmp_path / f"a{suffix}")
    assert theirs.GetDimension() == 2
    x, y = theirs.TransformPoint((-5.0, -7.0))  # LPS
    np.testing.assert_allclose([-x, -y], (matrix @ [5, 7, 0, 1])[:2], atol=1e-6)


def test_a_slice_keeps_its_position(tmp_path: Path) -> None:
    affine = np.diag([1, 1, 6, 1.0])
    affine[2, 3] = 37.5
    image = read(saved(tmp_path / "a.nii.gz", (40, 44, 1), affine))
    assert isinstance(image, Image) and image.dimension == 3
    write(image.data, image.grid, tmp_path / "b.mha", form=image.form)
    assert sitk.ReadImage(tmp_path / "b.mha").GetOrigin()[2] == 37.5
