"""What a verdict consists of: checks, the worst of which decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["aligned", "check", "failed"]
ORDER: tuple[State, ...] = ("aligned", "check", "failed")


@dataclass(frozen=True)
class Check:
    """One piece of evidence about a registration.

    Args:
        name: what was looked at.
        state: what it says.
        finding: the measurement, the thresholds it was compared with, and, where something is wrong, its cause and
            cure.
    """

    name: str
    state: State
    finding: str


@dataclass(frozen=True)
class Verdict:
    """What all checks together say."""

    checks: tuple[Check, ...]

    @property
    def state(self) -> State:
        """That of the worst check."""
        return max((check.state for check in self.checks), key=ORDER.index)

    @property
    def reasons(self) -> list[str]:
        """The findings that decided; none where all checks passed."""
        return [f"{c.name}: {c.finding}" for c in self.checks if c.state != "aligned"]


def state_of(value: float, aligned: float, failed: float) -> State:
    """The state of a measurement.

    Args:
        value: what was measured; NaN is undecided.
        aligned: from here on it is acceptable: at least this where ``failed`` is smaller, else at most this.
        failed: from here on it is not.
    """
    sign = 1 if aligned > failed else -1
    if sign * value >= sign * aligned:
        return "aligned"
    return "failed" if sign * value <= sign * failed else "check"


def graded(name: str, value: float, aligned: float, failed: float, finding: str, otherwise: str = "") -> Check:
    """A check of one measurement.

    Args:
        name: what was looked at.
        value: see ``state_of``.
        aligned: see ``state_of``.
        failed: see ``state_of``.
        finding: the measurement in words.
        otherwise: cause and cure, added where the measurement is not acceptable.
    """
    state = state_of(value, aligned, failed)
    bound = "at least" if aligned > failed else "at most"
    beyond = "up to" if aligned > failed else "from"
    limits = f"{bound} {aligned:g} is acceptable, {beyond} {failed:g} is a failure"
    return Check(name, state, f"{finding}; {limits}" + (f". {otherwise}" if otherwise and state != "aligned" else ""))
