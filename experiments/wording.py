"""How numbers are put into words on the page of results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from maxca.evaluate.statistics import Interval

FIGURES = "images/results"  # beside the page


def exponent(x: Sequence[float], y: Sequence[float]) -> str:
    """Of the power law that fits best."""
    if len(x) < 2:
        return "–"
    across, up = [math.log(v) for v in x], [math.log(v) for v in y]
    middle, height = fmean(across), fmean(up)
    slope = sum((a - middle) * (b - height) for a, b in zip(across, up, strict=True))
    return f"{slope / sum((a - middle) ** 2 for a in across):.2f}"


def said(difference: Interval, what: str) -> str:
    """A difference in words; nothing is called better unless its interval says so."""
    if math.isnan(difference.low):
        return f"{difference.mean:+.4f} {what}, one value only"
    told = "more" if difference.low > 0 else "less" if difference.high < 0 else "not told apart in"
    return f"{told} {what}, {bounded(difference)}"


def bounded(value: Interval) -> str:
    """A mean with its interval."""
    return f"{value.mean:+.4f} [{value.low:+.4f}, {value.high:+.4f}]"


def opposite(value: Interval) -> Interval:
    """The same difference, seen from the other side."""
    return Interval(0 - value.mean, value.sd, 0 - value.high, 0 - value.low)  # -0.0 would be written as such


def counted(number: int, what: str) -> str:
    """A number of things."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    return f"{fmean(values):.4f} ± {stdev(values):.4f}" if len(values) > 1 else f"{values[0]:.4f}"


def not_yet(script: str) -> str:
    """What stands where there is no table."""
    return f"*Not run yet: `{script}`.*"


def partly(rows: int, planned: int) -> str:
    """What stands above a table that is not complete."""
    return f"*{rows} of {planned} rows so far.*\n"


def again(command: str) -> str:
    """How to make a row again."""
    return f"One row again: `{command}`"


def picture(name: str, text: str) -> str:
    """A figure that ``draw`` makes."""
    return f"![{text}]({FIGURES}/{name}.png)"
