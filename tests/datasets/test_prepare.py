"""Preparing a data set: one grid, a record of it, going on where it was, and bad scans named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import phantoms
import pytest
import torch

from maxca.datasets.prepare import Plan, prepare
from maxca.datasets.prepared import read_prepared
from maxca.errors import MaxcaError
from maxca.metrics import dice
from maxca.training.loader import Pairs, Scans


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scans of one scene, each turned, shifted and stored another way."""
    folder = tmp_path_factory.mktemp("msd")
    for n, flips in enumerate(("", "ij", "k", "i")):
        grid = phantoms.grid((2.5, 3.0, 2.5), flips=flips)

        def seen(points: np.ndarray, n: int = n) -> np.ndarray:
            return points * (1 + 0.03 * n) + np.array([2.0 * n, -n, 0])

        for kind, what in (("imagesTr", phantoms.scene), ("labelsTr", phantoms.regions)):
            (folder / kind).mkdir(exist_ok=True)
            phantoms.save(folder / kind / f"s{n}.nii.gz", phantoms.image(grid, seen, what))
    (folder / "split.json").write_text(json.dumps({"train": ["s0", "s1", "s2"], "val": ["s3"]}))
    return folder


def plan() -> Plan:
    from maxca.datasets.hippocampus import read_msd

    return Plan(read_msd, "inter", (3.0, 3.0, 3.0))


@pytest.fixture(scope="module")
def prepared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "ready"
    assert prepare("hippocampus", source, out, plan=plan()) == []
    return out


def beside_the_template(prepared: Path, out: Path) -> Path:
    """A folder to prepare the same scans in, whose template, which takes most of the time, is there already."""
    out.mkdir()
    for name in ("template.nii.gz", "template.json"):
        shutil.copy(prepared / name, out)
    return out


def test_scans_keep_their_grid_and_meet_in_a_common_world(prepared: Path) -> None:
    data = read_prepared(prepared)
    assert [scan.spacing for scan in data.scans] == [(3.0, 3.0, 3.0)] * 4
    assert (len(data.pairs("train")), len(data.pairs("val"))) == (6, 0)
    pairs = Pairs(Scans(data), "train")
    for number in range(len(pairs)):
        sample = pairs[number]
        fixed, moving = sample["fixed"].flatten(), sample["moving"].flatten()
        assert torch.corrcoef(torch.stack([fixed, moving]))[0, 1] > 0.97
        overlap = dice(sample["fixed_labels"].numpy(), sample["moving_labels"].numpy())
        assert min(overlap.values()) > 0.8, "whatever is lost by rounding twice at 3 mm"
    manifest = json.loads((prepared / "manifest.json").read_text())
    assert len(manifest["scans"][0]["inputs"]["s0.nii.gz"]) == 64


def test_with_a_shape_scans_come_onto_the_grid_of_the_template(source: Path, tmp_path: Path) -> None:
    assert prepare("hippocampus", source, tmp_path / "out", plan=replace(plan(), shape=(24, 22, 20))) == []
    data = read_prepared(tmp_path / "out")
    first, *others = (data.load(scan) for scan in data.scans)
    assert first.image.shape == (24, 22, 20)
    assert len({scan.to_voxel for scan in data.scans}) == 1
    for other in others:
        assert torch.corrcoef(torch.stack([first.image.flatten(), other.image.flatten()]).float())[0, 1] > 0.97


def test_what_is_done_is_not_done_again(source: Path, prepared: Path) -> None:
    files = [*sorted(prepared.rglob("*.safetensors")), prepared / "template.nii.gz"]
    before = [file.stat().st_mtime_ns for file in files]
    (prepared / "scans" / "s1.safetensors").write_bytes(b"cut short")
    prepare("hippocampus", source, prepared, plan=plan())
    after = [file.stat().st_mtime_ns for file in files]
    assert [file.stem for file, a, b in zip(files, before, after, strict=True) if a != b] == ["s1"]
    read_prepared(prepared).load(read_prepared(prepared).scans[1])


@pytest.mark.slow
def test_several_processes_prepare_the_same(source: Path, prepared: Path, tmp_path: Path) -> None:
    prepare("hippocampus", source, beside_the_template(prepared, tmp_path / "two"), plan=plan(), jobs=2)
    one, two = read_prepared(prepared), read_prepared(tmp_path / "two")
    assert one.scans == two.scans
    for scan in one.scans:
        ours, theirs = one.load(scan).image.int(), two.load(scan).image.int()
        assert (ours - theirs).abs().max() <= 1  # another number of threads


