"""Images that cannot be read as they lie are refused in one line that names the file and says what to do."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from oblique import GRID
from refusals import refused

from maxca.errors import MaxcaError
from maxca.geometry import Grid
from maxca.io import voxels as voxel_rules
from maxca.io.images import Image, check_contrast, read, write


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.nii.gz", "none.nii.gz: no such file")


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.95])
def test_a_truncated_nii_gz_is_refused(nifti: Path, keep: float) -> None:
    content = nifti.read_bytes()
    nifti.write_bytes(content[: int(keep * len(content))])
    refused(nifti, "image.nii.gz", "damaged")


@pytest.mark.parametrize("suffix", [".nii", ".mha", ".nrrd"])
def test_other_truncated_files_are_refused(
    tmp_path: Path, voxels: np.ndarray, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"image{suffix}"
    write(voxels, GRID, path)
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    refused(path, path.name, "truncated")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["text.mgz", "text.nii", "text.nii.gz", "text.mha", "text.nrrd"])
def test_a_text_file_with_the_name_of_an_image_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("these are my notes\n" * 50)
    refused(tmp_path / name, name, "convert it again")


def test_four_dimensions_are_refused_with_what_to_extract(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5, 6), np.int16), np.eye(4)), tmp_path / "bold.nii.gz")
    refused(tmp_path / "bold.nii.gz", "bold.nii.gz: 4-D", "extract one of its 6 volumes")
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5, 1, 3), np.float32), np.eye(4)), tmp_path / "warp.nii.gz")
    refused(tmp_path / "warp.nii.gz", "5-D")
    volumes = sitk.JoinSeries([sitk.Image(3, 4, 5, sitk.sitkInt16)] * 2)
    sitk.WriteImage(volumes, str(tmp_path / "four.nrrd"))
    refused(tmp_path / "four.nrrd", "four.nrrd", "extract one volume")


def test_nan_and_infinity_become_background_with_a_warning(tmp_path: Path) -> None:
    data = np.ones((3, 4, 5), np.float32)
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "nan.nii.gz")
    image = read(tmp_path / "nan.nii.gz")
    assert np.isfinite(image.data).all() and image.data.sum() == 57
    assert len(image.warnings) == 1
    assert "nan.nii.gz: 3 voxels are NaN or infinite" in image.warnings[0]


@pytest.mark.parametrize("value", [0, 7])
def test_a_constant_image_has_no_contrast(value: int) -> None:
    grid = Grid((3, 3, 3), np.eye(4))
    with pytest.raises(MaxcaError, match=f"flat.nii: every voxel is {value}"):
        check_contrast(Image(np.full(grid.shape, value), grid, Path("flat.nii")))
    check_contrast(Image(np.arange(27).reshape(grid.shape), grid))


@pytest.mark.parametrize("affine", [np.diag([1.0, 1, 0, 1]), np.ones((4, 4)), np.diag([np.nan, 1, 1, 1])])
def test_a_singular_affine_is_refused(tmp_path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    stored = nib.Nifti1Image(voxels, np.eye(4))
    stored.header["sform_code"] = 1
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        stored.header[name] = affine[row]
    with (tmp_path / "singular.nii").open("wb") as file:
        stored.header["vox_offset"], stored.header["magic"] = 352, b"n+1"
        file.write(stored.header.binaryblock + b"\0" * 4 + voxels.tobytes(order="F"))
    refused(tmp_path / "singular.nii", "singular.nii", "repair the header")


def test_zero_spacing_is_refused(tmp_path: Path, voxels: np.ndarray) -> None:
    header = nib.Nifti1Image(voxels, np.eye(4)).header
    header["sform_code"], header["qform_code"], header["vox_offset"], header["magic"] = 0, 1, 352, b"n+1"
    header["pixdim"][1:4] = 1, 0, 1
    (tmp_path / "flat.nii").write_bytes(header.binaryblock + b"\0" * 4 + voxels.tobytes(order="F"))
    refused(tmp_path / "flat.nii", "flat.nii: a voxel size of 0 mm: [1.0, 0.0, 1.0]")


@pytest.mark.parametrize("line", ["ElementSpacing = 1 0 1", "TransformMatrix = 1 0 0 1 0 0 0 0 1"])
def test_zero_spacing_and_singular_directions_are_refused_in_mha(tmp_path: Path, line: str) -> None:
    spacing = () if "Spacing" in line else ("ElementSpacing = 1 1 1",)
    lines = ["ObjectType = Image", "NDims = 3", "Offset = 0 0 0", *spacing, line, "DimSize = 2 2 2"]
    lines.append("ElementType = MET_UCHAR")
    content = "\n".join([*lines, "ElementDataFile = LOCAL", ""]).encode() + bytes(range(8))
    (tmp_path / "flat.mha").write_bytes(content)
    refused(tmp_path / "flat.mha", "flat.mha", "convert")


def test_an_image_that_does_not_say_where_it_lies_is_refused(tmp_path: Path, voxels: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(voxels, None), tmp_path / "lost.nii.gz")
    refused(tmp_path / "lost.nii.gz", "lost.nii.gz", "sform and qform code are 0", "set the sform")
    refused(nib.Nifti1Image(voxels, None), "the image")


@pytest.mark.parametrize("zipped", [False, True])
def test_a_header_that_claims_terabytes_is_refused_before_allocating(tmp_path: Path, zipped: bool) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((20_000, 20_000, 20_000))
    header.set_data_dtype(np.float32)
    header["sform_code"], header["vox_offset"], header["magic"] = 1, 352, b"n+1"
    content = header.binaryblock + b"\0" * 1000
    path = tmp_path / ("huge.nii.gz" if zipped else "huge.nii")
    path.write_bytes(gzip.compress(content) if zipped else content)
    refused(path, path.name, "claims 32 TB")


def test_a_terabyte_claim_is_refused_in_mha_too(tmp_path: Path) -> None:
    lines = ["ObjectType = Image", "NDims = 3", "Offset = 0 0 0", "ElementSpacing = 1 1 1"]
    lines += ["DimSize = 20000 20000 20000", "ElementType = MET_FLOAT"]
    (tmp_path / "huge.mha").write_text("\n".join([*lines, "ElementDataFile = LOCAL", ""]))
    refused(tmp_path / "huge.mha", "huge.mha", "claims 32 TB")


def test_an_image_larger_than_the_free_memory_is_refused(nifti: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Small:
        available = 100

    monkeypatch.setattr(voxel_rules.psutil, "virtual_memory", Small)
    refused(nifti, "image.nii.gz: needs 420 bytes of memory, 100 bytes are free")


def test_complex_and_rgb_voxels_are_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.complex64), np.eye(4)), tmp_path / "complex.nii")
    refused(tmp_path / "complex.nii", "complex.nii: voxels are complex64")
    rgb = np.zeros((3, 3, 3), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    nib.save(nib.Nifti1Image(rgb, np.eye(4)), tmp_path / "rgb.nii")
    refused(tmp_path / "rgb.nii", "rgb.nii: voxels are RGB")
    sitk.WriteImage(sitk.Image([3, 3, 3], sitk.sitkVectorUInt8, 3), str(tmp_path / "rgb.mha"))
    refused(tmp_path / "rgb.mha", "rgb.mha: voxels are")


def test_analyze_and_unknown_suffixes_are_refused(tmp_path: Path, voxels: np.ndarray) -> None:
    nib.save(nib.AnalyzeImage(voxels, np.eye(4)), tmp_path / "old.img")
    refused(tmp_path / "old.img", "old.img", "convert its original")
    (tmp_path / "photo.jpg").write_bytes(b"jpg")
    refused(tmp_path / "photo.jpg", "photo.jpg: unknown kind of image")


def test_data_and_grid_must_agree() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Image(np.zeros((2, 2, 2)), Grid((3, 3, 3), np.eye(4)))
