"""What the numbers of paired measurements allow to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata, wilcoxon

RESAMPLES = 10_000


class Interval(NamedTuple):
    """A mean, its standard deviation over pairs, and the 95 % bootstrap interval of the mean."""

    mean: float
    sd: float
    low: float
    high: float


class Comparison(NamedTuple):
    """One method against another on the same pairs.

    Args:
        pairs: that both have.
        difference: mean, SD and 95 % interval of the first minus the second.
        p: of the paired Wilcoxon signed-rank test, two-sided; NaN where all differences are 0.
        p_holm: the same after Holm's correction; see ``holm``.
        effect: matched-pairs rank-biserial correlation, from -1 to 1: the share of ranks that speak for the first minus
            that against it. Source: Kerby, Comprehensive Psychology 3, 2014.
    """

    pairs: int
    difference: Interval
    p: float
    p_holm: float
    effect: float


def interval(values: Sequence[float] | np.ndarray, seed: int = 0) -> Interval:
    """Mean, SD and percentile bootstrap interval; NaN where there is nothing to resample.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers):
        return Interval(np.nan, np.nan, np.nan, np.nan)
    if len(numbers) == 1:
        return Interval(float(numbers[0]), np.nan, np.nan, np.nan)
    draws = np.random.default_rng(seed).integers(len(numbers), size=(RESAMPLES, len(numbers)))
    low, high = np.percentile(numbers[draws].mean(axis=1), [2.5, 97.5])
    return Interval(float(numbers.mean()), float(numbers.std(ddof=1)), float(low), float(high))


def compare(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Paired comparison of equally long lists.

    Raises:
        ValueError: when their lengths differ.
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
    """Holm's step-down correction; NaN stays NaN and does not count.

    Source: Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    corrected = [float("nan")] * len(p_values)
    known = sorted((p, n) for n, p in enumerate(p_values) if not np.isnan(p))
    highest = 0.0
    for rank, (p, n) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        corrected[n] = highest
    return corrected
