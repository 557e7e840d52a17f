"""The affine is found again, whatever the contrast, and never hurts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from maxca.engine import affine as room
from maxca.engine.affine import AffineKind, AffineSettings, Alignment, align
from maxca.engine.motion import Motion
from maxca.engine.volume import Volume
from maxca.geometry import Affine, Grid

RADII = np.array([62.0, 76.0, 54.0])  # mm, of the head around the origin
WAVES = np.random.default_rng(2).normal(0, 0.09, (20, 3))  # radians per mm
PHASES = np.random.default_rng(3).uniform(0, 2 * np.pi, 20)
Contrast = Callable[[np.ndarray], np.ndarray]


def texture(points: np.ndarray) -> np.ndarray:
    """0.2…1 inside the head."""
    waves = np.sin(points @ WAVES.T + PHASES).sum(-1) / np.sqrt(2 * len(WAVES))
    return np.clip(0.6 + 0.2 * waves, 0.2, 1)


def inverted(points: np.ndarray) -> np.ndarray:
    """What T2 is to T1: fluid bright, white matter dark."""
    return 1.2 - texture(points)


def head(points: np.ndarray, contrast: Contrast = texture) -> np.ndarray:
    rim = np.linalg.norm(points / RADII, axis=-1)
    return np.clip((1 - rim) * 12 + 0.5, 0, 1) * contrast(points)


def grid(shape: tuple[int, int, int] = (38, 40, 36), spacing: float = 4.5) -> Grid:
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def nodes(where: Grid) -> np.ndarray:
    return where.to_world(np.stack(np.meshgrid(*map(np.arange, where.shape), indexing="ij"), axis=-1))


def seen(truth: Affine, where: Grid | None = None, contrast: Contrast = texture) -> Volume:
    """The head through a map from the world points of a grid."""
    where = where or grid()
    return Volume(torch.from_numpy(head(truth.map_points(nodes(where)), contrast)).float(), where)


def moved(
    degrees: tuple[float, float, float], shift: tuple[float, float, float], stretch: np.ndarray | None = None
) -> Affine:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(degrees, degrees=True).as_matrix()
    if stretch is not None:
        matrix[:3, :3] = matrix[:3, :3] @ stretch
    matrix[:3, 3] = shift
    return Affine(matrix)


STILL = Affine.identity()
RIGID = moved((0.0, 12.0, 16.0), (18.0, -20.0, 13.0))  # 20 degrees and 30 mm
STRETCHED = moved((12.0, -6.0, 14.0), (18.0, -20.0, 13.0), np.array([[1.08, 0.06, 0], [0, 0.93, 0], [0, -0.04, 1.05]]))


def corner_error(found: Alignment, truth: Affine) -> float:
    """The largest distance in mm at the head's corners, where the diagonals of its box leave it, in fixed space."""
    box = RADII / np.sqrt(3) * np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T
    corners = truth.inverse()[0].map_points(box)
    return float(np.linalg.norm(found.affine.map_points(corners) - box, axis=1).max())


def test_a_rigid_transform_is_found_again_from_far_away() -> None:
    found = align(seen(RIGID), seen(STILL), AffineSettings(kind="rigid"))
    assert found.chosen == "rigid"
    assert corner_error(found, RIGID) < 0.5


def test_an_affine_transform_is_found_again_from_far_away() -> None:
    found = align(seen(STRETCHED), seen(STILL))
    assert found.chosen == "affine"
    assert corner_error(found, STRETCHED) < 0.5
    assert found.similarity["affine"] > found.similarity["header"]


@pytest.mark.parametrize("truth", [RIGID, STRETCHED], ids=["rigid", "affine"])
def test_an_inverted_contrast_is_no_obstacle(truth: Affine) -> None:
    kind = "rigid" if truth is RIGID else "affine"
    found = align(seen(truth), seen(STILL, contrast=inverted), AffineSettings(kind=kind, similarity="mi"))  # type: ignore[arg-type]
    assert corner_error(found, truth) < 0.7  # a sixth of a voxel


