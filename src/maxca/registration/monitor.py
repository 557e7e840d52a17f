"""Progress and timing of a registration."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, float], None]

# Name of each stage, and the fractions of the work done before and after it.
STAGES = {
    "read": ("reading", 0.0, 0.02),
    "prepare": ("preparing", 0.02, 0.06),
    "align": ("aligning", 0.06, 0.15),
    "network": ("running networks", 0.15, 0.15),
    "optimise": ("optimising", 0.15, 0.85),
    "invert": ("inverting", 0.85, 0.9),
    "repeat": ("repeating", 0.9, 0.9),
    "warp": ("warping", 0.9, 0.95),
    "measure": ("measuring", 0.95, 1.0),
}


class Monitor:
    """Reports the progress of a registration, and measures the seconds of each stage.

    Args:
        progress: called with the stage and the completed fraction, from 0 to 1.
    """

    def __init__(self, progress: Progress = lambda _stage, _share: None) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._stage = "read"

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Context manager of a stage, a key of ``STAGES``."""
        self._stage = name
        self.step(STAGES[name][0])
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begin, 3)

    def step(self, text: str, done: int = 0, total: int = 1) -> None:
        """Report a step of the current stage: its name, and the number of completed and total steps."""
        _, before, after = STAGES[self._stage]
        self._progress(text, before + (after - before) * done / max(total, 1))

    def done(self) -> None:
        """Report the end."""
        self._progress("done", 1.0)
