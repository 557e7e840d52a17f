"""Lengths in mm as text, with a number of digits suited to their magnitude."""

from __future__ import annotations

import math

DECIMALS = 2  # decimals of lengths at the scale of a patient
SIGNIFICANT = 3  # significant digits of shorter ones


def decimals(mm: float) -> int:
    """Decimals of a length: two, or as many as show three significant digits."""
    if not math.isfinite(mm) or mm == 0:
        return DECIMALS
    return max(DECIMALS, SIGNIFICANT - 1 - math.floor(math.log10(abs(mm)))) if abs(mm) < 0.1 else DECIMALS


def length(mm: float) -> str:
    """A length in mm, formatted for display."""
    return f"{mm:.{decimals(mm)}f}"
