"""The pages on training can be followed word for word, if with fewer steps."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pages import DOCS, follow, shorten

from maxca.cli.main import main
from maxca.training import recipes
from maxca.training.run import read_log

SCANS = ("hippocampus_001.nii.gz", "hippocampus_011.nii.gz")  # those the page names


@pytest.mark.slow
def test_a_network_is_trained_as_the_pages_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_folder: Callable[[str], Path]
) -> None:
    source, place = data_folder("hippocampus"), tmp_path / "Task04_Hippocampus"
    others = sorted(path.name for path in (source / "imagesTr").glob("*.nii.gz") if path.name not in SCANS)
    for kind in ("imagesTr", "labelsTr"):
        (place / kind).mkdir(parents=True)
        for name in (*SCANS, *others[1:4]):
            shutil.copy(source / kind / name, place / kind / name)
    monkeypatch.chdir(tmp_path)
    known = dict(recipes.RECIPES)
    few = {None: 4, 500: 2, 20_000: 2}
    shorten(monkeypatch, lambda recipe, steps: 4 if recipe.startswith("paper") else few[steps])
    try:
        done = follow(DOCS / "how-to" / "train-on-your-data.md", lambda words: main([*words, "--quiet"]))
        follow(DOCS / "how-to" / "reproduce-the-paper.md")
    finally:
        recipes.RECIPES.clear()
        recipes.RECIPES.update(known)
    assert done == ["prepare", "train", "train", "register", "train"]
    assert (tmp_path / "aligned" / "warped.nii.gz").is_file()
    for run, steps in (("run", 4), ("run-of-mine", 2), ("run-on", 2), ("run-plain", 4)):
        assert int(read_log(tmp_path / run / "log.csv")[-1]["step"]) == steps
