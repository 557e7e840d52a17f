"""Lengths in mm as text: with the digits that say something, of heads and of cells alike."""

from __future__ import annotations

import math

DECIMALS = 2  # of lengths as in a patient
SIGNIFICANT = 3  # digits of shorter ones


def decimals(mm: float) -> int:
    """Digits after the point that a length needs: two, or as many as show three significant ones."""
    if not math.isfinite(mm) or mm == 0:
        return DECIMALS
    return max(DECIMALS, SIGNIFICANT - 1 - math.floor(math.log10(abs(mm)))) if abs(mm) < 0.1 else DECIMALS


def length(mm: float) -> str:
    """A length in mm as a number for people."""
    return f"{mm:.{decimals(mm)}f}"
