"""Statistics of paired measurements: intervals, tests and effect sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, rankdata, t, wilcoxon

RESAMPLES = 10_000
LEAST = 6  # values: bootstrap intervals of fewer are too narrow


class Interval(NamedTuple):
    """A mean, the standard deviation of its values, and the 95 % interval of the mean, see ``interval``."""

    mean: float
    sd: float
    low: float
    high: float


class Comparison(NamedTuple):
    """One method against another on the same pairs.

    Args:
        pairs: number of common pairs.
        difference: mean, SD and 95 % interval of the first minus the second.
        p: of the paired Wilcoxon signed-rank test, two-sided; NaN where all differences are 0.
        p_holm: the same after Holm's correction; see ``holm``.
        effect: matched-pairs rank-biserial correlation, from -1 to 1: the fraction of ranks in favour of the first
            minus that in favour of the second. Source: Kerby, Comprehensive Psychology 3, 2014.
    """

    pairs: int
    difference: Interval
    p: float
    p_holm: float
    effect: float


def interval(values: Sequence[float] | np.ndarray, seed: int = 0) -> Interval:
    """Mean, SD and 95 % interval of the mean; NaN for too few values.

    A bootstrap interval at expanded percentiles, which agree with Student's t for normally distributed values: without
    expansion, the coverage is 89 % for 10 such values and 73 % for 3. For fewer than 6 values it is Student's t.

    Source: Hesterberg, The American Statistician 69, 2015 (expanded percentiles).
    """
    numbers = np.asarray(values, dtype=np.float64)
    count = len(numbers)
    if not count:
        return Interval(np.nan, np.nan, np.nan, np.nan)
    if count == 1:
        return Interval(float(numbers[0]), np.nan, np.nan, np.nan)
    mean, sd, reach = float(numbers.mean()), float(numbers.std(ddof=1)), float(t.ppf(0.975, count - 1))
    if count < LEAST:
        half = reach * sd / count**0.5
        return Interval(mean, sd, mean - half, mean + half)
    tail = 100 * norm.cdf(-reach * (count / (count - 1)) ** 0.5)
    draws = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    low, high = np.percentile(numbers[draws].mean(axis=1), [tail, 100 - tail])
    return Interval(mean, sd, float(low), float(high))


def compare(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Paired comparison of equally long lists.

    Raises:
        ValueError: if their lengths differ.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    moved = differences[differences != 0]
    if not len(moved):
        return Comparison(len(differences), interval(differences), np.nan, np.nan, 0.0)
    p = float(wilcoxon(moved).pvalue)
    ranks = rankdata(np.abs(moved))
    effect = float((ranks[moved > 0].sum() - ranks[moved < 0].sum()) / ranks.sum())
    return Comparison(len(differences), interval(differences), p, p, effect)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction; NaN is ignored.

    Source: Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    corrected = [float("nan")] * len(p_values)
    known = sorted((p, n) for n, p in enumerate(p_values) if not np.isnan(p))
    highest = 0.0
    for rank, (p, n) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        corrected[n] = highest
    return corrected
