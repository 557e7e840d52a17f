"""A verdict and its checks, the worst of which determines it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["aligned", "check", "failed"]
ORDER: tuple[State, ...] = ("aligned", "check", "failed")


@dataclass(frozen=True)
class Check:
    """One piece of evidence about a registration.

    Args:
        name: of the measurement.
        state: its outcome.
        finding: the measurement, its thresholds and, if it is not acceptable, the likely cause and remedy.
    """

    name: str
    state: State
    finding: str


@dataclass(frozen=True)
class Verdict:
    """The verdict of all checks."""

    checks: tuple[Check, ...]

    @property
    def state(self) -> State:
        """The state of the worst check."""
        return max((check.state for check in self.checks), key=ORDER.index)

    @property
    def reasons(self) -> list[str]:
        """The findings of all checks that did not pass."""
        return [f"{c.name}: {c.finding}" for c in self.checks if c.state != "aligned"]


def state_of(value: float, aligned: float, failed: float) -> State:
    """The state of a measurement.

    Args:
        value: the measurement; NaN is undecided.
        aligned: threshold of acceptance: a lower bound if ``failed`` is smaller, otherwise an upper bound.
        failed: threshold of failure.
    """
    sign = 1 if aligned > failed else -1
    if sign * value >= sign * aligned:
        return "aligned"
    return "failed" if sign * value <= sign * failed else "check"


def graded(name: str, value: float, aligned: float, failed: float, finding: str, otherwise: str = "") -> Check:
    """A check of one measurement.

    Args:
        name: of the measurement.
        value: see ``state_of``.
        aligned: see ``state_of``.
        failed: see ``state_of``.
        finding: the measurement in words.
        otherwise: likely cause and remedy, added if the measurement is not acceptable.
    """
    state = state_of(value, aligned, failed)
    bound = "at least" if aligned > failed else "at most"
    beyond = "up to" if aligned > failed else "from"
    limits = f"{bound} {aligned:g} is acceptable, {beyond} {failed:g} is a failure"
    return Check(name, state, f"{finding}; {limits}" + (f". {otherwise}" if otherwise and state != "aligned" else ""))
