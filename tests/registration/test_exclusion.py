"""An excluded region changes nothing around it, and its volume is reported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import phantoms
import pytest
import torch

import maxca
from maxca import MaxcaError, Result
from maxca.cli.main import main
from maxca.geometry import Affine, Chain, Grid
from maxca.io.images import Image
from maxca.registration.exclusion import filled, region_of, volumes_ml
from maxca.registration.inputs import read_side

QUICK: dict[str, Any] = {"effort": "fast", "model": "none", "threads": 1}
WHERE = phantoms.grid()
CENTRE = np.array([10.0, 0.0, 0.0])
REACH = 8.0


def ball(where: Grid = WHERE, reach: float = REACH) -> np.ndarray:
    return np.linalg.norm(phantoms.nodes(where) - CENTRE, axis=-1) < reach


def marked(where: Grid = WHERE, **kind: Any) -> Image:
    return Image(ball(where, **kind).astype(np.uint8), where, Path("lesion.nii.gz"))


def lesioned(image: Image) -> Image:
    return replace(image, data=np.where(ball(image.grid), 1500, image.data).astype(np.int16))


FIXED, MOVING = phantoms.image(WHERE, phantoms.bend), phantoms.image(WHERE)


def errors(chain: Chain, centre_in_moving: bool, truth: phantoms.Map = phantoms.bend) -> tuple[float, float]:
    """Mean error in mm within 6 mm around the lesion, and inside it."""
    points = phantoms.nodes(WHERE).reshape(-1, 3)
    there = truth(points)
    apart = np.linalg.norm((there if centre_in_moving else points) - CENTRE, axis=-1)
    wrong = np.linalg.norm(chain.map_points(points) - there, axis=-1)
    around = (apart > REACH) & (apart < REACH + 6) & (phantoms.inside(there) > 0.5)
    return float(wrong[around].mean()), float(wrong[apart < REACH].mean())


@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_what_is_excluded_disturbs_neither_its_surroundings_nor_itself(side: str) -> None:
    images = {"fixed": FIXED, "moving": MOVING}
    images[side] = lesioned(images[side])
    alike = {**QUICK, "similarity": "lncc"}  # the lesion alone would make it another, which suffers less
    with_it = errors(maxca.register(**images, **alike).chain, side == "moving")
    without = maxca.register(**images, **alike, **{f"{side}_exclude": marked()})
    left = errors(without.chain, side == "moving")
    assert left[0] < 0.7 * with_it[0] and left[1] < 0.6 * with_it[1]
    assert list(without.metrics.excluded) == [side]
    assert without.metrics.excluded[side].ml == pytest.approx(ball().sum() * 2.5**3 / 1000)


def turned_inside(points: np.ndarray) -> np.ndarray:
    """A bend that is a rotation and a shift within 14 mm of the lesion."""
    away = points - CENTRE
    near = np.clip((22 - np.linalg.norm(away, axis=-1, keepdims=True)) / 8, 0, 1)
    turn = np.array([[0, -0.08, 0.0], [0.08, 0, 0.05], [0.0, -0.05, 0]])
    return (1 - near) * phantoms.bend(points) + near * (points + away @ turn.T + [3.0, -2.0, 1.0])


@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_a_region_moves_as_its_surroundings_do(side: str) -> None:
    images = {"fixed": phantoms.image(WHERE, turned_inside), "moving": MOVING}
    images[side] = lesioned(images[side])
    found = maxca.register(**images, **QUICK, **{f"{side}_exclude": marked()})
    change = found.metrics.excluded[side]
    assert change.mapped_ml == pytest.approx(change.ml, rel=0.1)
    assert (
        errors(found.chain, side == "moving", turned_inside)[1] < 0.42
    )  # mm; 0.5 by the smoothness of the field alone


def test_a_disk_of_a_2d_image_is_filled_from_around_it() -> None:
    affine = np.diag([1.0, 1.0, 4.0, 1.0])
    affine[:3, 3] = -29.5, -29.5, 0
    where = Grid((60, 60, 1), affine)
    image = phantoms.image(where)
    disk = np.linalg.norm(phantoms.nodes(where)[..., :2] - CENTRE[:2], axis=-1) < REACH
    region = region_of(disk, image, torch.device("cpu"), moving=False)
    assert region is not None and region.reach == pytest.approx(REACH / 3, abs=0.5)
    assert not (region.shape.values * region.shell.values).any()
    assert 0.25 * np.pi * 3 * REACH**2 < region.shell.values.sum() < 2 * np.pi * 3 * REACH**2


def test_an_artefact_does_not_move_the_rigid_transform() -> None:
    shift = np.eye(4)
    shift[:3, 3] = 4, -3, 2
    there = Affine(shift).map_points
    fixed = phantoms.image(WHERE, there)
    metal = ball(reach=16.0)
    moving = replace(MOVING, data=np.where(metal, 4000, MOVING.data).astype(np.int16))
    fixed = replace(fixed, data=np.where(metal, 4000, fixed.data).astype(np.int16))  # it does not move with the rest
    both = {f"{side}_exclude": marked(reach=17.0) for side in ("fixed", "moving")}
    told, untold = (
        maxca.register(fixed, moving, **QUICK, transform="rigid", **given).chain.as_affine() for given in (both, {})
    )
    off, without = (np.linalg.norm(each.matrix[:3, 3] - shift[:3, 3]) for each in (told, untold))
    assert off < 0.5 and off < 0.5 * without


def test_volumes_are_those_of_the_map() -> None:
    shrunk = np.diag([0.8, 0.9, 1.1, 1.0])
    before, after = volumes_ml(ball(), WHERE, Chain((Affine(shrunk),)))
    assert before == pytest.approx(ball().sum() * 2.5**3 / 1000)
    assert after == pytest.approx(before * 0.8 * 0.9 * 1.1, rel=1e-5)


def test_excluded_voxels_get_the_value_of_the_nearest_other_one() -> None:
    values = np.zeros((5, 5, 5), np.float32)
    values[0], values[:, 0] = 1, 2
    hole = np.zeros(values.shape, bool)
    hole[1, 1, 2] = True
    values[1, 1, 2] = 99
    for spacing, expected in (((1.0, 3.0, 3.0), 1), ((3.0, 1.0, 3.0), 2)):
        got = filled(values, hole, np.array(spacing))
        assert got[1, 1, 2] == expected and np.array_equal(got[~hole], values[~hole])
    assert filled(values, None, np.ones(3)) is values


def test_a_mask_and_an_exclusion_add_up() -> None:
    half = Image((phantoms.nodes(WHERE)[..., 0] > 0).astype(np.uint8), WHERE)
    side = read_side("fixed", FIXED, mask=half, exclude=marked())
    assert np.array_equal(side.compared, (half.data > 0) & ~ball())
    assert np.array_equal(side.mask, half.data > 0) and read_side("fixed", FIXED).compared is None


def test_another_grid_is_resampled_and_one_elsewhere_is_refused() -> None:
    coarse = phantoms.grid((4.0, 4.0, 5.0), flips="ik")
    side = read_side("fixed", FIXED, exclude=marked(coarse))
    assert side.excluded is not None and "resampled by nearest neighbour" in " ".join(side.warnings)
    assert np.count_nonzero(side.excluded != ball()) < 0.6 * ball().sum()
    moved = WHERE.affine.copy()
    moved[:3, 3] += 30
    with pytest.raises(MaxcaError, match="fixed exclusion has the voxels of its image"):
        read_side("fixed", FIXED, exclude=Image(ball().astype(np.uint8), Grid(WHERE.shape, moved)))


@pytest.mark.parametrize(
    ("region", "said"),
    [
        (np.zeros(WHERE.shape, np.uint8), "marks no voxel to exclude"),
        (np.ones(WHERE.shape, np.uint8), "excludes everything"),
        ((FIXED.data > 0).astype(np.uint8), "excludes everything"),
    ],
)
def test_a_region_that_excludes_nothing_or_everything_is_refused(region: np.ndarray, said: str) -> None:
    with pytest.raises(MaxcaError, match=said):
        maxca.register(FIXED, MOVING, **QUICK, fixed_exclude=Image(region, WHERE))


def test_a_region_that_leaves_too_little_of_the_mask_is_refused() -> None:
    with pytest.raises(MaxcaError, match="voxels inside its mask, too few to register"):
        read_side("moving", MOVING, mask=marked(), exclude=marked())


def test_a_region_that_seems_inverted_or_is_a_probability_gives_a_warning() -> None:
    inverted = Image((~ball()).astype(np.uint8), WHERE)
    assert "invert it if necessary" in " ".join(read_side("fixed", FIXED, exclude=inverted).warnings)
    soft = Image(ball().astype(np.float32) / 3, WHERE)
    assert "have fractions" in " ".join(read_side("fixed", FIXED, exclude=soft).warnings)
    assert read_side("fixed", FIXED, exclude=marked()).warnings == ()


def test_a_slice_may_have_a_lesion() -> None:
    where = Grid((60, 60, 1), np.diag([1.0, 1.0, 4.0, 1.0]))
    centred = where.affine.copy()
    centred[:3, 3] = -29.5, -29.5, 0
    where = Grid(where.shape, centred)
    fixed, moving = phantoms.image(where, phantoms.bend), lesioned(phantoms.image(where))
    found = maxca.register(fixed, moving, **QUICK, moving_exclude=marked(where))
    assert found.metrics.excluded["moving"].mapped_ml > 0


def test_the_report_shows_the_region_and_its_volume(tmp_path: Path) -> None:
    files = {"fixed": FIXED, "moving": lesioned(MOVING), "moving-exclude": marked()}
    words = [
        word
        for name, image in files.items()
        for word in (f"--{name}", str(phantoms.save(tmp_path / f"{name}.nii.gz", image)))
    ]
    out = tmp_path / "out"
    quick = ["--effort", "fast", "--model", "none", "--threads", "1"]
    assert main(["register", *words, "-o", str(out), "--report", *quick]) == 0
    record = Result.load(out).record
    assert "moving_exclude" in record.inputs and record.metrics.excluded["moving"].ml > 2
    page = (out / "report.html").read_text()
    assert "Excluded regions" in page and f"{record.metrics.excluded['moving'].mapped_ml:.3g}" in page
    (tmp_path / "moving-exclude.nii.gz").rename(tmp_path / "elsewhere.nii.gz")
    assert main(["report", str(out)]) == 1
    assert main(["report", str(out), "--moving-exclude", str(tmp_path / "elsewhere.nii.gz")]) == 0