def test_the_grid_of_the_moving_image_does_not_matter() -> None:
    affine = np.diag([-5.0, 3.8, -4.0, 1.0])
    affine[:3, :3] = Rotation.from_euler("xyz", (10, -20, 15), degrees=True).as_matrix() @ affine[:3, :3]
    shape = (36, 44, 40)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    found = align(seen(RIGID), seen(STILL, Grid(shape, affine)), AffineSettings(kind="rigid"))
    assert corner_error(found, RIGID) < 0.5


def test_rigid_stays_rigid() -> None:
    found = align(seen(STRETCHED), seen(STILL), AffineSettings(kind="rigid"))
    linear = found.affine.matrix[:3, :3]
    np.testing.assert_allclose(np.linalg.svd(linear)[1], 1, atol=1e-5)
    assert np.linalg.det(linear) > 0


def test_images_that_lie_right_are_left_as_good_as_they_are() -> None:
    found = align(seen(STILL), seen(STILL))
    assert corner_error(found, STILL) < 0.2
    assert found.similarity[found.chosen] >= found.similarity["header"]


@pytest.mark.parametrize("similarity", ["lncc", "mi"])
def test_a_search_that_went_astray_never_hurts(similarity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.AffineProblem, "maximise", lambda *_args, **_kwargs: moved((0, 0, 40), (30, 0, 0)))
    found = align(seen(STILL), seen(STILL), AffineSettings(similarity=similarity))  # type: ignore[arg-type]
    assert found.chosen == "header"
    assert "did not raise" in found.reason
    np.testing.assert_array_equal(found.affine.matrix, np.eye(4))


def test_a_start_that_was_given_is_where_the_search_begins_and_falls_back() -> None:
    near = moved((0.0, 10.0, 13.0), (15.0, -18.0, 10.0))
    assert corner_error(align(seen(RIGID), seen(STILL), AffineSettings(kind="rigid"), initial=near), RIGID) < 0.5


def test_centres_of_mass_bring_together_what_the_headers_keep_apart() -> None:
    far = moved((0.0, 5.0, 5.0), (150.0, -90.0, 60.0))
    where = grid()
    matrix = where.affine.copy()
    matrix[:3, 3] = far.inverse()[0].map_points(where.center) - matrix[:3, :3] @ ((np.array(where.shape) - 1) / 2)
    found = align(seen(far, Grid(where.shape, matrix)), seen(STILL), AffineSettings(kind="rigid", start="center"))
    assert corner_error(found, far) < 0.7  # a sixth of a voxel


@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_what_is_found_does_not_depend_on_where_the_origin_of_the_world_is(kind: AffineKind) -> None:
    fixed, moving = seen(RIGID), seen(STILL, Grid((30, 35, 33), turned_grid(5.0)))
    near = align(fixed, moving, AffineSettings(kind=kind))
    for offset in (700.0, -4.5e5):  # mm: up to 100 000 voxels away
        there = [Volume(v.values, Grid(v.grid.shape, shifted(v.grid.affine, offset))) for v in (fixed, moving)]
        found = align(there[0], there[1], AffineSettings(kind=kind))
        corners = fixed.grid.corners
        motion = found.affine.map_points(corners + offset) - offset
        np.testing.assert_allclose(motion, near.affine.map_points(corners), atol=1e-3 * 4.5)


def turned_grid(spacing: float) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (10, -20, 15), degrees=True).as_matrix() * spacing
    affine[:3, 3] = -affine[:3, :3] @ (14.5, 17.0, 16.0)
    return affine


def shifted(affine: np.ndarray, offset: float) -> np.ndarray:
    out = affine.copy()
    out[:3, 3] += offset
    return out


