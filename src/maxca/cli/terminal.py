"""What a command shows: progress and warnings on stderr, results on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, float], None]


@contextmanager
def progress_bar(*, quiet: bool, verbose: bool = False) -> Iterator[Progress]:
    """A bar on stderr while it is a terminal; with ``verbose``, a line for each stage as well."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False)
    begin, last = time.monotonic(), ""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("starting", total=1.0)

        def show(stage: str, share: float) -> None:
            nonlocal last
            bar.update(task, description=stage, completed=share)
            if verbose and not quiet and stage != last:
                console.print(f"{time.monotonic() - begin:7.1f} s  {stage}", markup=False)
            last = stage

        yield show


def warn(lines: Iterable[str]) -> None:
    """Print warnings on stderr, one line each; they come with ``--quiet`` too."""
    for line in lines:
        print("maxca: warning:", " ".join(line.split()), file=sys.stderr)


def note(line: str, *, quiet: bool = False) -> None:
    """Print a line of the log on stderr."""
    if not quiet:
        print(line, file=sys.stderr)


def report(line: str, *, quiet: bool = False) -> None:
    """Print a result on stdout."""
    if not quiet:
        print(line)
