"""Standard streams that may be closed, or have no reader: output is then lost, but the run continues."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO

from maxca.errors import printable


def open_closed() -> None:
    """Open missing standard streams on the null device, as when started by daemons and cron.

    Otherwise the first opened file would become standard output, and libraries would print into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # uses the lowest free descriptor, which is this one
    if sys.stdout is None:
        sys.stdout = _nowhere(1)
    if sys.stderr is None:
        sys.stderr = _nowhere(2)


def write(text: str, stream: TextIO | None) -> None:
    """Write lines without control sequences: control characters in file names are escaped."""
    if stream is None:
        return
    with suppress(BrokenPipeError):
        stream.write("".join(f"{printable(line)}\n" for line in text.split("\n")))


def flush() -> bool:
    """Flush both streams at the end; False if output was lost although there is a reader."""
    whole = True
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:  # the reader has closed the pipe on purpose
            pass
        except OSError:  # the disk is full
            whole = False
    return whole


def _nowhere(number: int) -> TextIO:
    return os.fdopen(number, "w", encoding="utf-8", errors="replace", closefd=False)
