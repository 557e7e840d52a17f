"""Smoothing over time: what it keeps, and what it damps."""

from __future__ import annotations

import numpy as np
import pytest

from maxca.engine.over_time import smoothing_over_time


def test_a_constant_velocity_is_kept() -> None:
    time = np.arange(9.0)
    np.testing.assert_allclose(smoothing_over_time(9, 1.5) @ (3 * time - 4), 3 * time - 4, atol=1e-9)
    np.testing.assert_allclose(smoothing_over_time(9, 1.5, cyclic=True) @ np.ones(9), 1, atol=1e-9)
    np.testing.assert_array_equal(smoothing_over_time(9, 0), np.eye(9))


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.0])
def test_the_same_oscillation_is_halved_as_by_a_gaussian_and_slow_ones_are_kept(sigma: float) -> None:
    count = 600
    time = np.arange(count)
    cycles = round(count * np.sqrt(2 * np.log(2)) / sigma / (2 * np.pi))
    matrix = smoothing_over_time(count, sigma, cyclic=True)
    for number, expected, within in ((cycles, 0.5, 0.01), (cycles // 4, 1.0, 0.02)):
        wave = np.cos(2 * np.pi * number * time / count)
        assert (matrix @ wave) @ wave / (wave @ wave) == pytest.approx(expected, abs=within)


def test_a_cycle_has_no_first_frame() -> None:
    matrix = smoothing_over_time(8, 1.0, cyclic=True)
    np.testing.assert_allclose(np.roll(matrix, (3, 3), axis=(0, 1)), matrix, atol=1e-12)
    open_ended = smoothing_over_time(8, 1.0)
    assert abs(open_ended[0, 7]) < 0.01 < matrix[0, 7]


def test_the_reference_does_not_move() -> None:
    values = np.random.default_rng(0).normal(size=7)
    smooth = smoothing_over_time(7, 1.0, cyclic=True, still=2) @ values
    assert smooth[2] == 0 and np.abs(np.diff(smooth, 2)).sum() < np.abs(np.diff(values, 2)).sum()
    assert smoothing_over_time(2, 1.0, still=0)[0].any() == np.False_


def test_the_fastest_oscillation_is_damped_as_by_a_gaussian_that_halves_none() -> None:
    wave = (-1.0) ** np.arange(40)

    def gain(sigma: float) -> float:
        return float((smoothing_over_time(40, sigma, cyclic=True) @ wave) @ wave / 40)

    for sigma in (0.05, 0.1, 0.2, 0.3, 0.37):
        assert gain(sigma) == pytest.approx(np.exp(-((sigma * np.pi) ** 2) / 2))
    limit = np.sqrt(2 * np.log(2)) / np.pi
    assert gain(limit - 1e-6) == pytest.approx(gain(limit + 1e-6), abs=1e-4) == pytest.approx(0.5, abs=1e-4)
    assert gain(1e-6) == pytest.approx(gain(0)) == 1
