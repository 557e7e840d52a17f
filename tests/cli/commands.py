"""Runs the command line inside this process, or in one of its own where signals and limits are needed."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from maxca.cli.main import main

SOURCE = Path(__file__).parents[2] / "src"
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
QUICK = ("--effort", "fast", "--initial-transform", "header", "--threads", "1")


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def run(*words: object) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Outcome(code, out.getvalue(), err.getvalue())


def start(*words: object, prepare: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    """``maxca`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "maxca", *map(str, words)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
    )


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything under a folder, hidden files too: name → bytes, None for a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}
