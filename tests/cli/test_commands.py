"""The commands do what their help says, and what they write is whole and the same every time."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
import typer
from commands import ENVIRONMENT, QUICK, contents, run, start

import maxca
from maxca.cli.app import app
from maxca.cli.main import main
from maxca.geometry import Chain
from maxca.io.form import Form
from maxca.io.images import Image, read, write
from maxca.io.transforms import read_transform, write_transform

FILES = {
    "warped.nii.gz",
    "transform.h5",
    "inverse_transform.h5",
    "warped_labels.nii.gz",
    "warped_extra.nii.gz",
    "warped_other.nii.gz",
    "displacement.nii.gz",
    "result.json",
}


def pair(scans: Path) -> tuple[object, ...]:
    return "register", "-f", scans / "fixed.nii.gz", "-m", scans / "moving.nii.gz", *QUICK


@pytest.fixture
def record(registered: Path) -> dict:
    return json.loads((registered / "result.json").read_text())


# register


def test_the_output_folder_holds_the_documented_files(registered: Path, scans: Path) -> None:
    assert {file.name for file in registered.iterdir()} == FILES
    fixed = read(scans / "fixed.nii.gz")
    for name in ("warped.nii.gz", "warped_labels.nii.gz", "warped_extra.nii.gz", "warped_other.nii.gz"):
        assert read(registered / name).grid.same_as(fixed.grid)
    assert read(registered / "warped.nii.gz").dtype == np.int16
    assert read(registered / "warped_labels.nii.gz").dtype == np.uint8
    assert set(np.unique(read(registered / "warped_labels.nii.gz").data)) == {0, 1, 2, 3, 4}
    chain, back = (read_transform(registered / f"{name}.h5") for name in ("transform", "inverse_transform"))
    assert phantoms.error(chain) < 0.6 * phantoms.error(Chain())
    points = phantoms.nodes(phantoms.grid((9.0, 9.0, 9.0), extent=30.0))
    assert np.abs(back.map_points(chain.map_points(points)) - points).mean() < 0.1


def test_further_images_are_warped_like_the_first(registered: Path) -> None:
    same = [read(registered / f"warped{name}.nii.gz").data for name in ("", "_extra", "_other")]
    np.testing.assert_array_equal(same[0], same[1])
    np.testing.assert_array_equal(same[0], same[2])


def test_the_field_is_what_itk_and_ants_expect(registered: Path) -> None:
    field = nib.load(registered / "displacement.nii.gz")
    assert field.shape == (*phantoms.image(phantoms.grid((3.0, 3.0, 3.0))).grid.shape, 1, 3)
    assert int(field.header["intent_code"]) == 1007
    chain, sampled = (read_transform(registered / name) for name in ("transform.h5", "displacement.nii.gz"))
    points = phantoms.nodes(phantoms.grid((3.0, 3.0, 3.0)))[4:-4, 4:-4, 4:-4]
    np.testing.assert_allclose(sampled.map_points(points), chain.map_points(points), atol=1e-3)


def test_the_record_says_what_was_done(registered: Path, record: dict) -> None:
    assert {"maxca", "command", "inputs", "settings", "affine", "metrics", "warnings", "versions", "seconds"} < set(
        record
    )
    assert {"dice_before", "dice_after", "hd95_mm_after", "tre_mm_after", "folding", "similarity"} < set(
        record["metrics"]
    )
    assert record["peak_memory_mb"] > 0
    inputs = record["inputs"]
    assert {"fixed", "moving", "fixed_labels", "moving_points"} < inputs.keys()
    assert all(Path(file["path"]).is_absolute() and len(file["sha256"]) == 64 for file in inputs.values())
    words = shlex.split(record["command"])
    assert words[:2] == ["maxca", "register"] and str(registered) in words
    assert record["affine"]["reason"]
    assert record["metrics"]["dice_after"]["mean"] > record["metrics"]["dice_before"]["mean"]
    assert record["metrics"]["tre_mm_after"]["mean"] < record["metrics"]["tre_mm_before"]["mean"]


def test_one_line_says_how_it_went(registered: Path) -> None:
    line = (registered.parent / "stdout").read_text()
    assert line.count("\n") == 1 and line.startswith(f"{registered}: lncc ")
    for word in ("→", "Dice", "HD95", "landmarks", "folding", " s\n"):
        assert word in line


def test_a_terminal_without_arrows_fails_no_work(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENT, "PYTHONIOENCODING", "ascii")
    process = start(*pair(scans), "-o", scans / "out", "--transform", "rigid")
    told, wrong = process.communicate()
    assert (process.returncode, wrong) == (0, "")
    assert " ? " in told


@pytest.mark.parametrize("kind", ["affine", "rigid"])
def test_linear_transforms(scans: Path, kind: str) -> None:
    outcome = run(*pair(scans), "-o", scans / "out", "--transform", kind, "-q")
    assert outcome == (0, "", "")
    chain = read_transform(scans / "out" / "transform.h5")
    assert chain.is_affine
    assert phantoms.error(chain) < phantoms.error(Chain())
    assert len(sitk.ReadTransform(str(scans / "out" / "transform.h5")).GetParameters()) == 12


def test_output_is_reproducible_for_a_seed_and_thread_count(scans: Path) -> None:
    assert run(*pair(scans), "-o", scans / "one", "--seed", 3, "--save-field").code == 0
    assert run(*pair(scans), "-o", scans / "two", "--seed", 3, "--save-field").code == 0
    one, two = contents(scans / "one"), contents(scans / "two")
    records = [json.loads(each.pop("result.json")) for each in (one, two)]
    assert one == two
    for each in records:
        for key in ("seconds", "peak_memory_mb", "command"):
            del each[key]
    assert records[0] == records[1]


def test_overwrite_replaces_an_earlier_output(scans: Path) -> None:
    for words in ((), ("--overwrite",)):
        outcome = run(*pair(scans), "-o", scans / "out", "--transform", "rigid", *words)
        assert outcome.code == 0, outcome.err
    assert sorted(p.name for p in scans.glob("*out*")) == ["out"]


def test_verbose_tells_the_stages_and_the_reason_of_the_affine(scans: Path) -> None:
    outcome = run(*pair(scans), "-o", scans / "out", "--transform", "affine", "-v")
    assert "reading" in outcome.err and "searching an initialisation" in outcome.err and "affine at" in outcome.err
    assert "\naffine: the " in outcome.err
    assert outcome.out.count("\n") == 1


def test_a_start_from_a_file(scans: Path, registered: Path) -> None:
    write_transform(maxca.Chain((maxca.Affine.identity(),)), scans / "start.tfm")
    for where in (scans / "start.tfm", "center"):
        words = (*pair(scans), "--initial-transform", where, "--transform", "affine", "--overwrite")
        outcome = run(*words, "-o", scans / "out")
        assert outcome.code == 0, outcome.err
        assert phantoms.error(read_transform(scans / "out" / "transform.h5")) < phantoms.error(Chain())


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_slices_are_registered_in_their_plane(tmp_path: Path, suffix: str) -> None:
    volume = phantoms.grid((2.0, 2.0, 2.0), extent=66.0)
    middle = volume.shape[2] // 2
    affine = np.diag([2.0, 2.0, 1.0, 1.0])
    flat = maxca.Grid((*volume.shape[:2], 1), affine)
    for name, through in (("fixed", lambda x: x + np.array([3.0, -2.0, 0.0])), ("moving", lambda x: x)):
        data = phantoms.image(volume, through).data[:, :, middle : middle + 1]
        write(data, flat, tmp_path / f"{name}{suffix}", form=Form(dimension=2))
    words = "register", "-f", tmp_path / f"fixed{suffix}", "-m", tmp_path / f"moving{suffix}", "-o", tmp_path / "out"
    outcome = run(*words, "--threads", 1)
    assert outcome.code == 0, outcome.err
    result = read(tmp_path / "out" / "warped.nii.gz")
    assert result.dimension == 2 and nib.load(tmp_path / "out" / "warped.nii.gz").ndim == 2
    points = phantoms.nodes(flat)
    moved = read_transform(tmp_path / "out" / "transform.h5").map_points(points) - points
    np.testing.assert_allclose(moved[..., 2], 0, atol=1e-5)
    center = moved[10:-10, 10:-10, 0, :2].reshape(-1, 2).mean(0)
    np.testing.assert_allclose(center, [3, -2], atol=0.7)


# apply


# transform


# help, info, demo


def commands(of: Any, *words: str) -> Iterator[tuple[str, ...]]:
    yield words
    for name, command in getattr(of, "commands", {}).items():
        yield from commands(command, *words, name)


@pytest.mark.parametrize("words", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_every_command_explains_itself(words: tuple[str, ...]) -> None:
    outcome = run(*words, "--help")
    assert outcome.code == 0
    assert "Usage: maxca" in outcome.out
    if words not in ((), ("transform",), ("models",)):
        assert "Example:" in outcome.out


def test_help_comes_within_a_second_and_loads_nothing_heavy() -> None:
    def seconds() -> float:
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "maxca", "register", "--help"], env=ENVIRONMENT, check=True, capture_output=True
        )
        return time.perf_counter() - begin

    code = "import sys; from maxca.cli.main import main; main(['register', '-h']); print(*sys.modules, file=sys.stderr)"
    loaded = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, check=True, capture_output=True, text=True)
    assert {"torch", "nibabel", "SimpleITK", "numpy", "scipy"}.isdisjoint(loaded.stderr.split())
    assert min(seconds() for _ in range(3)) < 1


def test_the_choices_are_those_of_the_library() -> None:
    from typing import get_args, get_type_hints

    from maxca.cli.apply import apply
    from maxca.cli.prepare import prepare
    from maxca.cli.train import train
    from maxca.datasets.prepare import DATASETS
    from maxca.geometry import INTERPOLATIONS
    from maxca.registration.interpolation import CHOICES
    from maxca.training.recipes import RECIPES

    assert get_args(get_type_hints(apply)["interpolation"]) == CHOICES == ("auto", *INTERPOLATIONS)
    assert set(DATASETS) <= set(re.findall(r"[\w-]+", prepare.__doc__ or ""))
    told = get_type_hints(train, include_extras=True)["recipe"].__metadata__[0].help
    assert set(re.findall(r"\w+", told.split(":")[1])) - {"or"} == set(RECIPES)


def test_info_says_what_runs_here() -> None:
    outcome = run("info")
    assert outcome.code == 0
    for word in ("maxca", "torch", "SimpleITK", "memory", "gpu", "problems"):
        assert word in outcome.out


def test_version() -> None:
    outcome = run("--version")
    assert outcome == (0, f"maxca {maxca.__version__}\n", "")


def test_demo_shows_the_true_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from maxca.demo import run as demo

    seen = {}

    def run_demo(out: Path, **settings: object) -> SimpleNamespace:
        seen.update(settings, out=out)
        return SimpleNamespace(error_before_mm=4.0, error_after_mm=0.5, folder=out, seconds=61.2)

    monkeypatch.setattr(demo, "run_demo", run_demo)
    outcome = run("demo", "-o", tmp_path / "demo", "--seed", 2)
    assert outcome.out == f"{tmp_path / 'demo'}: true error 4.00 → 0.50 mm (88 % less), 61 s\n"
    assert (seen["seed"], seen["overwrite"], seen["threads"]) == (2, False, None)


def test_a_thread_may_call_the_command_line(registered: Path) -> None:
    """Signals belong to the main thread; elsewhere they are left alone."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        assert pool.submit(main, ["register", "-f", "absent", "-m", "absent", "-o", str(registered)]).result() == 1


def test_images_in_memory_have_numbered_names() -> None:
    where = phantoms.grid((6.0, 6.0, 6.0))
    image = phantoms.image(where)
    extra = Image(image.data, image.grid)
    result = maxca.register(image, image, apply=[extra], transform="rigid", effort="fast", threads=1)
    assert set(result.applied) == {"0.nii.gz"}
