"""Every kind of bad input: one line on stderr that names the file, exit 1, and nothing left on the disc."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from commands import QUICK, contents, run

# Where a NIfTI-1 header keeps its fields
DIM, PIXDIM, QFORM, SFORM, SROW = 40, 76, 252, 254, 280


def spoiled(scans: Path, change: Callable[[bytearray], None], name: str = "spoiled.nii") -> Path:
    """The moving image as plain NIfTI with some bytes changed."""
    nib.save(nib.load(scans / "moving.nii.gz"), scans / name)
    content = bytearray((scans / name).read_bytes())
    change(content)
    (scans / name).write_bytes(content)
    return scans / name


def altered(scans: Path, change: Callable[[np.ndarray], Any], name: str = "altered.nii.gz") -> Path:
    """The moving image with other voxels."""
    image = nib.load(scans / "moving.nii.gz")
    nib.save(nib.Nifti1Image(change(np.asarray(image.dataobj)), image.affine), scans / name)
    return scans / name


@pytest.mark.parametrize("side", ["-f", "-m"])
def test_a_missing_file(refused: Callable[..., str], scans: Path, side: str) -> None:
    assert "no such file" in refused(side, scans / "absent.nii.gz", names="absent.nii.gz")


def test_a_missing_transform_and_points(refused: Callable[..., str], scans: Path) -> None:
    refused("--initial-transform", scans / "absent.h5", names="absent.h5")
    refused("--fixed-points", scans / "absent.csv", "--moving-points", scans / "moving.csv", names="absent.csv")


def test_a_bare_matrix_whose_meaning_is_not_said(refused: Callable[..., str], scans: Path) -> None:
    np.savetxt(scans / "flirt.mat", np.eye(4))
    assert "--matrix-convention ras" in refused("--initial-transform", scans / "flirt.mat", names="flirt.mat")


def test_landmarks_whose_names_differ(refused: Callable[..., str], scans: Path) -> None:
    for side, name in (("fixed", "left"), ("moving", "right")):
        (scans / f"{side}_named.csv").write_text(f"x,y,z,label\n1,2,3,{name}\n")
    points = "--fixed-points", scans / "fixed_named.csv", "--moving-points", scans / "moving_named.csv"
    assert "'left'" in refused(*points, names="moving_named.csv")


def test_a_truncated_file(refused: Callable[..., str], scans: Path) -> None:
    path = scans / "short.nii.gz"
    path.write_bytes((scans / "moving.nii.gz").read_bytes()[:-2000])
    assert "truncated" in refused("-m", path, names="short.nii.gz")


def test_a_text_file_named_as_an_image(refused: Callable[..., str], scans: Path) -> None:
    (scans / "notes.nii").write_text("not an image\n" * 100)
    assert "not a NIfTI" in refused("-m", scans / "notes.nii", names="notes.nii")


def test_four_dimensions(refused: Callable[..., str], scans: Path) -> None:
    path = altered(scans, lambda data: np.stack([data, data], axis=-1))
    assert "4-D" in refused("-m", path, names="altered.nii.gz")


@pytest.mark.parametrize("value", [0, 7])
def test_a_constant_image(refused: Callable[..., str], scans: Path, value: int) -> None:
    path = altered(scans, lambda data: np.full_like(data, value))
    assert f"every voxel is {value}" in refused("-f", path, names="altered.nii.gz")


def test_a_singular_affine(refused: Callable[..., str], scans: Path) -> None:
    path = spoiled(scans, lambda b: struct.pack_into("<4f", b, SROW, 0, 0, 0, 0))
    assert "singular" in refused("-m", path, names="spoiled.nii")


def test_zero_spacing(refused: Callable[..., str], scans: Path) -> None:
    def change(content: bytearray) -> None:
        struct.pack_into("<f", content, PIXDIM + 8, 0.0)
        struct.pack_into("<2h", content, QFORM, 1, 0)

    assert "0 mm" in refused("-m", spoiled(scans, change), names="spoiled.nii")


def test_neither_sform_nor_qform(refused: Callable[..., str], scans: Path) -> None:
    path = spoiled(scans, lambda b: struct.pack_into("<2h", b, QFORM, 0, 0))
    assert "sform and qform" in refused("-m", path, names="spoiled.nii")


def test_images_apart_in_the_world(refused: Callable[..., str], scans: Path) -> None:
    image = nib.load(scans / "moving.nii.gz")
    affine = image.affine.copy()
    affine[:3, 3] += 1000
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), scans / "far.nii.gz")
    fixed = str(scans / "fixed.nii.gz")
    before = contents(scans.parent)
    words = "register", "-f", fixed, "-m", scans / "far.nii.gz", "-o", scans / "out", "--threads", 1
    outcome = run(*words, "--initial-transform", "header")
    assert outcome.code == 1
    assert "do not overlap" in outcome.err and "far.nii.gz" in outcome.err and fixed in outcome.err
    assert contents(scans.parent) == before
    outcome = run(*words, "--transform", "rigid")  # the centres of mass are tried, and that is said
    assert outcome.code == 0
    assert "do not overlap" in outcome.err and "far.nii.gz" in outcome.err


@pytest.mark.parametrize("option", ["--fixed-labels", "--moving-labels", "--fixed-mask", "--moving-mask"])
def test_labels_or_a_mask_that_lie_elsewhere(refused: Callable[..., str], scans: Path, option: str) -> None:
    image = nib.load(scans / "moving.nii.gz")
    affine = image.affine.copy()
    affine[:3, 3] += 40  # a header that was lost, or of another scan
    nib.save(nib.Nifti1Image(np.ones(image.shape, np.uint8), affine), scans / "elsewhere.nii.gz")
    assert "away" in refused(option, scans / "elsewhere.nii.gz", names="elsewhere.nii.gz")


@pytest.mark.parametrize("option", ["--fixed-mask", "--moving-mask"])
def test_an_empty_mask(refused: Callable[..., str], scans: Path, option: str) -> None:
    assert "empty" in refused(option, altered(scans, np.zeros_like), names="altered.nii.gz")


def test_labels_that_are_no_whole_numbers(refused: Callable[..., str], scans: Path) -> None:
    path = altered(scans, lambda data: data.astype(np.float32) / 7)
    assert "integers" in refused("--moving-labels", path, names="altered.nii.gz")


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_voxels_that_are_not_finite_are_background_with_a_warning(scans: Path, bad: float) -> None:
    def change(data: np.ndarray) -> np.ndarray:
        data = data.astype(np.float32)
        data[:2] = bad
        return data

    path = altered(scans, change)
    outcome = run(
        "register", "-f", scans / "fixed.nii.gz", "-m", path, "-o", scans / "out", "--transform", "rigid", *QUICK
    )
    assert outcome.code == 0
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith(f"maxca: warning: {path}")
    recorded = json.loads((scans / "out" / "result.json").read_text())["warnings"]
    assert len(recorded) == 1 and "NaN or infinite" in recorded[0]
    assert np.isfinite(nib.load(scans / "out" / "warped.nii.gz").get_fdata()).all()


def test_a_place_that_cannot_be_written(refused: Callable[..., str], scans: Path) -> None:
    (scans / "file").write_text("")
    refused(out=scans / "file" / "out", names=str(scans / "file"))
    refused(out=scans / "file", names="file")
    if Path("/proc/self").exists():  # where even root makes no folder
        assert "cannot write" in refused(out=Path("/proc/maxca/out"), names="/proc/maxca/out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(refused: Callable[..., str], tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert "cannot write" in refused(out=closed / "out", names="closed/out")


def test_an_existing_output_stays_without_overwrite(refused: Callable[..., str], scans: Path) -> None:
    old = scans / "old"
    old.mkdir()
    (old / "result.json").write_text("{}")
    assert "--overwrite" in refused(out=old, names=str(old))
    assert (old / "result.json").read_text() == "{}"
    (old / "result.json").rename(old / "thesis.txt")
    assert "not an earlier output" in refused("--overwrite", out=old, names=str(old))


@pytest.mark.parametrize("command", ["apply", "apply-points", "compose", "invert", "convert", "jacobian"])
def test_an_existing_file_stays_without_overwrite(registered: Path, scans: Path, command: str) -> None:
    transform, fixed = registered / "transform.h5", scans / "fixed.nii.gz"
    words, out = {
        "apply": (("apply", "-i", scans / "moving.nii.gz", "-r", fixed, "-t", transform), "moving.nii.gz"),
        "apply-points": (("apply-points", "-i", scans / "fixed.csv", "-t", transform), "fixed.csv"),
        "compose": (("transform", "compose", "-t", transform, "-t", transform), "there.h5"),
        "invert": (("transform", "invert", "-i", transform), "there.h5"),
        "convert": (("transform", "convert", "-i", transform), "there.h5"),
        "jacobian": (("transform", "jacobian", "-t", transform, "-r", fixed), "moving.nii.gz"),
    }[command]
    (scans / "there.h5").write_text("mine")
    before = contents(scans)
    outcome = run(*words, "-o", scans / out)
    assert (outcome.code, outcome.err) == (1, f"maxca: error: {scans / out} exists; pass --overwrite to replace it\n")
    assert contents(scans) == before
    for wrong in (scans / "there.h5" / out, scans / "there.docx", scans):
        assert run(*words, "-o", wrong).code == 1
    assert contents(scans) == before
    assert run(*words, "-o", scans / out, "--overwrite", "-q") == (0, "", "")


def test_a_header_that_claims_terabytes(refused: Callable[..., str], scans: Path) -> None:
    def change(content: bytearray) -> None:
        struct.pack_into("<4h", content, DIM, 3, 32767, 32767, 32767)

    assert "TB" in refused("-m", spoiled(scans, change), names="spoiled.nii")
    path = scans / "huge.mha"
    place = ["Offset = 0 0 0", "ElementSpacing = 1 1 1"]
    header = ["NDims = 3", *place, "DimSize = 100000 100000 100000", "ElementType = MET_SHORT"]
    path.write_text("\n".join([*header, "ElementDataFile = LOCAL", ""]))
    assert "TB" in refused("-m", path, names="huge.mha")
