"""The affine between landmarks is exact for right ones, and wrong ones change nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from maxca.geometry.landmarks import fitted_rigid, robust_affine
from maxca.geometry.transforms import Affine

RANDOM = np.random.default_rng(8)
TURN = Rotation.from_rotvec([2.0, -1.0, 1.5]).as_matrix()
SHIFT = np.array([100.0, -40.0, 7.0])
RIGID = np.block([[TURN, SHIFT[:, None]], [np.zeros(3), 1.0]])
LINEAR = RIGID @ np.array([[1.3, 0.1, 0, 0], [0, 0.8, 0.2, 0], [0, 0, 1.1, 0], [0, 0, 0, 1.0]])


def places(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-80, 80, (count, 3))


@pytest.mark.parametrize("count", [3, 4, 5, 20])
def test_a_rigid_motion_is_found(count: int) -> None:
    found = robust_affine(places(count), Affine(RIGID).map_points(places(count)))
    assert found is not None
    np.testing.assert_allclose(found.matrix, RIGID, atol=1e-9)


@pytest.mark.parametrize("count", [6, 20])
def test_an_affine_is_found_where_points_predict_each_other_better_by_it(count: int) -> None:
    points = places(count)
    found = robust_affine(points, Affine(LINEAR).map_points(points))
    assert found is not None
    np.testing.assert_allclose(found.matrix, LINEAR, atol=1e-9)
    rigid = robust_affine(points, Affine(LINEAR).map_points(points), rigid=True)
    assert rigid is not None
    np.testing.assert_allclose(rigid.matrix[:3, :3] @ rigid.matrix[:3, :3].T, np.eye(3), atol=1e-9)


@pytest.mark.parametrize(("count", "wrong"), [(6, 1), (8, 2), (20, 8), (200, 80)])
@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e3])
def test_wrong_pairs_change_little_whatever_the_unit(count: int, wrong: int, unit: float) -> None:
    points = unit * places(count)
    motion = RIGID.copy()
    motion[:3, 3] *= unit
    moved = Affine(motion).map_points(points) + unit * np.random.default_rng(1).normal(0, 0.5, points.shape)
    moved[:wrong] = np.roll(moved, count // 2, axis=0)[:wrong]
    found = robust_affine(points, moved)
    assert found is not None
    error = np.linalg.norm(found.map_points(points) - Affine(motion).map_points(points), axis=1)
    assert error.max() < 3 * unit


@pytest.mark.parametrize("seed", range(5))
def test_noise_does_not_make_a_mirror(seed: int) -> None:
    points = places(4, seed)
    moved = points * [-1, 1, 1]
    found = fitted_rigid(points, moved).matrix[:3, :3]
    assert np.linalg.det(found) == pytest.approx(1)


def test_points_in_a_plane_determine_a_rotation() -> None:
    points = places(7) * [1, 1, 0]
    found = robust_affine(points, Affine(RIGID).map_points(points))
    assert found is not None
    np.testing.assert_allclose(found.map_points(points), Affine(RIGID).map_points(points), atol=1e-6)


@pytest.mark.parametrize("points", [places(2), np.outer(np.arange(6.0), [1, 2, 3]), np.ones((5, 3))])
def test_points_that_determine_no_rotation_give_nothing(points: np.ndarray) -> None:
    assert robust_affine(points, points) is None


def test_the_same_seed_gives_the_same_affine() -> None:
    points, moved = places(300), places(300, 1)
    first, second = (robust_affine(points, moved, seed=3) for _ in range(2))
    assert first is not None and second is not None
    np.testing.assert_array_equal(first.matrix, second.matrix)
