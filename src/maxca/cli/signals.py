"""What ends a process from outside, as exceptions, so that every ``with`` on the way cleans up."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDINGS = ("SIGTERM", "SIGHUP")
PATIENCE = 2.0  # seconds during which a second Ctrl-C waits for the cleaning up after the first

_interruptions: list[float] = []  # times of Ctrl-C; signals belong to the process, and so does this


@contextmanager
def as_exceptions() -> Iterator[list[float]]:
    """Let Ctrl-C raise KeyboardInterrupt, other endings SystemExit, within this context.

    Yields:
        The times of Ctrl-C so far.
    """
    _interruptions.clear()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        impatient = bool(_interruptions) and time.monotonic() - _interruptions[-1] < PATIENCE
        _interruptions.append(time.monotonic())
        if not impatient:
            raise KeyboardInterrupt

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {}
    try:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
        for name in ENDINGS:
            if number := getattr(signal, name, None):
                before[number] = signal.signal(number, end)
    except ValueError:  # not in the main thread of a program that calls us
        pass
    try:
        yield _interruptions
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _interruptions.clear()


def check() -> None:
    """Raise KeyboardInterrupt if there was a Ctrl-C whose exception was lost.

    Python drops what is raised while an object is collected, and some libraries what is raised while they load.
    """
    if _interruptions:
        raise KeyboardInterrupt
