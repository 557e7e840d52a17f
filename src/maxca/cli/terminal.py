"""Terminal output: progress and warnings on stderr, results on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext

from maxca.cli import signals
from maxca.cli.dashes import dashed
from maxca.cli.streams import write
from maxca.errors import one_line, printable

Progress = Callable[[str, float], None]
ROWS = 12  # rows of a training log that are shown


@contextmanager
def progress_bar(*, quiet: bool, verbose: bool = False) -> Iterator[Progress]:
    """A progress bar on stderr if it is a terminal; with ``verbose``, also a line for each stage."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False)
    begin, last = time.monotonic(), ""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("starting", total=1.0)

        def show(stage: str, share: float) -> None:
            nonlocal last
            signals.check()
            bar.update(task, description=printable(stage), completed=share)
            if verbose and not quiet and stage != last:
                # Above the bar if there is one, otherwise as plain text, which does not fail for a closed pipe.
                line = f"{time.monotonic() - begin:7.1f} s  {printable(stage)}"
                console.print(line, markup=False) if console.is_terminal else write(line, sys.stderr)
            last = stage

        yield show


@contextmanager
def training_table(*, quiet: bool) -> Iterator[Callable[[dict[str, float]], None]]:
    """The last rows of a training log on stderr, live on a terminal; otherwise a line per validation."""
    import os

    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    console = Console(stderr=True, highlight=False)
    rows: list[dict[str, float]] = []
    first = os.environ.get("LOCAL_RANK", "0") == "0"  # of several processes

    def table() -> Table:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        drawn = Table(*columns)
        for row in rows[-ROWS:]:
            drawn.add_row(*(f"{row[name]:.4g}" if name in row else "" for name in columns))
        return drawn

    shown = console.is_terminal and first and not quiet
    with Live(console=console, auto_refresh=False) if shown else nullcontext() as live:

        def show(row: dict[str, float]) -> None:
            signals.check()
            rows.append(row)
            if live is not None:
                live.update(table(), refresh=True)
            elif not quiet and "score" in row:
                write(", ".join(f"{name} {value:.4g}" for name, value in row.items()), sys.stderr)

        yield show


def warn(lines: Iterable[str]) -> None:
    """Print warnings on stderr, one line each, also with ``--quiet``."""
    for line in lines:
        write(f"maxca: warning: {dashed(one_line(line))}", sys.stderr)


def note(line: str, *, quiet: bool = False) -> None:
    """Print a line of the log on stderr."""
    if not quiet:
        write(line, sys.stderr)


def report(line: str, *, quiet: bool = False) -> None:
    """Print a result on stdout."""
    if not quiet:
        write(line, sys.stdout)
