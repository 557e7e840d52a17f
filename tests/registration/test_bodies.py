"""Parts that do not bend: rigid bodies, and excluded regions that are rigid or keep their volume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import phantoms
import pytest
import torch
from scipy.spatial.transform import Rotation

import maxca
from maxca import MaxcaError, Result
from maxca.cli.main import main
from maxca.engine.bodies import fitted
from maxca.fields import OptionError
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io.images import Image
from maxca.options import RegistrationOptions
from maxca.registration.bodies import bodies_of

QUICK: dict[str, Any] = {"effort": "fast", "model": "none", "threads": 1}
WHERE = phantoms.grid()
CENTRE = np.array([8.0, 0.0, 0.0])
REACH = 9.0
TURN = Rotation.from_rotvec([8, -12, 14], degrees=True).as_matrix()
SHIFT = np.array([4.0, -3.0, 2.0])
BENT = 0.05  # voxels


def truth(points: np.ndarray) -> np.ndarray:
    """A rigid motion within 10 mm of the centre of the body, a bend beyond 20 mm, and smooth between."""
    apart = np.clip((20 - np.linalg.norm(points - CENTRE, axis=-1)[..., None]) / 10, 0, 1)
    share = apart * apart * (3 - 2 * apart)
    return share * ((points - CENTRE) @ TURN.T + CENTRE + SHIFT) + (1 - share) * phantoms.bend(points)


def ball(where: Grid = WHERE, centre: np.ndarray = CENTRE, reach: float = REACH) -> np.ndarray:
    return np.linalg.norm(phantoms.nodes(where) - centre, axis=-1) < reach


def marked(voxels: np.ndarray, where: Grid = WHERE) -> Image:
    return Image(voxels.astype(np.uint8), where, Path("bodies.nii.gz"))


def departure(chain: Chain, points: np.ndarray) -> float:
    """Largest distance from the best rigid motion, computed by SciPy."""
    ends = chain.map_points(points)
    turn, _ = Rotation.align_vectors(ends - ends.mean(axis=0), points - points.mean(axis=0))
    moved = turn.apply(points - points.mean(axis=0)) + ends.mean(axis=0)
    return float(np.linalg.norm(moved - ends, axis=1).max())


FIXED, MOVING = phantoms.image(WHERE, truth), phantoms.image(WHERE)


@pytest.fixture(scope="module")
def found() -> Result:
    return maxca.register(FIXED, MOVING, **QUICK, rigid=marked(ball()))


def test_a_body_is_rigid_between_its_voxels_too_and_the_map_is_invertible(found: Result) -> None:
    random = np.random.default_rng(0).uniform(-REACH, REACH, (4000, 3))
    inside = CENTRE + random[np.linalg.norm(random, axis=1) < REACH]
    assert departure(found.chain, inside) < BENT * 2.5
    assert found.metrics.folding.ndv_percent == 0 and found.metrics.inverse_consistency_mm.max < 2.5
    (motion,) = found.metrics.bodies.values()
    assert motion.kind == "rigid" and motion.departure_voxels < BENT
    assert motion.mapped_ml == pytest.approx(motion.ml, rel=1e-4)


def test_its_motion_is_found_better_than_without(found: Result) -> None:
    free = maxca.register(FIXED, MOVING, **QUICK)
    inside = phantoms.nodes(WHERE)[ball()]
    held, bent = (
        np.linalg.norm(each.chain.map_points(inside) - truth(inside), axis=1).mean() for each in (found, free)
    )
    assert held < 0.7 * bent and departure(free.chain, inside) > 0.5
    (motion,) = found.metrics.bodies.values()
    degrees = np.degrees(np.linalg.norm(Rotation.from_matrix(TURN).as_rotvec()))
    assert motion.degrees == pytest.approx(degrees, abs=3)


def halves() -> np.ndarray:
    points = phantoms.nodes(WHERE)
    return np.where(phantoms.inside(phantoms.bend(points)) > 0.5, 1 + (points[..., 0] > 0), 0)


def border() -> np.ndarray:
    slab = np.zeros(WHERE.shape, int)
    slab[:5] = 1
    slab[-3:, -3:, -3:] = 2  # outside the content
    return slab


@pytest.mark.parametrize("labels", [halves(), border()], ids=["touching", "at the border"])
def test_several_bodies_are_each_rigid(labels: np.ndarray) -> None:
    result = maxca.register(FIXED, MOVING, **QUICK, rigid=marked(labels))
    assert [each.departure_voxels < BENT for each in result.metrics.bodies.values()] == [True, True]
    assert result.metrics.folding.ndv_percent == 0
    turned = [each.degrees for each in result.metrics.bodies.values()]
    assert abs(turned[0] - turned[1]) > 0.5


@pytest.mark.parametrize("side", ["fixed", "moving"])
@pytest.mark.parametrize("kind", ["volume", "rigid"])
def test_what_is_excluded_keeps_its_volume_or_its_shape(side: str, kind: str) -> None:
    scaled = phantoms.image(WHERE, lambda points: 1.2 * phantoms.bend(points))
    region = marked(ball(reach=8.0))
    result = maxca.register(scaled, MOVING, **QUICK, **{f"{side}_exclude": region}, exclude_as=kind)
    change = result.metrics.excluded[side]
    assert change.mapped_ml == pytest.approx(change.ml, rel=0.01)
    (motion,) = result.metrics.bodies.values()
    assert motion.kind == kind and motion.departure_voxels < BENT
    if kind == "volume":
        free = maxca.register(scaled, MOVING, **QUICK, **{f"{side}_exclude": region}).metrics.excluded[side]
        assert abs(free.mapped_ml / free.ml - 1) > 0.2


def test_oblique_thick_slices_and_sheared_axes() -> None:
    turn = Rotation.from_rotvec([20, -35, 50], degrees=True).as_matrix()
    oblique = np.eye(4)
    oblique[:3, :3] = turn @ np.diag([2.0, 2.0, 4.5])
    oblique[:3, 3] = -oblique[:3, :3] @ [15.5, 15.5, 7]
    sheared = WHERE.affine.copy()
    sheared[0, 1] += 0.6
    for where in (Grid((32, 32, 15), oblique), Grid(WHERE.shape, sheared)):
        labels = marked(ball(where), where)
        result = maxca.register(phantoms.image(where, truth), MOVING, **QUICK, rigid=labels)
        inside = where.to_world(np.argwhere(ball(where)))
        assert departure(result.chain, inside) < BENT * where.smallest_spacing
        assert result.metrics.folding.ndv_percent == 0


def test_a_disk_of_a_2d_image_turns_in_its_plane() -> None:
    affine = np.diag([1.0, 1.0, 4.0, 1.0])
    affine[:3, 3] = -29.5, -29.5, 0
    where = Grid((60, 60, 1), affine)
    disk = np.linalg.norm(phantoms.nodes(where)[..., :2] - CENTRE[:2], axis=-1) < REACH
    images = phantoms.image(where, phantoms.bend), phantoms.image(where)
    for given in ({"rigid": marked(disk, where)}, {"fixed_exclude": marked(disk, where), "exclude_as": "volume"}):
        result = maxca.register(*images, **QUICK, **given)
        (motion,) = result.metrics.bodies.values()
        assert motion.departure_voxels < BENT and motion.mapped_ml == pytest.approx(motion.ml, rel=0.005)
        inside = phantoms.nodes(where)[disk]
        assert not (result.chain.map_points(inside) - inside)[:, 2].any()


def test_guides_pull_a_body_as_a_whole() -> None:
    inside = CENTRE + np.random.default_rng(1).uniform(-4, 4, (6, 3))
    flat = replace(FIXED, data=np.where(ball(), 400, FIXED.data).astype(np.int16))
    points = {"fixed_points": inside, "moving_points": truth(inside), "guide": ["points"]}
    result = maxca.register(flat, MOVING, **QUICK, **points, rigid=marked(ball()))
    (motion,) = result.metrics.bodies.values()
    assert motion.departure_voxels < BENT
    error = np.linalg.norm(result.chain.map_points(inside) - truth(inside), axis=1)
    assert error.mean() < 1.5


def test_a_volume_preserving_fit_has_determinant_1_and_a_rigid_one_is_a_rotation() -> None:
    points = np.random.default_rng(0).normal(size=(50, 3))
    linear = np.array([[1.4, 0.2, 0.0], [0.0, 0.9, 0.1], [0.1, 0.0, 1.1]])
    for kind, size in (("volume", 1.0), ("rigid", 1.0)):
        found = fitted(points, points @ linear.T + [1, 2, 3], kind).matrix  # type: ignore[arg-type]
        assert np.linalg.det(found[:3, :3]) == pytest.approx(size)
    rigid = fitted(points, points @ TURN.T + SHIFT, "rigid").matrix
    assert np.allclose(rigid[:3, :3], TURN) and np.allclose(rigid[:3, 3], SHIFT)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.zeros(WHERE.shape, np.uint8), "marks no rigid body"),
        (np.ones(WHERE.shape, np.uint8), "covers all of .*use transform=rigid"),
        (np.eye(26, dtype=np.uint8)[:, :, None] * (np.arange(26) == 3), "26 voxels on a line"),
        (ball(reach=2.0).astype(np.uint8), "voxels, too few for a motion"),
        (ball() * 0.5, "labels must be integers"),
        (-ball().astype(np.int16), "contains the label -1"),
    ],
)
def test_other_labels_are_refused(labels: np.ndarray, said: str) -> None:
    with pytest.raises(MaxcaError, match=said):
        maxca.register(FIXED, MOVING, **QUICK, rigid=Image(labels, WHERE))


def test_bodies_that_touch_are_set_apart() -> None:
    labels, warnings = bodies_of(marked(halves()), FIXED)
    assert "1, 2 touch or nearly do" in warnings[0]
    near = [np.argwhere(labels == name)[:, 0] for name in (1, 2)]
    assert near[1].min() - near[0].max() == 5
    alone = bodies_of(marked(ball()), FIXED)
    assert alone.warnings == () and np.array_equal(alone.labels, ball())


FIELD = Chain((DenseField(torch.zeros(3, *WHERE.shape), WHERE),))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"transform": "affine"}, "use transform=deformable, not affine"),
        ({"transform": "rigid"}, "use transform=deformable, not rigid"),
        ({"restrict": "0x1x0"}, "cannot be combined with restrict=0x1x0"),
        ({"preset": "longitudinal"}, "cannot be combined with preset=longitudinal"),
        ({"initial_transform": FIELD}, "needs an affine initial transform"),
        ({"fixed_exclude": marked(ball()), "exclude_as": "rigid"}, "overlap"),
        ({"exclude_as": "volume"}, "nothing is excluded"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        maxca.register(FIXED, MOVING, **QUICK | options, rigid=marked(ball()))


@pytest.mark.parametrize("other", [{"transform": "affine"}, {"restrict": "1x0x0"}, {"preset": "longitudinal"}])
def test_a_filling_is_for_a_free_deformation(other: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=r"is for a free deformation|not supported with preset"):
        RegistrationOptions(exclude_as="volume", **other)


def test_an_affine_initial_transform_is_accepted() -> None:
    shift = np.eye(4)
    shift[:3, 3] = SHIFT
    start = Chain((Affine(shift),))
    result = maxca.register(FIXED, MOVING, **QUICK, rigid=marked(ball()), initial_transform=start)
    assert result.metrics.bodies["1"].departure_voxels < BENT


def test_the_report_and_the_verdict_have_the_motion(tmp_path: Path) -> None:
    files = {"fixed": FIXED, "moving": MOVING, "rigid": marked(3 * ball())}
    words = [
        word
        for name, image in files.items()
        for word in (f"--{name}", str(phantoms.save(tmp_path / f"{name}.nii.gz", image)))
    ]
    out, quick = tmp_path / "out", ["--effort", "fast", "--model", "none", "--threads", "1"]
    assert main(["register", *words, "-o", str(out), "--report", *quick]) == 0
    record = Result.load(out).record
    assert list(record.metrics.bodies) == ["3"] and "rigid" in record.inputs
    page = (out / "report.html").read_text()
    assert "Parts that do not bend" in page and "departs from the motion of each part" in page
    assert "--rigid" in (record.command or "")
    (tmp_path / "rigid.nii.gz").rename(tmp_path / "elsewhere.nii.gz")
    assert main(["report", str(out)]) == 1
    assert main(["report", str(out), "--rigid", str(tmp_path / "elsewhere.nii.gz")]) == 0