def test_a_mask_keeps_out_what_moved_otherwise() -> None:
    truth = moved((0.0, 3.0, 5.0), (4.0, -5.0, 3.0))
    fixed, moving = seen(truth), seen(STILL)
    # A collar that stands still below a head that turned, in both images.
    collar = torch.zeros(grid().shape)
    collar[:, :, :9] = torch.from_numpy(texture(nodes(grid()) * 1.7)).float()[:, :, :9]
    outside = torch.ones(grid().shape)
    outside[:, :, :11] = 0
    disturbed = [Volume(torch.where(outside > 0, v.values, collar), v.grid) for v in (fixed, moving)]
    masked = [Volume(v.values, v.grid, outside) for v in disturbed]
    with_mask, without = align(*masked, AffineSettings(kind="rigid")), align(*disturbed, AffineSettings(kind="rigid"))
    assert corner_error(with_mask, truth) < 1
    assert corner_error(with_mask, truth) < corner_error(without, truth)


def test_slices_move_within_their_plane() -> None:
    plane = grid((38, 40, 1))
    truth = moved((0.0, 0.0, 15.0), (9.0, -7.0, 0.0), np.diag([1.06, 0.95, 1.0]))
    elsewhere = plane.affine.copy()
    elsewhere[2, 3] = 80.0  # the other slice is at another position along its normal
    moving = Volume(seen(STILL, plane).values, Grid(plane.shape, elsewhere))
    found = align(seen(truth, plane), moving).affine.matrix
    np.testing.assert_allclose(found[2], (0, 0, 1, 80), atol=1e-6)
    np.testing.assert_allclose(found[:2, 2], 0, atol=1e-6)
    corners = np.array([[-44.0, -54, 0], [44, -54, 0], [-44, 54, 0], [44, 54, 0]])
    error = Affine(found).map_points(truth.inverse()[0].map_points(corners)) - corners - (0, 0, 80)
    assert np.linalg.norm(error, axis=1).max() < 0.8  # a sixth of a voxel


def test_the_same_seed_gives_the_same_bits() -> None:
    truth = moved((0.0, 3.0, 5.0), (4.0, -5.0, 3.0))
    pair = seen(truth), seen(STILL)
    first, second = (align(*pair, AffineSettings(kind="rigid", start="header", seed=3)) for _ in range(2))
    assert (first.affine.matrix == second.affine.matrix).all()
    assert first.similarity == second.similarity


def test_another_contrast_is_noticed_and_left_to_mutual_information() -> None:
    truth = moved((0.0, 3.0, 5.0), (4.0, -5.0, 3.0))
    fixed, moving = seen(truth), seen(STILL)
    bent = Volume(1 - (2 * moving.values - 1).abs(), moving.grid)
    assert align(fixed, moving, AffineSettings(kind="rigid")).same_contrast
    other = align(fixed, bent, AffineSettings(kind="rigid"))
    assert not other.same_contrast
    assert "mutual information" in other.reason


def test_progress_is_told_in_words() -> None:
    lines: list[str] = []
    align(seen(STILL), seen(STILL), progress=lines.append)
    assert lines[0] == "searching an initialisation"
    assert any(line.startswith("affine at") for line in lines)
    assert lines[-1] == "refining the affine"


@pytest.mark.parametrize("plane", [None, np.linalg.qr(np.random.default_rng(4).normal(size=(3, 2)))[0]])
@pytest.mark.parametrize("rigid", [True, False])
def test_the_gradient_of_a_motion_is_that_of_finite_differences(rigid: bool, plane: np.ndarray | None) -> None:
    motion = Motion(3.0, rigid, plane)
    rng = np.random.default_rng(5)
    numbers, of_linear, of_shift = rng.normal(size=motion.size), rng.normal(size=(3, 3)), rng.normal(size=3)

    def value(at: np.ndarray) -> float:
        linear, shift = motion(at)
        return float((of_linear * linear).sum() + of_shift @ shift)

    steps = 1e-5 * np.eye(motion.size)
    expected = [(value(numbers + step) - value(numbers - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(motion.gradient(numbers, of_linear, of_shift), expected, atol=1e-8)
    linear, _ = motion(numbers)
    assert np.linalg.det(linear) == pytest.approx(1) if rigid else np.linalg.det(linear) > 0
