"""Intervals and tests against other libraries and known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from maxca.evaluate.statistics import compare, holm, interval


def test_the_interval_is_that_of_scipys_bootstrap() -> None:
    values = np.random.default_rng(0).normal(3, 2, 40)
    ours = interval(values)
    level = 1 - 2 * stats.norm.cdf(stats.t.ppf(0.025, 39) * np.sqrt(40 / 39))
    found = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, confidence_level=level, rng=1
    ).confidence_interval
    assert (ours.mean, ours.sd) == (pytest.approx(values.mean()), pytest.approx(values.std(ddof=1)))
    assert (ours.low, ours.high) == (pytest.approx(found.low, abs=0.02), pytest.approx(found.high, abs=0.02))


def test_few_values_have_students_interval() -> None:
    values = [0.3, 0.1, 0.5]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (interval(values).low, interval(values).high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize("count", [3, 5, 6, 10, 15])
def test_the_interval_holds_the_mean_19_times_in_20(count: int) -> None:
    drawn = np.random.default_rng(count).normal(1, 2, (1000, count))
    found = [interval(values) for values in drawn]
    assert np.mean([low <= 1 <= high for _, _, low, high in found]) == pytest.approx(0.95, abs=0.025)


def test_intervals_of_almost_nothing() -> None:
    assert interval([2.0])[0] == 2.0
    assert all(math.isnan(x) for x in (*interval([2.0])[1:], *interval([])))


def test_a_comparison_is_paired() -> None:
    first = np.random.default_rng(0).normal(0, 10, 30)
    found = compare(first, first - 0.1)
    assert found.p < 1e-5
    assert found.effect == pytest.approx(1)
    assert compare(first - 0.1, first).effect == pytest.approx(-1)
    second = first + np.random.default_rng(1).normal(0, 1, 30)
    assert compare(first, second).p == pytest.approx(stats.wilcoxon(first, second).pvalue)
    assert compare([1, 2, 3.0], [2, 2, 2.0]).effect == 0
    same = compare(first, first)
    assert math.isnan(same.p) and same.effect == 0 and same.pairs == 30
    with pytest.raises(ValueError, match="broadcast"):
        compare([1.0, 2.0], [1.0, 2.0, 3.0])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, float("nan"), 0.7])[0] == 1.0
    assert math.isnan(holm([0.6, float("nan")])[1])
    assert holm([]) == []
