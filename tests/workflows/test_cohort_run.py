"""A cohort through a real scheduler: the results of `register`, resumption, tables, a page of every pair."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from cohortpairs import OPTIONS, PATIENTS, hashes
from distributed import Client

import maxca
from maxca import cohort
from maxca.cli.main import main
from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain
from maxca.io.atomic import RESULT_FILE
from maxca.io.pairs import Pair
from maxca.io.transforms import write_transform
from maxca.options import RegistrationOptions
from maxca.registration.result import Result
from maxca.report.case import read_case
from maxca.report.cohort import THUMBNAIL, prepare_row, write_cohort
from maxca.workflows.cohort.options import AtlasInputs, CohortOptions
from maxca.workflows.cohort.plan import read_plan
from maxca.workflows.cohort.planning import make_plan

NAMES = [f"sub-{number}_T1" for number in range(PATIENTS)]


def times(out: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob(f"*/{RESULT_FILE}")}


def rows(out: Path, name: str = "measures.tsv") -> list[dict[str, str]]:
    with (out / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.mark.slow
def test_results_are_those_of_register_and_survive_a_second_run(
    pairs: Path, tmp_path: Path, address: str, alone: dict[str, dict[str, str]]
) -> None:
    out, where = tmp_path / "out", CohortOptions(scheduler=address)
    plan = maxca.cohort(pairs, out, OPTIONS, where)
    assert [pair.name for pair in plan.pairs] == NAMES
    assert {pair.name: hashes(out / pair.name) for pair in plan.pairs} == alone
    assert read_plan(out) == plan and plan.count() == {"done": PATIENTS, "failed": 0, "pending": 0}
    before = times(out)
    assert maxca.cohort(pairs, out, OPTIONS, where).count()["done"] == PATIENTS
    assert times(out) == before

    table = rows(out)
    assert [row["name"] for row in table] == NAMES and {row["group"] for row in table} == {"a", "b"}
    metrics = json.loads((out / NAMES[2] / RESULT_FILE).read_text())["metrics"]
    assert float(table[2]["dice_after"]) == pytest.approx(metrics["dice_after"]["mean"], rel=1e-5)
    assert float(table[2]["ndv_percent"]) == pytest.approx(metrics["folding"]["ndv_percent"], rel=1e-5, abs=1e-9)
    labels = [row for row in rows(out, "labels.tsv") if row["name"] == NAMES[2]]
    assert {row["label"]: float(row["dice_after"]) for row in labels} == pytest.approx(
        metrics["dice_after"]["by_label"], rel=1e-5
    )


@pytest.mark.slow
def test_corrupt_missing_and_changed_inputs(pairs: Path, tmp_path: Path, address: str) -> None:
    out, where = tmp_path / "out", CohortOptions(scheduler=address)
    corrupt, missing, changed = (tmp_path / f"sub-{number}" / "T1.nii.gz" for number in range(3))
    whole = {path: path.read_bytes() for path in (corrupt, missing, changed)}
    corrupt.write_bytes(whole[corrupt][:-100])
    missing.unlink()
    said: list[str] = []
    plan = maxca.cohort(pairs, out, OPTIONS, where, warn=said.append)
    assert [pair.state for pair in plan.pairs] == ["failed", "failed", *["done"] * (PATIENTS - 2)] and not said
    assert str(corrupt) in (plan.pairs[0].error or "") and "no such file" in (plan.pairs[1].error or "")
    assert {path.name for path in out.iterdir() if path.is_dir()} == set(NAMES[2:])
    entries = write_cohort(out)
    assert [entry.state for entry in entries[:3]] == ["error", "error", "aligned"] and len(entries) == PATIENTS
    page = (out / "cohort.html").read_text(encoding="utf-8")
    assert page.index(NAMES[1]) < page.index(NAMES[5]) and "no such file" in page and "2 error" in page

    # A failed pair is tried again when it is asked for, or when its files have changed.
    before = times(out)
    missing.write_bytes(whole[missing])
    changed.write_bytes(whole[corrupt])
    plan = maxca.cohort(pairs, out, OPTIONS, where, warn=said.append)
    assert [pair.state for pair in plan.pairs] == ["failed", *["done"] * (PATIENTS - 1)]
    assert said == ["2 pairs are registered again: their files or the options have changed"]
    assert {name for name, time in times(out).items() if before.get(name) != time} == {NAMES[1], NAMES[2]}
    corrupt.write_bytes(whole[corrupt])
    again = maxca.cohort(pairs, out, OPTIONS, replace(where, retry="failed"))
    assert again.count()["done"] == PATIENTS


@pytest.mark.slow
def test_other_options_are_noticed_and_a_failure_leaves_no_outdated_result(
    pairs: Path, tmp_path: Path, address: str
) -> None:
    out, where = tmp_path / "out", CohortOptions(scheduler=address)
    pairs.write_text("\n".join(pairs.read_text().splitlines()[:3]) + "\n")
    maxca.cohort(pairs, out, OPTIONS, where)
    before, said = times(out), []
    rigid = replace(OPTIONS, transform="rigid")
    assert maxca.cohort(pairs, out, rigid, where, warn=said.append).count()["done"] == 2
    assert said and said[0].startswith("2 pairs are registered again")
    assert all(times(out)[name] != before[name] for name in NAMES[:2])
    scan = tmp_path / "sub-0" / "T1.nii.gz"
    scan.write_bytes(scan.read_bytes()[:500])
    plan = maxca.cohort(pairs, out, rigid, where)
    assert plan.pairs[0].state == "failed" and not (out / NAMES[0]).exists()
    assert (out / NAMES[1] / "transform.h5").is_file()


@pytest.mark.slow
def test_the_command_line_registers_to_an_atlas(
    scans: Path, tmp_path: Path, address: str, alone: dict[str, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    listed = [f"{scans}/sub-{n}/T1.nii.gz,{scans}/sub-{n}/labels.nii.gz" for n in (1, 3)]
    (tmp_path / "list.csv").write_text("\n".join(["moving,moving_labels", *listed, f"{scans}/sub-9/T1.nii.gz,"]))
    atlas = ("--fixed", f"{scans}/atlas.nii.gz", "--fixed-labels", f"{scans}/atlas_labels.nii.gz")
    words = ["cohort", str(tmp_path / "list.csv"), "-o", str(tmp_path / "out"), *atlas, "--scheduler", address]
    assert main([*words, "--model", "none", "--effort", "fast"]) == 1
    assert json.loads((tmp_path / "out" / "sub-3_T1" / RESULT_FILE).read_text())["verdict"]["state"] == "aligned"
    assert "sub-9/T1.nii.gz: no such file" in (tmp_path / "out" / "cohort.html").read_text(encoding="utf-8")
    found = hashes(tmp_path / "out" / "sub-3_T1")
    assert found.pop(THUMBNAIL) and found == alone["sub-3_T1"]
    assert "3 pairs, 2 done, 1 failed, 0 pending" in capsys.readouterr().out
    assert main(["cohort", "status", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "2 done, 1 failed" in shown and f"{scans}/sub-9/T1.nii.gz: no such file" in shown
    shutil.rmtree(tmp_path / "out" / "sub-3_T1")  # a result that somebody removed is made again
    main([*words, "--model", "none", "--effort", "fast", "--quiet", "--no-page"])
    assert hashes(tmp_path / "out" / "sub-3_T1") == alone["sub-3_T1"]


@pytest.mark.slow
def test_what_is_kept_can_be_chosen(
    pairs: Path, tmp_path: Path, address: str, alone: dict[str, dict[str, str]]
) -> None:
    out, where = tmp_path / "out", CohortOptions(scheduler=address, save="none")
    pairs.write_text("\n".join(pairs.read_text().splitlines()[:3]) + "\n")
    maxca.cohort(pairs, out, OPTIONS, where, finish=prepare_row)
    kept = hashes(out / NAMES[0])
    assert kept.pop(THUMBNAIL) and kept == {"transform.h5": alone[NAMES[0]]["transform.h5"]}
    case = read_case(out / NAMES[0])
    point = case.fixed.image.grid.to_world([[8.0, 9.0, 7.0]])
    assert case.inverse.map_points(case.chain.map_points(point)) == pytest.approx(point, abs=0.1)
    assert "verdict" in json.loads((out / NAMES[0] / RESULT_FILE).read_text())
    said: list[str] = []
    maxca.cohort(pairs, out, OPTIONS, replace(where, save="labels,inverse"), warn=said.append)
    assert said[0].startswith("2 pairs are registered again")
    kept = {name: alone[NAMES[0]][name] for name in alone[NAMES[0]] if name != "warped.nii.gz"}
    assert hashes(out / NAMES[0]) == kept and len(kept) == 3


@pytest.mark.slow
def test_transforms_can_be_kept_smaller(pairs: Path, tmp_path: Path, address: str) -> None:
    pairs.write_text("\n".join(pairs.read_text().splitlines()[:2]) + "\n")
    kept = {}
    for save in ("inverse", "inverse,compact", "affine"):
        out = tmp_path / save
        plan = maxca.cohort(pairs, out, OPTIONS, CohortOptions(scheduler=address, save=save), finish=prepare_row)
        assert plan.count()["done"] == 1
        kept[save] = out / plan.pairs[0].name
    small = kept["inverse,compact"]
    points = np.random.default_rng(0).uniform(-20, 20, (50, 3))
    for name in ("transform.h5", "inverse_transform.h5"):
        usual, ours = (sitk.ReadTransform(str(place / name)) for place in (kept["inverse"], small))
        assert (small / name).stat().st_size < 0.8 * (kept["inverse"] / name).stat().st_size
        far = [np.subtract(usual.TransformPoint(at), ours.TransformPoint(at)) for at in points.tolist()]
        assert 0 < np.abs(far).max() <= 1.01 * 4.0 / 64  # half of a step of at most 1/64 of 4 mm in each of two fields

    names = {path.name for path in kept["affine"].iterdir()}
    assert names == {"affine.tfm", RESULT_FILE, "task.json", THUMBNAIL}
    whole = sitk.CompositeTransform(sitk.ReadTransform(str(kept["inverse"] / "transform.h5")))
    linear = next(t for t in map(whole.GetNthTransform, range(whole.GetNumberOfTransforms())) if t.IsLinear())
    alone = sitk.ReadTransform(str(kept["affine"] / "affine.tfm"))
    for at in points.tolist():
        assert alone.TransformPoint(at) == pytest.approx(linear.TransformPoint(at), abs=1e-6)
    assert write_cohort(tmp_path / "affine")[0].state == "aligned"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scheduler": "tcp://127.0.0.1:9"}, "no Dask scheduler answers"),
        ({"atlas": AtlasInputs(fixed="nowhere.nii.gz")}, "no such file"),
        ({"atlas": AtlasInputs(fixed_mask="nowhere.nii.gz")}, "pass fixed=FILE"),
        ({"list": "fixed,moving\na.nii.gz,b.nii.gz\na.nii.gz,b.nii.gz\n"}, "pair 2 has the images of pair 1"),
        ({"list": "fixed,moving\na.nii.gz,b.nii.gz\n"}, "none of the 1 pairs can be read"),
        ({"list": "moving\nb.nii.gz\n"}, "no fixed"),
        ({"model": "nowhere.safetensors"}, "no such file"),
        ({"foreign": True}, "choose another folder"),
    ],
    ids=str,
)
def test_what_is_refused_leaves_nothing(pairs: Path, tmp_path: Path, change: dict, says: str) -> None:
    if "list" in change:
        pairs.write_text(change["list"])
    out = tmp_path / "out"
    if "foreign" in change:
        out.mkdir()
        (out / "thesis.txt").write_text("text")
    options = replace(OPTIONS, model=change.get("model", "none"))
    where = CohortOptions(scheduler=change.get("scheduler", "tcp://127.0.0.1:9"))
    with pytest.raises(MaxcaError, match=says):
        maxca.cohort(pairs, out, options, where, atlas=change.get("atlas"))
    assert [path.name for path in out.glob("*")] == ["thesis.txt"] * ("foreign" in change)
    assert out.exists() == ("foreign" in change)


def test_each_pair_may_have_an_initial_transform(scans: Path, tmp_path: Path, address: str) -> None:
    start = Affine(np.block([[np.eye(3), np.array([[1.0], [-0.5], [0.5]])], [np.zeros((1, 3)), np.ones((1, 1))]]))
    write_transform(Chain((start,)), tmp_path / "start.tfm")
    pair = Pair(scans / "atlas.nii.gz", scans / "sub-1/T1.nii.gz", initial_transform=tmp_path / "start.tfm")
    options = RegistrationOptions(transform="affine", model="none", effort="fast", threads=1)
    with Client(address):  # without a choice of workers, those of the client in whose context it is called
        plan = cohort([pair], tmp_path / "out", options)
    alone = maxca.register(
        pair.fixed, pair.moving, transform="affine", model="none", effort="fast", threads=1,
        initial_transform=tmp_path / "start.tfm",
    )  # fmt: skip
    found = Result.load(tmp_path / "out" / plan.pairs[0].name)
    np.testing.assert_allclose(found.chain.as_affine().matrix, alone.chain.as_affine().matrix, atol=1e-6)
    assert found.record.settings.initial_transform == str(tmp_path / "start.tfm")
    write_transform(Chain(()), tmp_path / "start.tfm")
    again = make_plan([pair], options)
    assert again.pairs[0].fingerprint != plan.pairs[0].fingerprint


def test_unknown_outputs_are_refused() -> None:
    with pytest.raises(MaxcaError, match="choose some of inverse, warped, labels, field, compact, affine"):
        CohortOptions(save="inverse,everything")


def test_workers_and_a_scheduler_exclude_each_other() -> None:
    with pytest.raises(MaxcaError, match="remove one of the two"):
        CohortOptions(workers=2, scheduler="tcp://127.0.0.1:8786")
