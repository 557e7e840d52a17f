"""Landmarks start and guide a registration; wrong ones are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import phantoms
import pytest
from scipy.spatial.transform import Rotation

import maxca
from maxca import MaxcaError, Result
from maxca.cli.main import main
from maxca.fields import OptionError
from maxca.io.points import Points, write_points

QUICK: dict[str, Any] = {"effort": "fast", "model": "none", "threads": 1}
WHERE = phantoms.grid((3.0, 3.0, 3.0))
TURN = Rotation.from_rotvec([100, 80, 40], degrees=True).as_matrix()
PLACES = np.array([[15.0, 0, 0], [-12, 4, 3], [0, 15, -4], [2, -14, 5], [-4, 3, 15], [6, -5, -13]])


def turned(points: np.ndarray) -> np.ndarray:
    """The bend, then a turn that no search finds."""
    return phantoms.bend(points) @ TURN.T


def pair(through: phantoms.Map = turned) -> dict[str, Any]:
    return {"fixed": phantoms.image(WHERE, through), "moving": phantoms.image(WHERE)}


def points(moving: np.ndarray | None = None) -> dict[str, np.ndarray]:
    return {"fixed_points": PLACES, "moving_points": turned(PLACES) if moving is None else moving}


@pytest.fixture(scope="module")
def guided() -> Result:
    return maxca.register(**pair(), **points(), **QUICK, guide=["points"])


def test_six_landmarks_rescue_a_turned_image(guided: Result) -> None:
    lost = maxca.register(**pair(), **QUICK, search="off")
    assert phantoms.error(lost.chain, turned) > 10
    assert phantoms.error(guided.chain, turned) < 1.5  # half a voxel
    assert guided.metrics.folding.ndv_percent == 0


def test_the_record_names_the_landmarks(guided: Result, tmp_path: Path) -> None:
    (record,) = guided.record.guidance
    assert (record.kind, record.used, record.suspected) == ("points", ["1", "2", "3", "4", "5", "6"], [])
    assert guided.metrics.tre_mm_after is not None and guided.metrics.tre_mm_after.mean < 3
    guided.save(tmp_path / "out")
    assert Result.load(tmp_path / "out").record.guidance == guided.record.guidance


def test_a_wrong_landmark_is_named_and_does_no_harm() -> None:
    wrong = turned(PLACES)
    wrong[2] = turned(PLACES[:1] * -1)
    found = maxca.register(**pair(), **points(wrong), **QUICK, guide=["points"])
    assert phantoms.error(found.chain, turned) < 1.5
    assert found.record.guidance[0].suspected == ["3"]
    assert any("landmarks that may be wrong" in line and "the others: 3;" in line for line in found.record.warnings)


def test_landmarks_start_a_rigid_registration() -> None:
    """Of an image that is only turned."""
    images = pair(lambda points: points @ TURN.T)
    found = maxca.register(**images, **points(PLACES @ TURN.T), **QUICK, transform="rigid", guide=["points"])
    assert phantoms.error(found.chain, lambda points: points @ TURN.T) < 1.0
    np.testing.assert_allclose(found.chain.as_affine().matrix[:3, :3], TURN, atol=0.05)


def test_an_initial_transform_comes_before_the_landmarks(guided: Result) -> None:
    found = maxca.register(**pair(), **points(), **QUICK, guide=["points"], initial_transform=guided.chain)
    assert phantoms.error(found.chain, turned) < 1.5


def test_many_landmarks_are_as_few() -> None:
    random = np.random.default_rng(2)
    many = random.uniform(-15, 15, (10_000, 3))
    ends = turned(many) + random.normal(0, 1, many.shape)
    found = maxca.register(**pair(), fixed_points=many, moving_points=ends, **QUICK, guide=["points"])
    assert phantoms.error(found.chain, turned) < 1.5


def test_two_landmarks_pull_but_do_not_start() -> None:
    images = pair(phantoms.bend)
    two = {"fixed_points": PLACES[:2], "moving_points": phantoms.bend(PLACES[:2])}
    found = maxca.register(**images, **two, **QUICK, guide=["points"])
    assert any("does not start from the landmarks" in line for line in found.record.warnings)
    assert found.metrics.tre_mm_after is not None and found.metrics.tre_mm_after.mean < 3


@pytest.mark.parametrize("given", ["fixed_points", "moving_points", None])
def test_points_on_one_side_cannot_guide(given: str | None) -> None:
    with pytest.raises(OptionError, match="guide=points: needs points of both images, fixed_points and moving_points"):
        maxca.register(**pair(), **({given: PLACES} if given else {}), **QUICK, guide=["points"])


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (("1",) * 5 + ("much",), "not a number"),
        (("1",) * 5 + ("-1",), "below 0"),
        (("0",) * 6, "all points have the weight 0"),
    ],
)
def test_weights_are_numbers_from_0_up(cells: tuple[str, ...], said: str) -> None:
    fixed = Points(PLACES, columns=(("weight", cells),))
    with pytest.raises(MaxcaError, match=said):
        maxca.register(**pair(), **points() | {"fixed_points": fixed}, **QUICK, guide=["points"])


def test_the_command_line_guides_by_weighted_points_and_the_report_marks_wrong_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("a", "b", "c", "d", "e", "f")
    wrong = turned(PLACES)
    wrong[2] = turned(PLACES[:1] * -1)
    weights = (("weight", ("1", "2", "1", "1", "0.5", "1")),)
    words = []
    for side, coordinates in (("fixed", PLACES), ("moving", wrong)):
        write_points(Points(coordinates, names, weights), tmp_path / f"{side}.csv")
        image = phantoms.save(tmp_path / f"{side}.nii.gz", pair()[side])
        words += [f"--{side}", str(image), f"--{side}-points", str(tmp_path / f"{side}.csv")]
    out = ["-o", str(tmp_path / "out"), "--effort", "fast", "--model", "none", "--threads", "1"]
    assert main(["register", *words, *out, "--guide", "points", "--report"]) == 0
    said = capsys.readouterr()
    assert "guided by 6 points" in said.out and "the others: c; inspect" in said.err
    page = (tmp_path / "out" / "report.html").read_text()
    assert "c (may be wrong)" in page and "These points guided the registration" in page
    again = Result.load(tmp_path / "out").record.command
    assert again is not None and "--guide points" in again
