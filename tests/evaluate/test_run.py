"""An evaluation from pair list to table: precomputed transforms against a hand-made table, killed and resumed."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from maxca.cli.main import main
from maxca.errors import MaxcaError
from maxca.evaluate.methods import GIVEN, Method, ours, parse
from maxca.evaluate.options import EvaluationOptions
from maxca.evaluate.processes import run as run_process
from maxca.evaluate.rows import LABEL_COLUMNS, alone, append, label_file, read_rows
from maxca.evaluate.run import contradiction, evaluate
from maxca.io.pairs import read_pairs

SHAPE, SPACING = (20, 18, 16), np.array([2.0, 1.5, 3.0])
AFFINE = np.diag([*SPACING, 1.0])
AFFINE[:3, 3] = (-10, 5, 7)
SHIFT = np.array([3, -2, 1])  # voxels by which the moving image lies further on


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three times the same pair: two boxes, and the same further on, so that a shift makes all right."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[5:12, 6:12, 4:9], labels[12:15, 6:12, 4:9] = 1, 2
    moving = np.roll(labels, SHIFT, axis=(0, 1, 2))
    for name, data in (("fixed", labels), ("moving", moving)):
        nib.save(nib.Nifti1Image(data, AFFINE), tmp_path / f"{name}_seg.nii.gz")
        nib.save(nib.Nifti1Image(data.astype(np.float32) * 50, AFFINE), tmp_path / f"{name}.nii.gz")
    line = "fixed.nii.gz,moving.nii.gz,fixed_seg.nii.gz,moving_seg.nii.gz,box\n"
    (tmp_path / "pairs.csv").write_text("fixed,moving,fixed_labels,moving_labels,group\n" + 3 * line)
    return tmp_path / "pairs.csv"


def test_images_that_are_links_are_named_as_in_the_list(pairs: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "fixed.nii.gz").rename(elsewhere / "one.nii.gz")
    (tmp_path / "fixed.nii.gz").symlink_to(elsewhere / "one.nii.gz")
    row = {"fixed": "fixed.nii.gz", "moving": "moving.nii.gz", "versions": ""}
    assert contradiction(row, parse("maxca-fast"), read_pairs(pairs)[0], pairs) == ""


@pytest.fixture
def transforms(tmp_path: Path) -> Path:
    """The shift in three formats: as ITK's transform, as ANTs' field in mm, and in voxels as in Learn2Reg."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    mm = SHIFT * SPACING
    sitk.WriteTransform(sitk.TranslationTransform(3, (mm * (-1, -1, 1)).tolist()), str(folder / "0.tfm"))
    field = np.broadcast_to(mm * (-1, -1, 1), (*SHAPE, 1, 3)).astype(np.float32)
    image = nib.Nifti1Image(field, AFFINE)
    image.header.set_intent("vector")
    nib.save(image, folder / "0001.nii.gz")
    np.savez(folder / "2.npz", np.broadcast_to(SHIFT[:, None, None, None], (3, *SHAPE)).astype(np.float16))
    return folder


