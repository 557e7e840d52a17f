"""Every experiment starts, makes a row, and makes none twice; what it finds is not judged here."""

from __future__ import annotations

import csv
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forks
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "experiments"), str(ROOT / "tests" / "training")]

import channels  # noqa: E402
import contrast  # noqa: E402
import phantoms  # noqa: E402
import robustness  # noqa: E402
import trials  # noqa: E402
import verdict_cases  # noqa: E402
import verdict_truth  # noqa: E402
from prepared_data import make  # noqa: E402

from maxca.cli.main import main  # noqa: E402
from maxca.evaluate.methods import parse  # noqa: E402
from maxca.geometry import Affine, Chain  # noqa: E402
from maxca.models.load import load_model  # noqa: E402
from maxca.models.zoo import find_model  # noqa: E402


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def experiment(name: str, *words: object) -> None:
    """Run a script as from the command line, but in this process: importing torch anew takes seconds each time."""
    script = str(ROOT / "experiments" / f"{name}.py")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", [script, *map(str, words), "--quick"])
        runpy.run_path(script, run_name="__main__")


def experiment_alone(name: str, *words: object) -> None:
    """Run a script in a process of its own."""
    command = [sys.executable, str(ROOT / "experiments" / f"{name}.py"), *map(str, words), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=200)
    assert done.returncode == 0, done.stderr


def maxca_here(command: list[str], *, check: bool) -> None:
    """``python -m maxca …`` in this process, whose evaluations may fork."""
    assert command[:3] == [sys.executable, "-m", "maxca"]
    assert check
    assert main(command[3:]) == 0


@pytest.mark.slow
def test_comparisons_of_networks_start_and_train_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = tmp_path / "ready"
    make(ready / "hippocampus", shape=(16, 20, 16))
    made = {}
    for name in ("block_swap", "block_swap", "resolution", "block_swap_labels", "variants"):
        out = tmp_path / f"{name}.csv"
        if made:  # the first training starts Python, as users do
            monkeypatch.setattr(trials, "subprocess", SimpleNamespace(run=forks.completed))
        experiment(name, ready, "-o", out, "--threads", "1", "--set", "hippocampus")
        (made[name],) = rows(out)
        key = made[name]["experiment"], made[name]["set"], made[name]["network"], made[name]["seed"]
        assert key == (name, "hippocampus", "corrxca", "0")
    assert 0 <= float(made["block_swap"]["dice"]) <= 1
    assert int(made["block_swap"]["parameters"]) > 0
    # The first trial of these is MAXCA with labels; of resolution it is another network.
    assert made["variants"] == made["block_swap_labels"] | {"experiment": "variants"}
    assert len({made[name]["settings"] for name in ("block_swap", "block_swap_labels", "resolution")}) == 3
    (before,) = rows(tmp_path / "unmoved.csv")  # for all of them
    assert before["set"] == "hippocampus"
    assert 0 < float(before["dice"]) < 1


@pytest.mark.slow
def test_a_row_that_is_asked_for_is_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "subprocess", SimpleNamespace(run=forks.completed))
    make(tmp_path / "ready" / "hippocampus", shape=(16, 20, 16))
    for name in ("block_swap_labels", "variants"):
        words = "-o", tmp_path / f"{name}.csv", "--threads", "1", "--only", "hippocampus corrxca maxca"
        experiment(name, tmp_path / "ready", *words)
    (first,), (again,) = rows(tmp_path / "block_swap_labels.csv"), rows(tmp_path / "variants.csv")
    assert first["dice"] == again["dice"]  # bit for bit
    assert first["seconds_per_step"] != again["seconds_per_step"]


