"""The command in ``result.json`` runs again, from any folder, and gives the same files bit for bit."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import phantoms
import pytest
from commands import ENVIRONMENT, contents, run

from maxca.geometry import Affine, Chain
from maxca.io.transforms import write_transform

GRID = phantoms.grid((6.0, 6.0, 6.0))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with spaces and quotes in its name, and files that are named from within it."""
    folder = tmp_path / "my scans, 'first' $visit"
    (folder / "data").mkdir(parents=True)
    phantoms.save(folder / "data" / "f x.nii.gz", phantoms.image(GRID, phantoms.bend))
    phantoms.save(folder / "m.nii.gz", phantoms.image(GRID))
    phantoms.save(folder / "data" / "seg.nii.gz", phantoms.image(GRID, what=phantoms.regions))
    phantoms.save(folder / "data" / "t2.nii.gz", phantoms.image(GRID))
    write_transform(Chain((Affine.identity(),)), folder / "start.mat")
    monkeypatch.chdir(folder)
    return folder


def repeated(out: Path, elsewhere: Path) -> tuple[dict[str, bytes | None], dict[str, bytes | None]]:
    """The files before and after the recorded command has run from another folder."""
    before = contents(out)
    words = shlex.split(json.loads((out / "result.json").read_text())["command"])
    assert words[0] == "maxca"
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=elsewhere, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    after = contents(out)
    for each in (before, after):
        del each["result.json"]
    return before, after


def test_relative_paths_quotes_and_an_output_that_is_there(here: Path, tmp_path: Path) -> None:
    words = ("-f", "data/f x.nii.gz", "-m", "m.nii.gz", "-o", "out/é", "--apply", "data/t2.nii.gz:nearest")
    more = ("--moving-labels", "./data/../data/seg.nii.gz", "--fill", "-5", "--seed", 3, "--save-field", "-q")
    start = ("--initial-transform", "[start.mat,1]", "--effort", "fast", "--model", "none")
    assert run("register", *words, *more, *start).code == 0
    before, after = repeated(here / "out" / "é", tmp_path)
    assert before == after and len(before) == 6


def test_a_link_and_a_short_option_mean_the_same_from_elsewhere(here: Path, tmp_path: Path) -> None:
    os.symlink("m.nii.gz", here / "link.nii.gz")
    words = ("-f", "data/f x.nii.gz", "-m", "link.nii.gz", "-o", "../out", "--initial-transform", "header")
    assert run("register", *words, "--transform", "rigid", "--threads", 1, "--overwrite", "-q").code == 0
    command = json.loads((tmp_path / "out" / "result.json").read_text())["command"]
    assert f"{here}/link.nii.gz" in shlex.split(command), "the link, not where it leads today"
    assert shlex.split(command).count("--overwrite") == 1
    before, after = repeated(tmp_path / "out", tmp_path)
    assert before == after


def test_the_threads_are_recorded_since_sums_depend_on_them(here: Path) -> None:
    words = ("-f", "m.nii.gz", "-m", "m.nii.gz", "-o", "out", "--transform", "rigid", "-q")
    assert run("register", *words, "--initial-transform", "header").code == 0
    record = json.loads((here / "out" / "result.json").read_text())
    recorded = shlex.split(record["command"])
    assert recorded[recorded.index("--threads") + 1] == str(record["settings"]["threads"])
    assert recorded[recorded.index("--initial-transform") + 1] == "header"
