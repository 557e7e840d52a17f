"""Following a page of the documentation: its code, in order, as it is printed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

from maxca.cli.main import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FENCE = re.compile(r"```(bash|python)\n(.*?)```", flags=re.DOTALL)


def follow(page: Path, command: Callable[[list[str]], int] = main) -> list[str]:
    """Run what a page says, in the working folder.

    Args:
        page: Markdown, whose ``bash`` fences hold commands of maxca, and of pip, which are taken as done.
        command: runs the words after ``maxca`` and returns the exit code.

    Returns:
        The first word of each command that ran.
    """
    names: dict[str, object] = {"__name__": "page"}
    done = []
    for number, (language, snippet) in enumerate(FENCE.findall(page.read_text(encoding="utf-8"))):
        if language == "python":
            exec(compile(snippet, f"{page.name}, snippet {number + 1}", "exec"), names)
            continue
        for line in snippet.replace("\\\n", " ").splitlines():
            program, *words = shlex.split(line, comments=True)
            if program == "pip":
                continue
            assert program == "maxca", line
            assert command(words) == 0, line
            done.append(words[0])
    return done
