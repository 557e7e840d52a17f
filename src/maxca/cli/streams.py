"""Standard streams that may be closed, or whose reader is gone: what is said is lost then, the work is not."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO

from maxca.errors import printable


def open_closed() -> None:
    """Give the process the streams it was started without, as daemons and cron do: they lead nowhere.

    Otherwise the first file that is opened takes the place of standard output, and libraries print into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = _nowhere(1)
    if sys.stderr is None:
        sys.stderr = _nowhere(2)


def write(text: str, stream: TextIO | None) -> None:
    """Write lines that a terminal does not obey: control characters in names of files become escapes."""
    if stream is None:
        return
    with suppress(BrokenPipeError):
        stream.write("".join(f"{printable(line)}\n" for line in text.split("\n")))


def flush() -> bool:
    """Empty both streams at the end; False where something could not be written and somebody waits for it."""
    whole = True
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:  # whoever read it is gone, and has what it wanted
            pass
        except OSError:  # the disc is full
            whole = False
    return whole


def _nowhere(number: int) -> TextIO:
    return os.fdopen(number, "w", encoding="utf-8", errors="replace", closefd=False)
