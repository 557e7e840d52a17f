"""Images at any rotation to each other are found, and those near their headers are left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import phantoms
import pytest
import torch
from scipy.spatial.transform import Rotation

import maxca
from maxca import Result
from maxca.cli.main import main
from maxca.engine.affine import AffineSettings, Alignment, align
from maxca.engine.affine_problem import AffineProblem
from maxca.engine.rotations import covering
from maxca.engine.volume import Volume, normalise
from maxca.fields import OptionError
from maxca.geometry import Affine, Grid
from maxca.io.images import Image
from maxca.options import RegistrationOptions

QUICK = AffineSettings(kind="rigid", thorough=False)
WHERE = phantoms.grid((3.3, 3.8, 3.3), flips="ij")


def turn(degrees: float, axis: tuple[float, float, float], shift: tuple[float, float, float] = (0, 0, 0)) -> Affine:
    matrix = np.eye(4)
    unit = np.array(axis) / np.linalg.norm(axis)
    matrix[:3, :3] = Rotation.from_rotvec(degrees * unit, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return Affine(matrix)


TURNED = turn(155, (1, -2, 0.5), (6, -4, 9))


def organ(points: np.ndarray) -> np.ndarray:
    """An ellipsoid with a coarse texture."""
    texture = np.sin(0.6 * points @ phantoms.WAVES.T + phantoms.PHASES).sum(-1) / np.sqrt(len(phantoms.WAVES))
    return phantoms.inside(points * np.array([1.0, 1.4, 0.8])) * np.clip(1.5 + texture, 0.2, None) * 60


def volume(image: Image, mask: torch.Tensor | None = None) -> Volume:
    return Volume(normalise(torch.from_numpy(image.data.astype(np.float32))), image.grid, mask)


def seen(truth: Affine = TURNED, where: Grid = WHERE) -> Volume:
    """The scene through a map from the world points of a grid."""
    return volume(phantoms.image(where, truth.map_points, organ))


def degrees(found: Affine, truth: Affine) -> float:
    """The angle between two rigid maps."""
    turned = found.matrix[:3, :3] @ np.linalg.inv(truth.matrix[:3, :3])
    return float(np.degrees(Rotation.from_matrix(turned).magnitude()))


def error(found: Alignment, truth: Affine) -> float:
    """Mean distance in mm inside the ball."""
    points = np.random.default_rng(0).uniform(-15, 15, (200, 3))
    points = truth.inverse()[0].map_points(points)
    return float(np.linalg.norm(found.affine.map_points(points) - truth.map_points(points), axis=1).mean())


def test_no_rotation_is_far_from_the_covering() -> None:
    rotations, others = covering(600), Rotation.random(2000, random_state=1).as_matrix()
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (600, 1, 1)), atol=1e-12)
    assert (np.linalg.det(rotations) > 0).all()
    nearest = np.einsum("aij,bij->ab", others, rotations).max(axis=1)
    away = np.degrees(np.arccos((nearest - 1) / 2))
    assert away.max() < 28 and away.mean() < 15


def test_random_rotations_are_found_to_one_degree() -> None:
    moving = seen(Affine.identity(), phantoms.grid((3.0, 2.5, 2.5)))
    for rotation in Rotation.random(2, random_state=3):
        truth = turn(np.degrees(rotation.magnitude()), tuple(rotation.as_rotvec()), (5, 8, -7))
        found = align(seen(truth), moving, QUICK)
        assert degrees(found.affine, truth) < 1 and error(found, truth) < 0.5


@pytest.mark.parametrize("settings", [replace(QUICK, search="off"), replace(QUICK, start="header")])
def test_without_the_search_a_turned_image_stays_turned(settings: AffineSettings) -> None:
    found = align(seen(), seen(Affine.identity()), settings)
    assert degrees(found.affine, TURNED) > 30
    assert found.searched is None and not found.turned


def test_what_is_near_is_left_as_it_is_to_the_last_bit() -> None:
    near = turn(20, (0, 1, 1), (5, -6, 4))
    pair = seen(near), seen(Affine.identity())
    without, found = align(*pair, replace(QUICK, search="off")), align(*pair, QUICK)
    assert (found.affine.matrix == without.affine.matrix).all() and found.similarity == without.similarity
    assert found.searched is not None and "an initialisation nearby fits" in found.searched and not found.turned
    always = align(*pair, replace(QUICK, search="on"))
    assert (always.affine.matrix == without.affine.matrix).all()
    assert always.searched is not None and "better orientation" in always.searched


def test_a_given_start_is_kept_unless_the_search_is_on_and_its_scale_then_too() -> None:
    scale = np.diag([2.0, 2.0, 2.0, 1.0])  # the moving image is twice as large
    larger = Grid(WHERE.shape, scale @ WHERE.affine)
    moving = volume(replace(phantoms.image(WHERE, what=organ), grid=larger))
    truth = Affine(scale @ TURNED.matrix)
    kept, found = (align(seen(), moving, replace(QUICK, search=s), initial=Affine(scale)) for s in ("auto", "on"))
    assert kept.searched is None and found.turned
    assert error(kept, truth) > 10 and error(found, truth) < 1


def test_a_slice_turns_in_its_plane() -> None:
    plane = Grid((55, 47, 1), np.diag([1.2, 1.4, 4.0, 1.0]) @ centred((55, 47)))
    truth = turn(140, (0, 0, 1), (6, -5, 0))
    found = align(seen(truth, plane), seen(Affine.identity(), plane), QUICK)
    assert found.turned and degrees(found.affine, truth) < 1
    np.testing.assert_allclose(found.affine.matrix[2], (0, 0, 1, 0), atol=1e-6)


def centred(shape: tuple[int, int]) -> np.ndarray:
    """(4, 4): the middle of the first two axes at the origin."""
    shift = np.eye(4)
    shift[:2, 3] = -(np.array(shape) - 1) / 2
    return shift


def test_a_mirrored_image_is_not_reflected() -> None:
    mirrored = Affine(TURNED.matrix @ np.diag([-1.0, 1.0, 1.0, 1.0]))
    found = align(seen(mirrored), seen(Affine.identity()), replace(QUICK, search="on"))
    assert np.linalg.det(found.affine.matrix[:3, :3]) == pytest.approx(1, abs=1e-6)


def test_half_of_the_field_of_view_is_enough() -> None:
    whole = seen(Affine.identity())
    half = Volume(
        whole.values[:, : WHERE.shape[1] // 2],
        WHERE.box((0, 0, 0), (WHERE.shape[0], WHERE.shape[1] // 2, WHERE.shape[2])),
    )
    found = align(seen(), half, QUICK)
    assert found.turned and degrees(found.affine, TURNED) < 2


def test_masks_keep_what_moved_otherwise_out_of_the_search() -> None:
    fixed, moving = seen(), seen(Affine.identity())
    bright = torch.zeros(WHERE.shape)
    bright[:2] = 1  # a board at the same place of both grids
    outside = 1 - bright
    masked = [Volume(torch.where(bright > 0, torch.ones(()), v.values), v.grid, outside) for v in (fixed, moving)]
    assert degrees(align(*masked, QUICK).affine, TURNED) < 2


def test_the_seed_and_the_place_of_the_world_change_nothing() -> None:
    fixed, moving = seen(), seen(Affine.identity())
    here = align(fixed, moving, QUICK)
    assert (align(fixed, moving, QUICK).affine.matrix == here.affine.matrix).all()
    shift = np.eye(4)
    shift[:3, 3] = -4.5e5
    far = [Volume(v.values, Grid(v.grid.shape, shift @ v.grid.affine)) for v in (fixed, moving)]
    there = align(*far, QUICK).affine
    corners = WHERE.corners
    moved = there.map_points(corners + shift[:3, 3]) - shift[:3, 3]
    np.testing.assert_allclose(moved, here.affine.map_points(corners), atol=1e-3 * 2)


def test_the_user_is_told_that_the_image_is_turned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = phantoms.image(WHERE, TURNED.map_points, organ), phantoms.image(WHERE, what=organ)
    words = ["--effort", "fast", "--model", "none", "--threads", "1", "--transform", "rigid", "-v", "--report"]
    for side, image in zip(("fixed", "moving"), images, strict=True):
        words += [f"--{side}", str(phantoms.save(tmp_path / f"{side}.nii.gz", image))]
    assert main(["register", *words, "-o", str(tmp_path / "out")]) == 0
    result = Result.load(tmp_path / "out")
    assert result.record.affine is not None and result.record.affine.turned
    (warning,) = (text for text in result.warnings if "fitted" in text)
    assert "a rotation by 155° fits" in warning and "check the orientation in both headers" in warning
    assert result.record.settings.search == "auto"
    assert "search: a rotation by 155°" in capsys.readouterr().err
    assert "search over all rotations" in (tmp_path / "out" / "report.html").read_text()
    points = TURNED.inverse()[0].map_points(np.random.default_rng(1).uniform(-15, 15, (50, 3)))
    apart = result.chain.map_points(points) - TURNED.map_points(points)
    assert np.linalg.norm(apart, axis=1).max() < 1


def test_python_takes_it_too_and_a_restriction_excludes_it() -> None:
    images = phantoms.image(WHERE, TURNED.map_points, organ), phantoms.image(WHERE, what=organ)
    found = maxca.register(*images, transform="rigid", search="off", model="none", effort="fast", threads=1)
    assert found.record.affine is not None and found.record.affine.searched is None
    assert not any("fitted" in text for text in found.warnings)
    with pytest.raises(OptionError, match="search=on: restrict keeps the initial transform"):
        RegistrationOptions(search="on", restrict="0x1x0")
    with pytest.raises(OptionError, match="search=yes"):
        RegistrationOptions(search="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize("drawn", [0, 1, 5])
def test_a_mask_that_vanishes_on_a_coarse_grid_leaves_samples(drawn: int) -> None:
    """A few voxels are less than half of a coarse one: the verdict masks images by what both have in common."""
    where = phantoms.grid()
    values = torch.from_numpy(phantoms.image(where).data).float() / 800
    mask = torch.zeros(where.shape)
    mask.view(-1)[mask.numel() // 2 : mask.numel() // 2 + drawn] = 1
    problem = AffineProblem(Volume(values, where, mask), Volume(values, where), 12.0, 0)
    assert len(problem.values) > 0 and np.isfinite(problem.similarity(Affine.identity()))
