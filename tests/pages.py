"""Following a page of the documentation: its code, in order, as it is printed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maxca.cli.main import main
from maxca.training import recipes, start
from maxca.training.options import TrainingOptions

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FILE = re.compile(r'```(?:python|csv) title="([^"]+)"\n(.*?)```', flags=re.DOTALL)  # a file that the reader is to write
FENCE = re.compile(r"```(bash|python)\n(.*?)```", flags=re.DOTALL)


def follow(page: Path, command: Callable[[list[str]], int] = main) -> list[str]:
    """Run what a page says, in the working folder, where the files that it shows are written first.

    Args:
        page: Markdown, whose ``bash`` fences hold commands of maxca, and of pip, which are taken as done.
        command: runs the words after ``maxca`` and returns the exit code.

    Returns:
        The name of each command that ran.
    """
    names: dict[str, object] = {"__name__": "page"}
    done = []
    text = page.read_text(encoding="utf-8")
    for name, content in FILE.findall(text):
        Path(name).write_text(content, encoding="utf-8")
    for number, (language, snippet) in enumerate(FENCE.findall(text)):
        if language == "python":
            exec(compile(snippet, f"{page.name}, snippet {number + 1}", "exec"), names)
            continue
        for line in snippet.replace("\\\n", " ").splitlines():
            program, *words = shlex.split(line, comments=True)
            if program == "pip":
                continue
            assert program == "maxca", line
            assert command(words) == 0, line
            done.append(words[2] if words[0] == "--plugin" else words[0])
    return done


def shorten(monkeypatch: pytest.MonkeyPatch, steps: Callable[[str, int | None], int]) -> None:
    """Train with fewer steps than a page says, and validate on one pair.

    Args:
        monkeypatch: puts back how long trainings are.
        steps: recipe, steps of the page, if it names them → steps to take.
    """
    train_in = start.train_in

    def short(recipe: str, data: str, folder: str, options: TrainingOptions | None = None, **more: Any) -> Path:
        options = options or TrainingOptions()
        config = replace(recipes.RECIPES[recipe](), validation_pairs=1)
        recipes.RECIPES[recipe] = lambda: config
        return train_in(recipe, data, folder, replace(options, steps=steps(recipe, options.steps)), **more)

    monkeypatch.setattr(start, "train_in", short)