def test_a_bad_scan_is_named_and_the_others_are_prepared(source: Path, tmp_path: Path) -> None:
    import shutil

    broken = Path(shutil.copytree(source, tmp_path / "broken"))
    (broken / "imagesTr" / "s3.nii.gz").write_bytes(b"no image")
    for kind in ("imagesTr", "labelsTr"):
        (broken / kind / "s1.nii.gz").unlink()
    (broken / "split.json").write_text(json.dumps({"train": ["s0", "s2"], "val": ["s3"]}))
    failed = prepare("hippocampus", broken, tmp_path / "out", plan=plan())
    assert len(failed) == 1
    assert failed[0].startswith("s3: ")
    assert [scan.name for scan in read_prepared(tmp_path / "out").scans] == ["s0", "s2"]


def test_scans_of_one_subject_keep_their_place(tmp_path: Path) -> None:
    patient = tmp_path / "acdc" / "patient001"
    patient.mkdir(parents=True)
    (patient / "Info.cfg").write_text("ED: 1\nES: 4\n")
    affine = np.diag([-1.2, -1.2, 8.0, 1.0])
    for frame in (1, 4):
        data = np.random.default_rng(frame).random((90, 100, 6)).astype(np.float32)
        nib.save(nib.Nifti1Image(data, affine), patient / f"patient001_frame{frame:02d}.nii.gz")
        nib.save(
            nib.Nifti1Image((data > 0.5).astype(np.uint8), affine), patient / f"patient001_frame{frame:02d}_gt.nii.gz"
        )
    prepare("acdc", tmp_path / "acdc", tmp_path / "out")
    data = read_prepared(tmp_path / "out")
    assert [scan.spacing for scan in data.scans] == [(1.5, 1.5, 8.0)] * 2
    assert {scan.split for scan in data.scans} == {"train"}
    assert data.load(data.scans[0]).image.shape == (73, 81, 6)


@pytest.mark.parametrize("what", ["nothing", "manifest", "name"])
def test_other_folders_are_refused(what: str, tmp_path: Path) -> None:
    if what == "manifest":
        (tmp_path / "manifest.json").write_text("{}")
    if what == "name":
        row = {"name": "../../etc/passwd", "subject": "a", "split": "train", "group": "", "spacing": [1, 1, 1]}
        (tmp_path / "manifest.json").write_text(json.dumps({"format": 1, "kind": "inter", "scans": [row]}))
    with pytest.raises(MaxcaError, match=r"maxca prepare|not a manifest"):
        read_prepared(tmp_path)


def test_unknown_data_sets_and_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(MaxcaError, match="unknown data set 'x'; choose one of hippocampus"):
        prepare("x", tmp_path, tmp_path / "out")
    with pytest.raises(MaxcaError, match="no such folder"):
        prepare("acdc", tmp_path / "nowhere", tmp_path / "out")


def test_labels_that_a_prepared_file_cannot_hold_are_refused(source: Path, prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "in")
    bad = {"s1": 40_000, "s2": 312782546, "s3": 2.5}
    for name, value in bad.items():
        nifti: Any = nib.load(tmp_path / "in" / "labelsTr" / f"{name}.nii.gz")
        labels = np.where(nifti.get_fdata() > 1, value, nifti.get_fdata())
        nib.save(nib.Nifti1Image(labels, nifti.affine), tmp_path / "in" / "labelsTr" / f"{name}.nii.gz")
    out = beside_the_template(prepared, tmp_path / "out")
    problems = prepare("hippocampus", tmp_path / "in", out, plan=plan())
    for problem, name in zip(problems, bad, strict=True):
        assert f"{name}.nii.gz" in problem and "labels" in problem
    assert [scan.name for scan in read_prepared(out).scans] == ["s0"]


def test_a_template_without_training_scans_is_an_error_that_names_the_source(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "msd")
    (tmp_path / "msd/split.json").write_text(json.dumps({"train": [], "val": ["s0", "s1", "s2", "s3"]}))
    with pytest.raises(MaxcaError, match="msd: no scan has the split train"):
        prepare("hippocampus", tmp_path / "msd", tmp_path / "out", plan=plan())
    assert not (tmp_path / "out").exists()
