"""The affine part of a map."""

from __future__ import annotations

import numpy as np
import pytest

from maxca.geometry import Affine
from maxca.geometry.fit import fitted_affine

MAP = np.array([[1.1, 0.2, 0, 5], [-0.1, 0.9, 0.3, -2], [0, 0.1, 1.2, 7], [0, 0, 0, 1]])


def test_an_affine_is_its_own_affine_part() -> None:
    points = np.random.default_rng(0).normal(0, 40, (50, 3)) + 100
    np.testing.assert_allclose(fitted_affine(points, Affine(MAP).map_points(points)).matrix, MAP, atol=1e-9)


def test_what_is_left_over_has_no_affine_part() -> None:
    points = np.random.default_rng(0).normal(0, 40, (50, 3))
    moved = points + np.sin(points / 9)
    left = moved - fitted_affine(points, moved).map_points(points)
    np.testing.assert_allclose(left.T @ np.column_stack([points, np.ones(50)]), 0, atol=1e-8)


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_a_plane_is_followed_and_not_stretched_across(count: int) -> None:
    points = np.random.default_rng(0).normal(0, 40, (count, 3))
    points[:, 2] = 3.0
    turned = np.eye(4)
    turned[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    turned[:3, 3] = (4, 5, 6)
    found = fitted_affine(points, Affine(turned).map_points(points))
    np.testing.assert_allclose(found.map_points(points), Affine(turned).map_points(points), atol=1e-9)
    if count > 2:
        np.testing.assert_allclose(found.matrix, turned, atol=1e-9)


def test_what_ends_in_a_plane_has_no_affine() -> None:
    points = np.random.default_rng(0).normal(0, 40, (20, 3))
    with pytest.raises(ValueError, match="singular"):
        fitted_affine(points, points * (1, 1, 0))
