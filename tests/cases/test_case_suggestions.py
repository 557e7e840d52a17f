"""What an error suggests works: each command or line of Python that it names is run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
import torch

import maxca
from maxca.cli.dashes import dashed
from maxca.cli.main import main
from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io.form import Form
from maxca.io.images import Image, read
from maxca.io.points import read_points
from maxca.io.transforms import read_transform, write_transform
from maxca.registration.inputs import read_side
from maxca.registration.resampling import apply
from maxca.report.case import read_case

WHERE = phantoms.grid((6.0, 6.0, 6.0))
SCAN = phantoms.image(WHERE)
QUICK = {"effort": "fast", "threads": 1, "model": "none", "transform": "rigid"}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    phantoms.save(Path("scan.nii.gz"), SCAN)


def refusal(work: Callable[[], object]) -> str:
    with pytest.raises(MaxcaError) as caught:
        work()
    return dashed(caught.value)


def nibabels(message: str) -> str:
    """The expression after ``nibabel:`` in a message."""
    found = re.search(r"nibabel: ((?:[^()]|\([^()]*\))+)", message)
    assert found is not None, message
    return found[1]


def saved(name: str, data: np.ndarray, change: Callable[[Any], object] = lambda _nifti: None) -> Path:
    nifti = nib.Nifti1Image(data, WHERE.affine)
    change(nifti)
    nib.save(nifti, name)
    return Path(name)


@pytest.mark.parametrize("more", [(4,), (1, 3), (2, 3), (3, 1, 2)])
def test_one_volume_of_many(more: tuple[int, ...]) -> None:
    stack = saved("series.nii.gz", SCAN.data.reshape(*WHERE.shape, *[1] * len(more)) * np.ones(more, np.int16))
    advice = nibabels(refusal(lambda: read(stack)))
    nib.save(eval(advice, {"image": nib.load(stack)}), "one.nii.gz")
    np.testing.assert_array_equal(read("one.nii.gz").data, SCAN.data)


def test_a_header_without_a_position_or_with_an_unknown_unit() -> None:
    def lost(nifti: Any) -> None:
        nifti.set_sform(None, code=0)
        nifti.set_qform(None, code=0)

    def strange(nifti: Any) -> None:
        nifti.header["xyzt_units"] = 4

    for path in (saved("lost.nii", SCAN.data, lost), saved("strange.nii", SCAN.data, strange)):
        image = nib.load(path)
        exec(nibabels(refusal(lambda path=path: read(path))), {"image": image, "affine": WHERE.affine})
        nib.save(image, "mended.nii")
        assert read("mended.nii").grid.same_as(WHERE)


def test_the_slice_that_matches() -> None:
    flat = Grid((*WHERE.shape[:2], 1), WHERE.affine)
    plane = Image(SCAN.data[:, :, 5:6], flat, form=Form(dimension=2))
    message = refusal(lambda: maxca.register(plane, "scan.nii.gz", **QUICK))
    nib.save(eval(nibabels(message), {"image": nib.load("scan.nii.gz"), "k": 5}), "slice.nii.gz")
    assert maxca.register("slice.nii.gz", "slice.nii.gz", **QUICK).warped.data.shape == flat.shape


def test_a_mask_whose_header_is_wrong() -> None:
    mask = np.ones(WHERE.shape, np.uint8)
    wrong = WHERE.affine.copy()
    wrong[:3, 3] += 13
    nib.save(nib.Nifti1Image(mask, wrong), "mask.nii.gz")
    message = refusal(lambda: read_side("fixed", "scan.nii.gz", "mask.nii.gz"))
    made = eval(nibabels(message).split(")")[0] + ")", {**vars(nib), "data": mask, "affine": WHERE.affine})
    nib.save(made, "right.nii.gz")
    assert read_side("fixed", "scan.nii.gz", "right.nii.gz").warnings == ()
    assert main(shlex.split(message[message.index("maxca apply") :])[1:]) == 0
    assert read("regridded.nii.gz").grid.same_as(WHERE)


def test_the_inverse_of_a_field_and_a_field_on_a_sheared_grid() -> None:
    field = DenseField(torch.zeros(3, *WHERE.shape), WHERE)
    write_transform(Chain((field,)), "warp.h5")
    message = refusal(lambda: read_transform("[warp.h5,1]"))
    found = re.search(r"maxca (transform invert .*)$", message)
    assert found is not None
    assert main(found[1].replace("FILE", "warp.h5").split()) == 0
    read_transform("inverse.h5")
    shear = np.eye(4)
    shear[0, 1] = 0.3
    skewed = Grid(WHERE.shape, shear @ WHERE.affine)
    message = refusal(lambda: write_transform(Chain((DenseField(field.displacement, skewed),)), "t.h5"))
    found = re.search(r"maxca (transform convert -r FIXED)", message)
    assert found is not None
    phantoms.save(Path("skewed.nii.gz"), Image(SCAN.data, skewed))
    assert main([*found[1].replace("FIXED", "skewed.nii.gz").split(), "-i", "warp.h5", "-o", "t.h5"]) == 0


@pytest.mark.parametrize("convention", ["ras", "fsl"])
def test_what_a_bare_matrix_means(convention: str) -> None:
    np.savetxt("flirt.mat", np.eye(4))
    words = ["apply", "-i", "scan.nii.gz", "-r", "scan.nii.gz", "-t", "flirt.mat", "-q"]
    message = refusal(lambda: apply("scan.nii.gz", "scan.nii.gz", ["flirt.mat"]))
    assert f"--matrix-convention {convention}" in message
    assert main([*words, "--matrix-convention", convention, "-o", "out.nii.gz"]) == 0


@pytest.mark.parametrize("space", ["LPS", "RAS"])
def test_which_coordinates_ants_has(space: str) -> None:
    Path("points.csv").write_text("x,y,z,t\n1,2,3,0\n")
    line = f"# space: {space}"
    assert line in refusal(lambda: read_points("points.csv"))
    Path("points.csv").write_text(f"{line}\nx,y,z,t\n1,2,3,0\n")
    sign = -1 if space == "LPS" else 1
    np.testing.assert_array_equal(read_points("points.csv").coordinates, [[sign, 2 * sign, 3]])


def test_an_unsupported_transform_is_sampled_in_simpleitk() -> None:
    fixed = sitk.ReadImage("scan.nii.gz", sitk.sitkFloat32)
    splines = sitk.BSplineTransformInitializer(fixed, [3, 3, 3], 2)
    splines.SetParameters(np.random.default_rng(0).normal(0, 2, len(splines.GetParameters())).tolist())
    sitk.WriteTransform(splines, "splines.tfm")
    assert "TransformToDisplacementField" in refusal(lambda: read_transform("splines.tfm"))
    sampled = sitk.TransformToDisplacementField(
        splines, sitk.sitkVectorFloat64, fixed.GetSize(), fixed.GetOrigin(), fixed.GetSpacing(), fixed.GetDirection()
    )
    sitk.WriteTransform(sitk.DisplacementFieldTransform(sampled), "splines.h5")
    point = np.array([3.0, -4, 5])
    expected = np.array(splines.TransformPoint((point * [-1, -1, 1]).tolist())) * [-1, -1, 1]
    np.testing.assert_allclose(read_transform("splines.h5").map_points(point), expected, atol=0.2)


def test_an_affine_has_no_grid() -> None:
    write_transform(Chain((Affine(np.eye(4)),)), "affine.h5")
    message = refusal(lambda: write_transform(Chain((Affine(np.eye(4)),)), "field.nii.gz"))
    assert "--reference" in message
    words = ["transform", "convert", "-i", "affine.h5", "-o", "field.nii.gz", "--reference", "scan.nii.gz", "-q"]
    assert main(words) == 0


@pytest.mark.parametrize("role", ["fixed", "moving", "fixed_mask", "moving_labels", "fixed_points"])
def test_where_a_file_of_a_report_is_now(role: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = {}
    for name in ("fixed", "moving", "fixed_mask", "fixed_labels", "moving_labels"):
        what = phantoms.scene if name in ("fixed", "moving") else phantoms.regions
        given[name] = str(phantoms.save(Path(f"{name}.nii.gz"), phantoms.image(WHERE, what=what)))
    for name in ("fixed_points", "moving_points"):
        given[name] = f"{name}.csv"
        Path(given[name]).write_text("x,y,z\n1,2,3\n")
    maxca.register(**given, **QUICK).save("out")
    Path("now").mkdir()
    moved = Path(given[role]).rename(Path("now") / given[role])
    message = refusal(lambda: read_case("out"))
    option = re.search(r"(--[a-z-]+) FILE", message)
    assert option is not None and option[1] == f"--{role.replace('_', '-')}"
    assert main(["report", "out", option[1], str(moved)]) == 0
    assert main(["report", "out", option[1], str(moved), "--moving-mask", "scan.nii.gz"]) == 1
    assert "was created without moving mask" in capsys.readouterr().err
