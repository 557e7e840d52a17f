"""The deformation of a pair: found where it is known, without folds, within its mask."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import phantoms
import pytest
import torch

from maxca.engine.comparison import similarity_of
from maxca.engine.deformable import LevelRecord, optimise
from maxca.engine.settings import Level, Settings, settings_for
from maxca.engine.volume import Volume, normalise
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.geometry.jacobian import nondiffeomorphic_volume, tetrahedron_determinants

STILL = Affine.identity()
SPACINGS = {"isotropic": (2.0, 2.0, 2.0), "anisotropic": (1.8, 1.8, 5.0)}


def waves(points: np.ndarray) -> np.ndarray:
    """A smooth map of up to 4 mm, without any affine part to speak of."""
    x, y, z = np.moveaxis(points, -1, 0)
    steps = [np.sin(y / 9 + z / 13), np.cos(x / 10) * np.sin(z / 11), np.sin(x / 9 - y / 12)]
    return points + 3 * np.stack(steps, axis=-1)


def volume(where: Grid, through: phantoms.Map = lambda x: x, invert: bool = False) -> Volume:
    points = through(phantoms.nodes(where))
    values = normalise(torch.from_numpy(phantoms.scene(points)))
    if invert:
        values = torch.from_numpy(phantoms.inside(points)).float() * (1.2 - values).clamp(0, 1)
    return Volume(values, where)


def noise(where: Grid) -> tuple[Volume, Volume]:
    """Two images that have nothing in common."""
    first, second = (torch.rand(where.shape, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
    return Volume(first, where), Volume(second, where)


def settings(where: Grid, similarity: str = "lncc", smoothness: float | None = None) -> Settings:
    return settings_for(where, "fast", similarity, smoothness)


def patient(where: Grid, similarity: str = "lncc") -> Settings:
    """Settings that do not stop early."""
    return replace(settings(where, similarity), patience=1000)


@cache
def found(name: str = "isotropic", similarity: str = "lncc") -> tuple[DenseField, tuple[LevelRecord, ...]]:
    where = phantoms.grid(SPACINGS[name])
    moving = volume(where, invert=similarity == "mi")
    return optimise(volume(where, waves), moving, STILL, patient(where, similarity))


def error(field: DenseField | None, truth: phantoms.Map = waves) -> float:
    return phantoms.error(Chain((field,) if field else ()), truth)


@pytest.mark.parametrize("name", SPACINGS)
def test_a_known_deformation_is_found(name: str) -> None:
    field, _ = found(name)
    assert error(field) < 0.6 * error(None)


def test_another_contrast_is_maximised_by_mutual_information() -> None:
    field, _ = found(similarity="mi")
    assert error(field) < 0.5 * error(None)


def test_equal_contrasts_are_registered_by_mean_squares() -> None:
    field, _ = found(similarity="mse")
    assert error(field) < 0.75 * error(None)


@pytest.mark.parametrize(
    ("name", "similarity"),
    [("isotropic", "lncc"), ("isotropic", "mi"), ("isotropic", "mse"), ("anisotropic", "lncc")],
)
def test_no_tetrahedron_is_mirrored(name: str, similarity: str) -> None:
    field, _ = found(name, similarity)
    assert float(tetrahedron_determinants(field).min()) > 0
    assert float(nondiffeomorphic_volume(field).sum()) == 0


def test_a_pair_that_cannot_match_still_does_not_fold() -> None:
    where = phantoms.grid((3.0, 3.0, 3.0))
    field, _ = optimise(*noise(where), STILL, settings(where, smoothness=3.0))
    assert field.displacement.norm(dim=0).max() > 1
    assert float(nondiffeomorphic_volume(field).sum()) == 0


def test_the_affine_comes_after_the_field() -> None:
    where = phantoms.grid()
    shift = np.eye(4)
    shift[:3, 3] = (6.0, -4.0, 5.0)
    affine = Affine(shift)
    fixed = volume(where, lambda x: affine.map_points(waves(x)))
    field, _ = optimise(fixed, volume(where), affine, settings(where))
    left = phantoms.error(Chain((field, affine)), lambda x: affine.map_points(waves(x)))
    assert left < 0.6 * error(None)


def test_nothing_moves_far_from_the_mask() -> None:
    where = phantoms.grid()
    mask = torch.zeros(where.shape)
    mask[:8] = 1
    fixed = replace(volume(where, waves), mask=mask)
    field, _ = optimise(fixed, volume(where), STILL, settings(where, smoothness=4.0))
    motion = np.linalg.norm(field.map_points(phantoms.nodes(where)) - phantoms.nodes(where), axis=-1)
    assert motion[:6].max() > 1
    assert motion[18:].max() < 0.1


def test_the_moving_mask_pulls_nothing_where_it_is_empty() -> None:
    where = phantoms.grid()
    mask = torch.zeros(where.shape)
    mask[:8] = 1
    moving = replace(volume(where), mask=mask)
    field, _ = optimise(volume(where, waves), moving, STILL, settings(where))
    motion = np.linalg.norm(field.map_points(phantoms.nodes(where)) - phantoms.nodes(where), axis=-1)
    assert motion[:6].max() > 1
    assert motion[20:].max() < 0.1


def test_a_level_that_ends_lower_hands_on_its_best_field() -> None:
    """Steps of eight voxels only take aligned images apart; the next level begins where this one did."""
    where = phantoms.grid(SPACINGS["isotropic"])
    same = volume(where)
    levels = (Level(2, 4), Level(1, 1))
    _, (coarse, fine) = optimise(same, same, STILL, replace(settings(where), stride=8.0, levels=levels))
    assert max(coarse.similarity[1:]) < 0.9 * coarse.similarity[0]
    _, (alone,) = optimise(same, same, STILL, replace(settings(where), stride=8.0, levels=levels[1:]))
    assert fine.similarity == alone.similarity


def test_a_smoother_field_is_asked_for_in_mm() -> None:
    where = phantoms.grid((3.0, 3.0, 3.0))
    rough, smooth = (optimise(*noise(where), STILL, settings(where, smoothness=mm))[0] for mm in (6.0, 18.0))
    spread = [float((tetrahedron_determinants(field) / 2).clamp(min=1e-3).log().std()) for field in (rough, smooth)]
    assert spread[1] < 0.9 * spread[0]


def test_images_that_match_are_soon_left_alone() -> None:
    where = phantoms.grid()
    field, records = optimise(volume(where), volume(where), STILL, settings(where))
    assert error(field, lambda x: x) < 2.5 / 3, "a third of a voxel"
    assert all(record.converged for record in records)
    assert all(record.steps <= 2 * settings(where).patience + 5 for record in records)


def test_a_level_without_time_says_that_it_did_not_converge() -> None:
    where = phantoms.grid()
    hurried = settings(where)
    hurried = replace(hurried, levels=tuple(replace(level, steps=3) for level in hurried.levels))
    _, records = optimise(volume(where, waves), volume(where), STILL, hurried)
    assert not any(record.converged for record in records)
    assert all(record.steps == 3 for record in records)


def test_the_record_tells_each_level_from_coarse_to_fine() -> None:
    _, records = found("anisotropic")
    first, last = records[0], records[-1]
    np.testing.assert_allclose(last.spacing, SPACINGS["anisotropic"])
    assert all(a >= b for a, b in zip(first.spacing, last.spacing, strict=True))
    assert all(len(record.similarity) == record.steps for record in records)
    assert all(max(record.similarity) > record.similarity[0] for record in records)


def test_a_slice_moves_within_its_plane_alone() -> None:
    full = phantoms.grid((2.0, 2.0, 2.0))
    where = full.box((0, 0, full.shape[2] // 2), (*full.shape[:2], full.shape[2] // 2 + 1))

    def flat(points: np.ndarray) -> np.ndarray:
        return np.concatenate([waves(points)[..., :2], points[..., 2:]], axis=-1)

    field, _ = optimise(volume(where, flat), volume(where), STILL, settings(where))
    assert (field.displacement[2] == 0).all()
    inside = phantoms.nodes(where)[phantoms.inside(flat(phantoms.nodes(where))) > 0.5]
    before = np.linalg.norm(flat(inside) - inside, axis=-1).mean()
    assert np.linalg.norm(flat(inside) - field.map_points(inside), axis=-1).mean() < 0.5 * before


def test_a_field_can_be_refined_further() -> None:
    where = phantoms.grid(SPACINGS["isotropic"])
    field, _ = found()
    last = replace(settings(where), levels=settings(where).levels[-1:])
    finer, _ = optimise(volume(where, waves), volume(where), STILL, last, initial=field)
    assert error(finer) < 0.5 * error(None)


def test_a_start_is_only_where_to_begin_and_a_prior_is_held() -> None:
    where = phantoms.grid((2.0, 2.0, 2.0))
    motion = torch.from_numpy(np.sin(phantoms.nodes(where) / 3)).float().permute(3, 0, 1, 2).contiguous()
    given = DenseField(motion, where)
    empty = Volume(torch.zeros(where.shape), where)  # nothing to see: regularisation alone is at work
    begun, held = (
        optimise(empty, empty, STILL, Settings((Level(1, 10),), smoothness=12.0), initial=given, prior=prior)[0]
        for prior in (None, given)
    )
    points = phantoms.nodes(where.box((8,) * 3, tuple(n - 8 for n in where.shape))).reshape(-1, 3)
    moved, begun_at, held_at = (field.map_points(points) - points for field in (given, begun, held))
    np.testing.assert_allclose(held_at, moved, atol=0.1)
    assert np.square(begun_at).mean() < 0.5 * np.square(moved).mean()


def test_the_same_call_gives_the_same_bits() -> None:
    where = phantoms.grid((4.0, 4.0, 4.0))
    first, second = (optimise(volume(where, waves), volume(where), STILL, settings(where))[0] for _ in range(2))
    assert torch.equal(first.displacement, second.displacement)


def test_the_similarity_rises_by_the_field() -> None:
    where = phantoms.grid(SPACINGS["isotropic"])
    chains = {"before": Chain(), "after": Chain((found()[0],))}
    for name in ("lncc", "mi", "mse"):
        scores = similarity_of(volume(where, waves), volume(where), name, chains)  # type: ignore[arg-type]
        assert scores["after"] > scores["before"]


def test_progress_counts_to_the_end() -> None:
    seen: list[tuple[str, int, int]] = []
    where = phantoms.grid((4.0, 4.0, 4.0))
    optimise(volume(where), volume(where), STILL, settings(where), progress=lambda *each: seen.append(each))
    done = [each[1] for each in seen]
    assert done == sorted(done)
    assert seen[-1][1] == seen[-1][2]


def test_where_the_fixed_image_has_an_empty_margin_its_border_stays_at_rest() -> None:
    roomy, tight = phantoms.grid(extent=78.0), phantoms.grid(extent=40.0)
    for where, rests in ((roomy, True), (tight, False)):
        field, _ = optimise(volume(where, waves), volume(roomy), STILL, settings(where))
        border = np.linalg.norm(field.map_points(where.corners) - where.corners, axis=-1)
        assert (border.max() < 0.2) == rests
