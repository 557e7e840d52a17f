"""How numbers and comparisons are written on the pages of results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev

from scipy.stats import binomtest

from maxca.evaluate.statistics import Comparison, Interval

FIGURES = "images/results"  # relative to the pages
OUTCOMES = ("higher", "lower", "no significant difference")


def exponent(x: Sequence[float], y: Sequence[float]) -> str:
    """Exponent of the power law y ∝ xᵃ, by least squares on logarithms."""
    if len(x) < 2:
        return "–"
    across, up = [math.log(v) for v in x], [math.log(v) for v in y]
    middle, height = fmean(across), fmean(up)
    slope = sum((a - middle) * (b - height) for a, b in zip(across, up, strict=True))
    return f"{slope / sum((a - middle) ** 2 for a in across):.2f}"


def outcome(difference: Interval) -> str:
    """One of ``OUTCOMES``: a difference counts where its 95 % confidence interval excludes zero."""
    return OUTCOMES[0] if difference.low > 0 else OUTCOMES[1] if difference.high < 0 else OUTCOMES[2]


def said(difference: Interval, what: str = "Dice", unit: str = "") -> str:
    """The outcome of a comparison, with the mean difference and its interval."""
    if math.isnan(difference.low):
        return f"{difference.mean:+.4f}{unit} {what} in a single pair"
    told = outcome(difference)
    return f"{told} {'in ' if told == OUTCOMES[2] else ''}{what} ({bounded(difference, unit)})"


def bounded(value: Interval, unit: str = "") -> str:
    """A mean with its 95 % confidence interval."""
    return f"{value.mean:+.4f}{unit}, 95 % CI {value.low:+.4f} to {value.high:+.4f}{unit}"


def grouped(
    found: Mapping[str, Comparison], what: str = "Dice", unit: str = "", more: Mapping[str, str] | None = None
) -> str:
    """Comparisons of one method with several others in a sentence, sorted by outcome.

    Args:
        found: name of the other → comparison, the one minus the other.
        what: the measure.
        unit: of the measure, with a space before it.
        more: name of the other → addition to its brackets.
    """
    heads = f"higher {what} than", f"lower {what} than", f"no significant difference in {what} from"
    parts = []
    for kind, head in zip(OUTCOMES, heads, strict=True):
        mine = {name: c for name, c in found.items() if outcome(c.difference) == kind}
        told = [f"{name} ({effect(c, unit)}{(more or {}).get(name, '')})" for name, c in mine.items()]
        parts += [f"{head} {listed(told)}"] if told else []
    return "; ".join(parts)


def tally(found: Iterable[Comparison], what: str = "Dice") -> str:
    """How many comparisons have each outcome."""
    outcomes = [outcome(c.difference) for c in found]
    kinds = zip(OUTCOMES, (f"higher {what}", f"lower {what}", "no significant difference"), strict=True)
    told = [f"{name} in {outcomes.count(kind)}" for kind, name in kinds if kind in outcomes]
    return f"{listed(told)} of {counted(len(outcomes), 'comparison')}"


def effect(comparison: Comparison, unit: str = "") -> str:
    """Mean difference, its interval and the rank-biserial effect size."""
    if math.isnan(comparison.difference.low):
        return f"{comparison.difference.mean:+.4f}{unit}, single pair"
    return f"{bounded(comparison.difference, unit)}, r = {comparison.effect:+.2f}"


def opposite(value: Interval) -> Interval:
    """The difference with its sign reversed."""
    return Interval(0 - value.mean, value.sd, 0 - value.high, 0 - value.low)  # -0.0 would be written as such


def reversed_sign(comparison: Comparison) -> Comparison:
    """The comparison with the two methods exchanged."""
    return comparison._replace(difference=opposite(comparison.difference), effect=0 - comparison.effect)


def proportion(part: int, total: int) -> str:
    """A percentage with its exact (Clopper–Pearson) 95 % confidence interval."""
    low, high = (100 * bound for bound in binomtest(part, total).proportion_ci())
    return f"{100 * part / total:.0f} %, 95 % CI {low:.0f} to {high:.0f} %"


def counted(number: int, what: str) -> str:
    """A number with its noun."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def listed(words: Sequence[str]) -> str:
    """An enumeration: a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def capitalised(text: str) -> str:
    """The text with its first letter in upper case and the rest as it is."""
    return text[:1].upper() + text[1:]


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    return f"{fmean(values):.4f} ± {stdev(values):.4f}" if len(values) > 1 else f"{values[0]:.4f}"


def not_yet(script: str) -> str:
    """The text in place of a table that does not exist yet."""
    return f"*Not run yet: `{script}`.*"


def partly(rows: int, planned: int) -> str:
    """The note above an incomplete table."""
    return f"*{rows} of {planned} rows so far.*\n"


def again(command: str) -> str:
    """How to reproduce a row."""
    return f"To reproduce one row: `{command}`"


def picture(name: str, text: str) -> str:
    """A figure drawn by ``draw``."""
    return f"![{text}]({FIGURES}/{name}.png)"