@pytest.mark.slow
def test_complexity_starts(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    for _ in range(2):
        experiment_alone("complexity", "-o", out, "--threads", "1")
    small, large = rows(out)
    assert (small["side"], large["side"]) == ("32", "48")
    assert float(large["seconds"]) > float(small["seconds"]) > 0


def test_contrast_measures_the_error_of_the_inverse_of_a_known_deformation(tmp_path: Path) -> None:
    grid = phantoms.grid((2.0, 2.0, 2.0), extent=100.0)
    shift = np.array([6.0, -4.0, 0.0])
    phantoms.save(tmp_path / "study1_T1W.nii.gz", phantoms.image(grid))
    phantoms.save(tmp_path / "study1_T2W.nii.gz", phantoms.image(grid, lambda points: points + shift))
    for name, move in (("T1W", np.zeros(3)), ("T2W", -shift)):  # FLAIR points to those of each scan, as ITK has it
        itk = sitk.TranslationTransform(3, (move * (-1, -1, 1)).tolist())
        sitk.WriteTransform(itk, str(tmp_path / f"study1_{name}_intrastudy_to_FLAIR.txt"))
    (row,) = contrast.measured(tmp_path, 1, "T2W", 3, 0, threads=2, ways=[("none", "lncc")])
    before, after = (float(str(row[name])) for name in ("before_mm", "mean_mm"))
    assert 2 < before < 4
    assert after < before / 3  # the other way round it would be twice as far


def test_channels_are_aligned_by_both_visits_and_the_known_deformation(tmp_path: Path) -> None:
    grid = phantoms.grid((2.0, 2.0, 2.0), extent=80.0)
    moves = {1: np.array([3.0, 0.0, -2.0]), 2: np.array([-1.0, 2.0, 0.0])}
    for visit, move in moves.items():
        for name in channels.CONTRASTS:
            itk = sitk.TranslationTransform(3)
            sitk.WriteTransform(itk, str(tmp_path / f"study{visit}_{name}_intrastudy_to_FLAIR.txt"))
            image = phantoms.image(grid, lambda points, move=move: points - move)
            phantoms.save(tmp_path / f"study{visit}_{name}.nii.gz", image)
        itk = sitk.TranslationTransform(3, (move * (-1, -1, 1)).tolist())  # common points to those of the visit
        sitk.WriteTransform(itk, str(tmp_path / f"study{visit}_FLAIR_to_common_space.txt"))
    case = channels.made(tmp_path, 1, 3, 0, 0.0)
    found = channels.row(case, (1, 3, 0, 0.0, "fast", "both"), threads=1)
    before, after = (float(str(found[name])) for name in ("before_mm", "mean_mm"))
    assert len(case.points) > 50 and before > 4 and after < before / 3


@pytest.fixture
def scan() -> robustness.Scan:
    i, j, k = np.meshgrid(*(np.linspace(-1, 1, n) for n in (24, 28, 20)), indexing="ij")
    distance = np.sqrt(i**2 + j**2 + k**2)
    texture = 1 + 0.2 * np.sin(9 * i) * np.cos(8 * j)
    return 100 * texture * (distance < 0.9), (distance < 0.5).astype(np.int16), np.diag([2.0, 2.0, 3.0, 1.0])


@pytest.mark.parametrize("name", robustness.CORRUPTIONS)
def test_a_corruption_grows_with_severity(name: str, scan: robustness.Scan) -> None:
    if name in ("motion", "ghosting", "spikes"):
        pytest.importorskip("torchio")
    changes = []
    for severity in robustness.SEVERITIES:
        data, labels, affine = robustness.CORRUPTIONS[name](scan, severity, np.random.default_rng(0))
        again = robustness.CORRUPTIONS[name](scan, severity, np.random.default_rng(0))[0]
        np.testing.assert_array_equal(data, again)
        assert data.shape == labels.shape
        assert np.isfinite(data).all()
        if data.shape == scan[0].shape:
            changes.append(np.abs(data - scan[0]).mean() + np.abs(affine - scan[2]).mean())
        else:
            changes.append(1 - data.size / scan[0].size)
    assert min(changes) > 0
    # Motion may also undo itself: its effect on this ball does not grow with every step.
    assert name == "motion" or changes[0] < changes[1] < changes[2]


@pytest.fixture
def balls(scan: robustness.Scan, tmp_path: Path) -> Path:
    """A folder of data that holds one pair, said to be of hippocampi."""
    folder = tmp_path / "data" / "hippocampus"
    folder.mkdir(parents=True)
    for name, data in (("a", scan[0]), ("b", np.roll(scan[0], 1, axis=0))):
        nib.save(nib.Nifti1Image(data.astype(np.float32), scan[2]), folder / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(scan[1], scan[2]), folder / f"{name}_seg.nii.gz")
    line = "a.nii.gz,b.nii.gz,a_seg.nii.gz,b_seg.nii.gz\n"
    (folder / "pairs_val.csv").write_text("fixed,moving,fixed_labels,moving_labels\n" + line)
    return folder.parent


@pytest.mark.slow
def test_robustness_starts(balls: Path, tmp_path: Path) -> None:
    experiment("robustness", balls, "--set", "hippocampus", "-o", tmp_path / "out.csv")
    (row,) = rows(tmp_path / "out.csv")
    assert (row["set"], row["fixed"], row["moving"]) == (
        "hippocampus noise 1",
        "0/fixed/a.nii.gz",  # no path of this machine
        "0/moving/b.nii.gz",
    )
    assert row["error"] == ""


def test_robustness_uses_a_model_alone_and_refined(tmp_path: Path) -> None:
    alone, refined = map(parse, robustness.with_model("hippocampus", tmp_path))
    assert (alone.name, refined.name) == ("maxca-balanced+hippocampus", "maxca-balanced+hippocampus-refined")
    assert load_model(find_model(alone.options.model)).refine == 0
    assert load_model(refined.options.model).refine > 0


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_smoothness_starts(balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", maxca_here)  # that of robustness starts Python, as users do
    experiment("smoothness", balls, "--set", "hippocampus", "--jobs", "1", "-o", tmp_path / "out")
    assert [row["method"] for row in rows(tmp_path / "out" / "smoothness-hippocampus.csv")] == [
        "maxca-fast@2",
        "maxca-fast@4",
    ]


@pytest.mark.slow
def test_verdict_starts(balls: Path, tmp_path: Path) -> None:
    for _ in range(2):
        experiment("verdict", balls, "--half", "development", "-o", tmp_path / "out.csv")
    found = [(row["half"], row["trial"], row["measure"]) for row in rows(tmp_path / "out.csv")]
    assert found == [("development", "hippocampus/pair/0", "Dice"), ("development", "hippocampus/bent/0", "voxels")]


def test_the_worth_of_a_registration_is_told_from_the_known_map() -> None:
    where = phantoms.grid()
    plain = verdict_cases.Scan(phantoms.image(where), None, Chain(), "ball")
    other = verdict_cases.mirrored(verdict_cases.bent(plain, 2.0, 0), 0)
    trial = verdict_cases.Trial("ball/bent/0", plain, other, "map")
    known, _ = other.source.inverse()
    for apart, truth in ((0.0, "right"), (3.0, "between"), (5.0, "wrong")):
        shift = np.eye(4)
        shift[1, 3] = apart * where.smallest_spacing
        found = verdict_truth.worth(trial, known @ Chain((Affine(shift),)))
        assert found.truth == truth, found
        assert found.value == pytest.approx(apart, abs=0.5)
    assert verdict_truth.worth(trial, Chain()).truth == "wrong"  # it is mirrored, and nothing says so but its voxels
    assert verdict_truth.worth(replace(trial, truth="none"), known).truth == "wrong"


@pytest.mark.parametrize("make", [lambda s: verdict_cases.cut(s, 2, 0.5, True), lambda s: verdict_cases.scaled(s, 3.0)])
def test_what_is_done_to_a_scan_keeps_where_its_points_came_from(make: Callable[[Any], Any]) -> None:
    plain = verdict_cases.Scan(phantoms.image(phantoms.grid()), None, Chain(), "ball")
    done = make(plain)
    points = phantoms.nodes(done.image.grid).reshape(-1, 3)[::97]
    here = done.image.grid.to_voxel(points).round().astype(int)
    there = plain.image.grid.to_voxel(done.source.map_points(points)).round().astype(int)
    np.testing.assert_array_equal(done.image.data[tuple(here.T)], plain.image.data[tuple(there.T)])