@pytest.mark.usefixtures("forked")
def test_files_that_depend_on_both_images_are_read_with_those_of_the_pair(pairs: Path, tmp_path: Path) -> None:
    """FNIRT's field, AFNI's matrix and FreeSurfer's, made by hand for the shift."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    mm = SHIFT * SPACING
    fsl = mm * ((-1 if np.linalg.det(AFFINE) > 0 else 1), 1, 1)
    image = nib.Nifti1Image(np.broadcast_to(fsl, (*SHAPE, 3)).astype(np.float32), AFFINE)
    image.header["intent_code"] = 2006
    nib.save(image, folder / "0.nii.gz")
    lps = mm * (-1, -1, 1)
    (folder / "1.aff12.1D").write_text("1 0 0 {} 0 1 0 {} 0 0 1 {}\n".format(*lps))
    volume = ["valid = 0", "filename = none", "volume = 1 1 1", "voxelsize = 1 1 1"]
    volume += ["xras = 1 0 0", "yras = 0 1 0", "zras = 0 0 1", "cras = 0 0 0"]
    rows = ["{} {} {} {}".format(*row, -shift) for row, shift in zip(np.eye(3), mm, strict=True)]
    lines = ["type = 1", "nxforms = 1", "mean = 0 0 0", "sigma = 1", "1 4 4", *rows, "0 0 0 1"]
    (folder / "2.lta").write_text("\n".join([*lines, "src volume info", *volume, "dst volume info", *volume, ""]))
    evaluate(pairs, tmp_path / "out.csv", [Method(GIVEN, folder=folder)], EvaluationOptions(threads=1))
    scores = [(row["error"], row["dice"]) for row in read_rows(tmp_path / "out.csv")]
    assert scores == [("", "1")] * 3


@pytest.mark.usefixtures("forked")
def test_three_formats_give_the_table_made_by_hand(pairs: Path, transforms: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    added = evaluate(
        pairs, out, [Method(GIVEN, folder=transforms), parse("unmoved")], EvaluationOptions(name="boxes", threads=1)
    )
    assert added == 6
    rows = read_rows(out)
    # 7 of the fixed box's voxels meet the moved one's along i, and so on: 4 * 4 * 4 of 7 * 6 * 5 for the first label.
    before = np.mean([4 * 4 * 4 / (7 * 6 * 5), 0.0])
    by_hand = {"given:theirs": (1.0, 0.0), "unmoved": (before, None)}
    for row in rows:
        dice, hd95 = by_hand[row["method"]]
        assert (row["set"], row["group"], row["fixed"]) == ("boxes", "box", "fixed.nii.gz")
        assert row["error"] == ""
        assert float(row["dice"]) == pytest.approx(dice, abs=1e-6)
        assert float(row["dice_before"]) == pytest.approx(before, abs=1e-6)
        assert hd95 is None or float(row["hd95_mm"]) == hd95
        assert float(row["ndv_percent"]) == 0
        assert float(row["deformation_mm"]) == pytest.approx(0, abs=1e-3)
    assert sorted((row["pair"], row["method"]) for row in rows) == sorted(
        (str(n), method) for n in range(3) for method in by_hand
    )
    labels = read_rows(label_file(out), LABEL_COLUMNS)
    assert len(labels) == 12
    assert {float(row["dice"]) for row in labels if row["method"] == "given:theirs"} == {1.0}


@pytest.mark.usefixtures("forked")
def test_two_evaluations_do_not_write_to_one_table(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with alone(out), pytest.raises(MaxcaError, match="another evaluation is writing to it"):
        evaluate(pairs, out, [parse("unmoved")], EvaluationOptions(threads=1))
    assert not out.exists(), "nothing was done"
    assert evaluate(pairs, out, [parse("unmoved")], EvaluationOptions(pair=(0,), threads=1)) == 1
    with alone(out):
        assert len(read_rows(out)) == 1


@pytest.mark.usefixtures("forked")
def test_a_killed_evaluation_goes_on_without_doing_a_pair_twice(
    pairs: Path, transforms: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    command = ["evaluate", "--pairs", str(pairs), "-o", str(out), "--threads", "1"]
    command += ["--methods", "unmoved", "--transforms", str(transforms), "--quiet"]
    process = subprocess.Popen([sys.executable, "-m", "maxca", *command])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(read_rows(out)) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = out.read_text()
    assert 2 <= len(read_rows(out)) < 6
    # As if the end of a line, and labels of a row that was not finished, had come in between.
    with out.open("a") as file:
        file.write("data,2,given:th")
    append(label_file(out), [{"set": tmp_path.name, "pair": 2, "method": "given:theirs", "label": 1}], LABEL_COLUMNS)
    capfd.readouterr()
    assert main(command) == 0
    assert capfd.readouterr().err == ""
    rows = read_rows(out)
    keys = [(row["pair"], row["method"]) for row in rows]
    assert len(keys) == len(set(keys)) == 6
    assert out.read_text().startswith(first)
    labels = [(row["pair"], row["method"], row["label"]) for row in read_rows(label_file(out), LABEL_COLUMNS)]
    assert len(labels) == len(set(labels)) == 12
    assert "| given:theirs | 3 |" in out.with_suffix(".md").read_text(encoding="utf-8")
    assert (out.parent / f"{out.stem}-summary.csv").read_text(encoding="utf-8").startswith("set,method,score,pairs,")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_what_a_scheduler_or_ctrl_c_ends_is_no_failure(pairs: Path, tmp_path: Path, ending: signal.Signals) -> None:
    out = tmp_path / "out.csv"
    command = [sys.executable, "-m", "maxca", "evaluate", "--pairs", str(pairs), "-o", str(out), "--threads", "1"]
    command += ["--methods", "unmoved,maxca-fast,greedy", "--jobs", "2", "--quiet"]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(read_rows(out)) < 2:
        time.sleep(0.02)
    os.killpg(process.pid, ending)  # to all at once, as both do
    _, said = process.communicate()
    assert process.returncode == 128 + ending
    assert len(said.splitlines()) <= 1
    rows = read_rows(out)
    assert 2 <= len(rows) < 9
    assert {row["error"] for row in rows} == {""}


@pytest.mark.usefixtures("forked")
def test_a_failed_registration_is_a_row(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "moving.nii.gz").write_bytes(b"nothing")
    evaluate(pairs, tmp_path / "out.csv", [parse("maxca-fast")], EvaluationOptions(pair=(1,), threads=1))
    (row,) = read_rows(tmp_path / "out.csv")
    assert row["pair"] == "1"
    assert row["error"].startswith("maxca: error: moving.nii.gz: ")  # below the list, as in the other columns
    assert row["dice"] == ""


def test_what_cannot_be_evaluated_is_refused(pairs: Path, transforms: Path, tmp_path: Path) -> None:
    with pytest.raises(MaxcaError, match="no pair is left"):
        evaluate(pairs, tmp_path / "out.csv", [parse("unmoved")], EvaluationOptions(group="none"))
    (transforms / "2.npz").unlink()
    with pytest.raises(MaxcaError, match="one transform for pair 2"):
        evaluate(pairs, tmp_path / "out.csv", [Method(GIVEN, folder=transforms)])
    assert not (tmp_path / "out.csv").exists()
    with (tmp_path / "other.csv").open("w") as file:
        csv.writer(file).writerows([["a", "b"], [1, 2]])
    with pytest.raises(MaxcaError, match="not a table of maxca evaluate"):
        evaluate(pairs, tmp_path / "other.csv", [parse("unmoved")])


def test_a_process_is_measured_by_itself() -> None:
    usage = run_process([sys.executable, "-c", "x = bytearray(150 << 20); print(len(x))"], os.environ)
    assert usage.output == "157286400\n"
    assert usage.error == ""
    assert usage.peak_mb > 150
    assert 0 < usage.seconds < 30
    assert run_process([sys.executable, "-c", "raise ValueError('no such image')"], os.environ).error == (
        "ValueError: no such image"
    )
    assert run_process([sys.executable, "-c", "raise SystemExit(3)"], os.environ).error == "exit status 3"
    assert run_process([sys.executable, "-c", "import os; os.abort()"], os.environ).error == "exit status -6"


@pytest.mark.parametrize("ends", ["raise SystemExit(143)", "import os; os.kill(os.getpid(), 15)"])
def test_a_process_that_was_ended_has_no_outcome(ends: str) -> None:
    with pytest.raises(MaxcaError, match="terminated by SIGTERM; run the same command"):
        run_process([sys.executable, "-c", ends], os.environ)


@pytest.mark.usefixtures("forked")
def test_rows_of_other_images_are_not_taken_for_these(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert evaluate(pairs, out, [parse("unmoved")] * 2, EvaluationOptions(name="boxes", pair=(0,))) == 1
    before = out.read_text()
    other = tmp_path / "other.csv"
    other.write_text(pairs.read_text().replace("fixed.nii.gz,moving.nii.gz", "moving.nii.gz,fixed.nii.gz"))
    with pytest.raises(MaxcaError, match=r"row boxes 0 unmoved is of other images \(fixed.nii.gz, moving.nii.gz\)"):
        evaluate(other, out, [parse("unmoved")], EvaluationOptions(name="boxes", pair=(0,)))
    assert evaluate(other, out, [parse("unmoved")], EvaluationOptions(name="swapped", pair=(0,))) == 1
    assert out.read_text().startswith(before)


@pytest.mark.usefixtures("forked")
def test_models_of_one_name_are_not_taken_for_each_other(pairs: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "out.csv", tmp_path / "mine.safetensors"
    model.write_bytes(b"weights")
    asked = ours("fast", str(model))
    row = {"set": "boxes", "pair": 0, "method": asked.name, "fixed": "fixed.nii.gz", "moving": "moving.nii.gz"}
    append(out, [row | {"versions": asked.versions}])
    assert evaluate(pairs, out, [asked], EvaluationOptions(name="boxes", pair=(0,))) == 0
    model.write_bytes(b"others")
    with pytest.raises(MaxcaError, match="is of another model of that name; choose another table"):
        evaluate(pairs, out, [ours("fast", str(model))], EvaluationOptions(name="boxes", pair=(0,)))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.safetensors").write_bytes(b"weights")
    both = [ours("fast", str(path)) for path in (model, tmp_path / "a" / "mine.safetensors")]
    with pytest.raises(MaxcaError, match=r"two methods have the name maxca-fast\+mine"):
        evaluate(pairs, out, both)


@pytest.mark.usefixtures("forked")
def test_a_label_that_is_moved_out_of_the_image_counts(pairs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "far"
    folder.mkdir()
    sitk.WriteTransform(sitk.TranslationTransform(3, (1000.0, 0.0, 0.0)), str(folder / "0.tfm"))
    evaluate(pairs, tmp_path / "out.csv", [Method(GIVEN, folder=folder)], EvaluationOptions(pair=(0,), threads=1))
    (row,) = read_rows(tmp_path / "out.csv")
    assert (row["error"], float(row["dice"]), row["hd95_mm"]) == ("", 0.0, "")
    labels = read_rows(label_file(tmp_path / "out.csv"), LABEL_COLUMNS)
    assert [(label["label"], float(label["dice"]), label["hd95_mm"]) for label in labels] == [
        *(("1", 0.0, ""), ("2", 0.0, ""))
    ]
