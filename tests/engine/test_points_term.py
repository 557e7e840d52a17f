"""Landmarks pull, a wrong one hardly, many as one and few as strongly as the images."""

from __future__ import annotations

import numpy as np
import phantoms
import pytest
import torch

from maxca.engine.deformable import optimise
from maxca.engine.lattice import Lattice
from maxca.engine.points import PointTerm, scale_of
from maxca.engine.settings import Level, Settings
from maxca.engine.terms import Guide
from maxca.engine.volume import Volume
from maxca.geometry import Affine, Grid

SETTINGS = Settings((Level(2, 40), Level(1, 40)), smoothness=6.0)
TURNED = Affine(np.array([[0.98, -0.17, 0.05, 1.0], [0.17, 0.98, 0.0, -2.0], [-0.05, 0.01, 1.02, 0.5], [0, 0, 0, 1.0]]))
PLACES = np.random.default_rng(3).uniform(-18, 18, (12, 3))
WHERES = [phantoms.grid((3.0, 3.0, 3.0)), phantoms.grid((2.0, 3.0, 5.0), flips="ik")]


def blank(where: Grid) -> Volume:
    return Volume(torch.zeros(where.shape), where)


def ball(where: Grid, through: phantoms.Map = lambda points: points) -> Volume:
    """A ball without texture."""
    return Volume(torch.from_numpy(phantoms.inside(through(phantoms.nodes(where)))).float(), where)


def moved(fixed: Volume, moving: Volume, term: PointTerm) -> np.ndarray:
    """Where the fixed points end, before the affine."""
    field, _ = optimise(fixed, moving, term.affine, SETTINGS, terms=[Guide(term, 0.5, compared="unit")])
    return field.map_points(term.fixed)


@pytest.mark.parametrize("where", WHERES, ids=["cubes", "flipped"])
@pytest.mark.parametrize("affine", [Affine.identity(), TURNED], ids=["unmoved", "turned"])
def test_landmarks_are_brought_together(where: Grid, affine: Affine) -> None:
    target = phantoms.bend(PLACES) - np.array([3.0, -2.0, 1.0])
    found = moved(blank(where), blank(where), PointTerm(PLACES, affine.map_points(target), affine))
    before, after = (np.linalg.norm(each - target, axis=1) for each in (PLACES, found))
    assert before.mean() > 2.5 and after.mean() < 0.25 * before.mean()


def test_a_wrong_pair_hardly_pulls() -> None:
    """In images that resist it; the others are right."""
    right = PLACES + np.array([2.0, 0, 0])
    wrong = right.copy()
    wrong[0] += np.array([0, 30.0, 0])
    fixed, moving = ball(WHERES[0], lambda points: points + np.array([2.0, 0, 0])), ball(WHERES[0])
    found = moved(fixed, moving, PointTerm(PLACES, wrong, Affine.identity()))
    assert np.linalg.norm(found - right, axis=1).mean() < 1.5  # half a voxel
    assert abs(found[0, 1] - right[0, 1]) < 1.5


def test_a_point_without_weight_does_not_pull() -> None:
    lattice = Lattice(blank(WHERES[0]), Level(1, 1), SETTINGS)
    target = PLACES + np.random.default_rng(4).normal(0, 2, PLACES.shape)
    weights = np.ones(len(PLACES))
    weights[3] = 0
    others = weights > 0
    still = torch.zeros(1, 3, *lattice.node_grid.shape)
    found = PointTerm(PLACES, target, Affine.identity(), weights).at(lattice).force(still)
    expected = PointTerm(PLACES[others], target[others], Affine.identity()).at(lattice).force(still)
    torch.testing.assert_close(found.nodes, expected.nodes)
    torch.testing.assert_close(found.value, expected.value)


@pytest.mark.parametrize("where", WHERES, ids=["cubes", "flipped"])
def test_one_landmark_a_voxel_away_pulls_with_about_length_one_and_so_do_a_thousand(where: Grid) -> None:
    lattice = Lattice(blank(where), Level(2, 1), SETTINGS)
    center = lattice.node_grid.to_world(np.array([lattice.node_grid.shape]) // 2)
    still = torch.zeros(1, 3, *lattice.node_grid.shape)
    for count in (1, 1000):
        far = np.repeat(center + np.array([lattice.mm, 0, 0]), count, axis=0)
        term = PointTerm(np.repeat(center, count, axis=0), far, Affine.identity())
        force = term.at(lattice).force(still)
        near = 1 / (1 + (lattice.mm / term.scale(lattice.unit)) ** 2)
        expected = near**2 / (1 + (lattice.unit / lattice.mm) ** 2)
        assert float(force.nodes.norm(dim=1).max()) == pytest.approx(expected, rel=0.02), count
        assert float(force.value) == pytest.approx(near - 1, rel=1e-4)


def test_the_force_is_that_of_the_value() -> None:
    """Against the difference of the value, for one landmark between the nodes."""
    lattice = Lattice(blank(WHERES[0]), Level(1, 1), SETTINGS)
    term = PointTerm(PLACES[:1], PLACES[:1] + np.array([[1.0, -2.0, 0.5]]), Affine.identity())
    level = term.at(lattice)
    still = torch.zeros(1, 3, *lattice.node_grid.shape)
    slope = [
        float(level.force(still + 0.01 * torch.eye(3)[axis].view(1, 3, 1, 1, 1)).value - level.force(still).value)
        / 0.01
        for axis in range(3)
    ]
    pull = level.force(still).nodes[0].flatten(1)
    pull = pull[:, pull.norm(dim=0).argmax()].numpy()
    np.testing.assert_allclose(pull / np.linalg.norm(pull), slope / np.linalg.norm(slope), atol=0.02)


def test_the_scale_is_a_multiple_of_the_median_and_of_the_voxel() -> None:
    assert scale_of(np.array([1.0, 2.0, 90.0]), 0.5) == 6.0
    assert scale_of(np.array([0.0, 0.0]), 0.5) == 1.0


def test_a_slice_has_no_motion_across() -> None:
    where = Grid((40, 40, 1), np.diag([2.0, 2.0, 5.0, 1.0]))
    points = where.to_world(np.array([[10.0, 10, 0], [25, 12, 0], [18, 30, 0]]))
    term = PointTerm(points, points + np.array([3.0, 1.0, 4.0]), Affine.identity())
    field, _ = optimise(
        blank(where), blank(where), Affine.identity(), SETTINGS, terms=[Guide(term, 0.5, compared="unit")]
    )
    assert not field.displacement[2].any()
    left = (field.map_points(points) - points)[:, :2] - [3.0, 1.0]
    assert np.linalg.norm(left, axis=1).mean() < 0.3 * np.linalg.norm([3.0, 1.0])
