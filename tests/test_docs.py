"""The code in the documentation runs as it is printed."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from maxca.blocks import BLOCKS
from maxca.cli.main import main
from maxca.training import recipes

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "```python" in page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_snippet_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    known, known_recipes = set(BLOCKS), set(recipes.RECIPES)  # a page may add its own
    snippets = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, object] = {"__name__": "page"}
    try:
        for number, snippet in enumerate(snippets):
            exec(compile(snippet, f"{page.name}, snippet {number + 1}", "exec"), names)
    finally:
        for name in set(BLOCKS) - known:
            del BLOCKS[name]
        for name in set(recipes.RECIPES) - known_recipes:
            del recipes.RECIPES[name]


def test_there_are_pages_to_run() -> None:
    assert {"maxca", "your-own-block"} <= {page.stem for page in PAGES}


@pytest.mark.slow
def test_the_commands_for_training_run_as_they_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_folder: Callable[[str], Path]
) -> None:
    source = data_folder("hippocampus")
    place = tmp_path / "Task04_Hippocampus"
    names = ["hippocampus_001.nii.gz", "hippocampus_011.nii.gz"]
    names += sorted(p.name for p in (source / "imagesTr").glob("*.nii.gz") if p.name not in names)[1:4]
    for kind in ("imagesTr", "labelsTr"):
        (place / kind).mkdir(parents=True)
        for name in names:
            shutil.copy(source / kind / name, place / kind / name)
    monkeypatch.chdir(tmp_path)
    recipe = replace(recipes.hippocampus(), validation_pairs=1)
    monkeypatch.setitem(recipes.RECIPES, "hippocampus", lambda: recipe)
    page = (DOCS / "how-to" / "train-on-your-data.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", page, flags=re.DOTALL)
    commands = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    assert len(commands) == 5
    for command in commands:
        program, *words = shlex.split(command)
        if program == "pip":
            continue
        short = ["--steps", "20"] if words[0] == "train" else []
        assert main([*words, *short, "--quiet"]) == 0
    assert (tmp_path / "aligned" / "warped.nii.gz").is_file()
