"""Signals that end a process, converted to exceptions so that context managers clean up."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDINGS = ("SIGTERM", "SIGHUP")
PATIENCE = 2.0  # seconds during which a second Ctrl-C waits for the cleanup after the first

_interruptions: list[float] = []  # times of Ctrl-C; global, because signals are per process


@contextmanager
def as_exceptions() -> Iterator[list[float]]:
    """Within this context, Ctrl-C raises KeyboardInterrupt and other termination signals SystemExit.

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
    except ValueError:  # not called from the main thread
        pass
    try:
        yield _interruptions
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _interruptions.clear()


def check() -> None:
    """Raise KeyboardInterrupt if there was a Ctrl-C whose exception was lost.

    Python drops exceptions raised while an object is collected, and so do some libraries while loading.
    """
    if _interruptions:
        raise KeyboardInterrupt
