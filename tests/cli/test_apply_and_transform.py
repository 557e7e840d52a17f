"""``apply``, ``apply-points`` and ``transform`` do what their help says, as ITK and ANTs see it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest
from commands import run

import maxca
from maxca.geometry import Chain
from maxca.io.images import read
from maxca.io.points import read_points
from maxca.io.transforms import read_transform, write_transform


def test_apply_repeats_what_register_did(registered: Path, scans: Path) -> None:
    transform = registered / "transform.h5"
    words = "apply", "-i", scans / "moving.nii.gz", "-r", scans / "fixed.nii.gz", "-t", transform
    outcome = run(*words, "-o", scans / "again.nii.gz")
    assert outcome[:2] == (0, f"{scans / 'again.nii.gz'}\n")
    assert outcome.err.startswith("interpolation: linear, ")
    again, first = read(scans / "again.nii.gz").data, read(registered / "warped.nii.gz").data
    np.testing.assert_allclose(again.astype(int), first.astype(int), atol=1)
    for interpolation in ("nearest", "bspline"):
        out = scans / f"{interpolation}.mha"
        assert run(*words, "-o", out, "--interpolation", interpolation).code == 0
        assert np.abs(read(out).data.astype(float) - first).mean() < 30
    labels = ("apply", "-i", scans / "moving_labels.nii.gz", *words[3:], "--interpolation", "labels")
    assert run(*labels, "-o", scans / "labels.nii.gz").code == 0
    np.testing.assert_array_equal(read(scans / "labels.nii.gz").data, read(registered / "warped_labels.nii.gz").data)


def test_several_transforms_equal_the_composed_one(registered: Path, scans: Path) -> None:
    write_transform(Chain((maxca.Affine(shift(4.0)),)), scans / "shift.tfm")
    both = "-t", scans / "shift.tfm", "-t", registered / "transform.h5"
    assert run("transform", "compose", *both, "-o", scans / "both.h5").code == 0
    for name, transforms in (("several", both), ("one", ("-t", scans / "both.h5"))):
        words = "apply", "-i", scans / "moving.nii.gz", "-r", scans / "fixed.nii.gz", *transforms
        assert run(*words, "-o", scans / f"{name}.nii.gz", "-q").code == 0
    several, one = (read(scans / f"{name}.nii.gz").data.astype(int) for name in ("several", "one"))
    assert np.abs(several - one).max() <= 1
    points = phantoms.nodes(phantoms.grid((9.0, 9.0, 9.0), extent=30.0))
    shifted = read_transform(registered / "transform.h5").map_points(points + shift(4.0)[:3, 3])
    np.testing.assert_allclose(read_transform(scans / "both.h5").map_points(points), shifted, atol=1e-3)


def shift(mm: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[0, 3] = mm
    return matrix


def test_apply_warns_of_voxels_that_are_not_finite(registered: Path, scans: Path) -> None:
    data = np.full((8, 8, 8), 2.0, np.float32)
    data[0] = np.nan
    nib.save(nib.Nifti1Image(data, np.eye(4)), scans / "nan.nii.gz")
    words = "apply", "-i", scans / "nan.nii.gz", "-r", scans / "fixed.nii.gz", "-t", registered / "transform.h5"
    outcome = run(*words, "-o", scans / "out.nii.gz")
    assert outcome.code == 0
    assert outcome.err.startswith("maxca: warning: ") and "nan.nii.gz" in outcome.err


def test_points_go_from_fixed_to_moving_space_and_back(registered: Path, scans: Path) -> None:
    there = "apply-points", "-i", scans / "fixed.csv", "-t", registered / "transform.h5", "-o", scans / "there.csv"
    back = (
        "apply-points",
        "-i",
        scans / "there.csv",
        "-t",
        registered / "inverse_transform.h5",
        "-o",
        scans / "back.fcsv",
    )
    assert run(*there).out == f"{scans / 'there.csv'}: 8 points\n"
    assert run(*back).code == 0
    fixed, moving, moved, again = (
        read_points(scans / name).coordinates for name in ("fixed.csv", "moving.csv", "there.csv", "back.fcsv")
    )
    assert np.linalg.norm(moved - moving, axis=-1).mean() < np.linalg.norm(fixed - moving, axis=-1).mean()
    # The inverse is exact at the nodes of its field, 6 mm apart here, and linear between them.
    assert np.linalg.norm(again - fixed, axis=-1).mean() < 0.5


def test_invert_says_how_well(registered: Path, scans: Path) -> None:
    outcome = run("transform", "invert", "-i", registered / "transform.h5", "-o", scans / "back.h5")
    assert "residual" in outcome.out and outcome.out.count("\n") == 1
    points = phantoms.nodes(phantoms.grid((9.0, 9.0, 9.0), extent=30.0))
    ours, theirs = (
        read_transform(p).map_points(points) for p in (scans / "back.h5", registered / "inverse_transform.h5")
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-2)


def test_convert_to_every_format(registered: Path, scans: Path) -> None:
    convert = "transform", "convert", "-q"
    write_transform(Chain((maxca.Affine(shift(4.0)),)), scans / "shift.tfm")
    points = phantoms.nodes(phantoms.grid((9.0, 9.0, 9.0), extent=30.0))
    for suffix in (".mat", ".txt", ".h5"):
        assert run(*convert, "-i", scans / "shift.tfm", "-o", scans / f"shift{suffix}") == (0, "", "")
        np.testing.assert_allclose(
            read_transform(scans / f"shift{suffix}").map_points(points), points + shift(4.0)[:3, 3]
        )
    fixed = "-r", scans / "fixed.nii.gz"
    whole = read_transform(registered / "transform.h5")
    for name, reference in (("own.nii.gz", ()), ("fixed.nii", fixed), ("fixed.h5", fixed)):
        assert run(*convert, "-i", registered / "transform.h5", "-o", scans / name, *reference).code == 0
        np.testing.assert_allclose(read_transform(scans / name).map_points(points), whole.map_points(points), atol=0.05)
    assert nib.load(scans / "fixed.nii").shape[:3] == read(scans / "fixed.nii.gz").grid.shape
    assert len(read_transform(scans / "fixed.h5").steps) == 1


@pytest.mark.parametrize(
    ("tool", "out"),
    [
        *(("fsl", "t.nii.gz"), ("spm", "y_t.nii"), ("niftyreg", "t.nii.gz"), ("afni", "t_WARP.nii"), ("x5", "t.h5")),
        *((None, "t.x5"), ("ants", "sub-1_")),
    ],
)
def test_a_deformation_goes_to_another_tool_and_comes_back(
    tool: str | None, out: str, registered: Path, scans: Path
) -> None:
    sides = "-f", scans / "fixed.nii.gz", "-m", scans / "moving.nii.gz"
    words = ["transform", "convert", registered / "transform.h5", "-o", scans / out, *sides, "-q"]
    assert run(*words, *(("--tool", tool) if tool else ())) == (0, "", "")
    back = [scans / out]
    if tool == "ants":
        back = [scans / f"sub-1_{name}" for name in ("1Warp.nii.gz", "0GenericAffine.mat")]
    assert run("transform", "convert", *back, *(sides if len(back) == 1 else ()), "-o", scans / "back.h5").code == 0
    points = phantoms.nodes(phantoms.grid((9.0, 9.0, 9.0), extent=30.0))
    whole = read_transform(registered / "transform.h5").map_points(points)
    # The warps and the field that stands for both parts are linear between the voxels of 2 and 3 mm.
    np.testing.assert_allclose(read_transform(scans / "back.h5").map_points(points), whole, atol=0.05)
    image = "apply", "-i", scans / "moving.nii.gz", "-r", scans / "fixed.nii.gz", "-q"
    given = [word for path in back for word in ("-t", path)]
    assert run(*image, *given, "-o", scans / "by_them.nii.gz").code == 0
    by_them, by_us = (read(path).data.astype(int) for path in (scans / "by_them.nii.gz", registered / "warped.nii.gz"))
    assert np.abs(by_them - by_us).mean() < 1


@pytest.mark.parametrize("out", ["t.lta", "t.aff12.1D", "t.mat", "t.txt"])
def test_an_affine_goes_to_another_tool_and_moves_points(out: str, scans: Path) -> None:
    write_transform(Chain((maxca.Affine(shift(4.0)),)), scans / "shift.tfm")
    sides = "--fixed", scans / "fixed.nii.gz", "--moving", scans / "moving.nii.gz"
    tool = {"t.mat": ("--tool", "fsl"), "t.txt": ("--tool", "elastix")}.get(out, ())
    assert run("transform", "convert", scans / "shift.tfm", *sides, *tool, "-o", scans / out).code == 0
    said = ("--matrix-convention", "fsl") if out == "t.mat" else ()
    words = "apply-geometry", "-i", scans / "fixed.csv", "-t", scans / out, *said, *sides, "-o", scans / "there.csv"
    assert run(*words).code == 0
    before, after = (read_points(scans / name).coordinates for name in ("fixed.csv", "there.csv"))
    np.testing.assert_allclose(after, before + shift(4.0)[:3, 3], atol=1e-3)


def test_what_is_missing_is_asked_for_by_its_option(registered: Path, scans: Path) -> None:
    words = "transform", "convert", registered / "transform.h5", "--tool", "fsl", "-o", scans / "t.nii.gz"
    outcome = run(*words)
    assert outcome.code == 1 and "t.nii.gz: this format depends on both images; pass --fixed FILE" in outcome.err
    outcome = run(*words, "--fixed", scans / "fixed.nii.gz")
    assert outcome.code == 1 and "pass --fixed FILE and --moving FILE, or neither" in outcome.err
    outcome = run("transform", "convert", "-o", scans / "t.h5")
    assert outcome.code == 2 and "no transform" in outcome.err
    outcome = run("transform", "convert", registered / "transform.h5", "--tool", "spm", "-o", scans / "t.mat")
    assert outcome.code == 1 and "this output ends in one of .nii, .nii.gz" in outcome.err


def test_convert_refuses_what_a_format_cannot_hold(registered: Path, scans: Path) -> None:
    outcome = run("transform", "convert", "-i", registered / "transform.h5", "-o", scans / "field.tfm")
    assert outcome.code == 1 and "affine transform only" in outcome.err
    write_transform(Chain((maxca.Affine(shift(4.0)),)), scans / "shift.tfm")
    outcome = run("transform", "convert", "-i", scans / "shift.tfm", "-o", scans / "shift.nii.gz")
    assert outcome.code == 1 and "no grid" in outcome.err


def test_the_determinant_of_a_known_map(scans: Path) -> None:
    write_transform(Chain((maxca.Affine(np.diag([1.1, 1.0, 1.0, 1.0])),)), scans / "wider.tfm")
    words = "transform", "jacobian", "-t", scans / "wider.tfm", "-r", scans / "fixed.nii.gz"
    outcome = run(*words, "-o", scans / "determinant.nii.gz")
    assert outcome.out == f"{scans / 'determinant.nii.gz'}: min 1.100, mean 1.100, max 1.100, 0 % at or below 0\n"
    np.testing.assert_allclose(read(scans / "determinant.nii.gz").data, 1.1, rtol=1e-4)
