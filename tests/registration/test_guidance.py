"""Labels and landmarks of the user guide a registration, and what cannot guide is refused or ignored aloud."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import phantoms
import pytest
import torch

import maxca
from maxca import Result
from maxca.cli.main import main
from maxca.engine.settings import Level, Settings
from maxca.fields import OptionError
from maxca.geometry import Affine, Chain, Grid
from maxca.io.images import Image
from maxca.options import RegistrationOptions
from maxca.registration import guidance as room
from maxca.registration.inputs import Side

WHERE = phantoms.grid((3.0, 3.0, 3.0))
QUICK: dict[str, Any] = {"effort": "fast", "model": "none", "threads": 1}
START: dict[str, Any] = {**QUICK, "initial_transform": Chain((Affine.identity(),))}


def hidden(points: np.ndarray) -> np.ndarray:
    """Labels 1 to 4: quarters of the ball, but they meet 5 mm farther along x."""
    quarter = 1 + (points[..., 0] > 8) + 2 * (points[..., 1] > -2)
    return np.where(phantoms.inside(points) > 0.5, quarter, 0)


def plain(points: np.ndarray) -> np.ndarray:
    """A ball without texture."""
    return np.where(phantoms.inside(points) > 0.5, 500, 0)


def regions(points: np.ndarray) -> np.ndarray:
    return phantoms.regions(points)


def shown(what: phantoms.Map, where: Grid = WHERE) -> Image:
    return replace(phantoms.image(where, what=what), warnings=())


def pair(**labels: Image) -> dict[str, Any]:
    return {
        "fixed": shown(plain),
        "moving": shown(plain),
        "fixed_labels": shown(hidden),
        "moving_labels": shown(regions),
    } | labels


def gained(found: Result) -> float:
    """The share of the missing overlap that was gained."""
    before, after = found.metrics.dice_before, found.metrics.dice_after
    assert before is not None and after is not None and before.mean is not None and after.mean is not None
    return (after.mean - before.mean) / (1 - before.mean)


@pytest.fixture(scope="module")
def guided() -> Result:
    return maxca.register(**pair(), **START, guide=["labels"])


def test_labels_move_what_the_images_do_not_show(guided: Result) -> None:
    assert gained(maxca.register(**pair(), **START)) < 0.05
    assert gained(guided) > 0.4
    assert guided.metrics.folding.ndv_percent == 0


def test_the_record_names_the_labels_and_repeats(guided: Result, tmp_path: Path) -> None:
    (record,) = guided.record.guidance
    assert (record.kind, record.used, record.ignored) == ("labels", ["1", "2", "3", "4"], [])
    assert guided.record.settings.guide == ("labels",)
    guided.save(tmp_path / "out")
    again = Result.load(tmp_path / "out")
    assert again.record.guidance == guided.record.guidance and again.record.settings.guide == ("labels",)


@pytest.mark.parametrize(
    "where", [phantoms.grid((2.0, 3.0, 4.0), flips="ik"), phantoms.grid((2.0, 2.0, 2.0), extent=58.0)]
)
def test_labels_may_have_a_grid_of_their_own(where: Grid) -> None:
    found = maxca.register(**pair(moving_labels=shown(regions, where)), **START, guide="labels")
    assert gained(found) > 0.4


def test_values_of_labels_do_not_matter(guided: Result) -> None:
    def renamed(labels: Image) -> Image:
        return replace(labels, data=np.array([0, 7, 2**31 + 5, 2**40, 2**52])[labels.data])

    both = {f"{side}_labels": renamed(pair()[f"{side}_labels"]) for side in ("fixed", "moving")}
    found = maxca.register(**pair(**both), **START, guide="labels")
    points = phantoms.nodes(WHERE).reshape(-1, 3)
    np.testing.assert_array_equal(found.chain.map_points(points), guided.chain.map_points(points))


def only(labels: Image, *kept: int) -> Image:
    return replace(labels, data=np.where(np.isin(labels.data, kept), labels.data, 0).astype(labels.data.dtype))


def test_labels_of_one_image_alone_are_ignored_with_a_warning() -> None:
    """A fixed image with all labels and a moving one with a single label are as two with a single label."""
    few = {f"{side}_labels": only(pair()[f"{side}_labels"], 1) for side in ("fixed", "moving")}
    expected = maxca.register(**pair(**few), **START, guide="labels")
    found = maxca.register(**pair(moving_labels=few["moving_labels"]), **START, guide="labels")
    points = phantoms.nodes(WHERE).reshape(-1, 3)
    np.testing.assert_array_equal(found.chain.map_points(points), expected.chain.map_points(points))
    assert found.record.guidance[0].ignored == ["2", "3", "4"]
    assert any("labels of one image alone do not guide: 2, 3, 4" in line for line in found.record.warnings)
    assert expected.record.guidance[0].ignored == [] and not any("do not guide" in w for w in expected.record.warnings)


def test_a_label_that_others_cover_in_the_other_image_is_unknown_there() -> None:
    """A lesion of the fixed image, where the moving one has a quarter of the ball, and then where it has nothing."""
    lesion = np.linalg.norm(phantoms.nodes(WHERE) - np.array([14.0, 10.0, 0.0]), axis=-1) < 6
    fixed = replace(shown(regions), data=np.where(lesion, 9, shown(regions).data))
    for moving, unknown in ((shown(regions), True), (only(shown(regions), 1), False)):
        sides = (Side(each, labels=each.data) for each in (fixed, moving))
        guidance = room.read_guidance(("labels",), *sides)
        (guide,) = guidance.terms(
            Affine.identity(), Chain(), WHERE, Settings((Level(1, 1, nodes=1),)), torch.device("cpu")
        )
        vectors = guide.term.fixed  # type: ignore[attr-defined]
        assert not vectors.channels[:, lesion].any()
        if unknown:
            np.testing.assert_array_equal(vectors.mask.numpy(), ~lesion)
        else:
            assert vectors.mask is None


def test_an_initial_field_is_known_to_the_labels() -> None:
    """With the whole motion in the initial transform, nothing is left to move."""
    truth = maxca.register(**pair(), **START, guide="labels")
    found = maxca.register(**pair(), **{**START, "initial_transform": truth.chain}, guide="labels")
    assert found.metrics.dice_after is not None and truth.metrics.dice_after is not None
    assert found.metrics.dice_after.mean > truth.metrics.dice_after.mean - 0.01  # type: ignore[operator]


@pytest.mark.parametrize("given", ["fixed_labels", "moving_labels", None])
def test_labels_on_one_side_cannot_guide(given: str | None) -> None:
    images = {name: image for name, image in pair().items() if "labels" not in name or name == given}
    with pytest.raises(OptionError, match=r"guide=labels: needs labels of both images, fixed_labels and moving_labels"):
        maxca.register(**images, **QUICK, guide=["labels"])


def test_labels_without_a_common_value_cannot_guide() -> None:
    other = replace(shown(regions), data=np.where(shown(regions).data > 0, 77, 0).astype(np.uint8))
    with pytest.raises(OptionError, match="have no label in common"):
        maxca.register(**pair(moving_labels=other), **QUICK, guide=["labels"])


@pytest.mark.parametrize("guide", ["names", ["labels", "eyes"], 3.0, [None]])
def test_other_guides_are_refused(guide: Any) -> None:
    with pytest.raises((OptionError, TypeError)):
        RegistrationOptions(guide=guide)


def test_labels_do_not_guide_an_affine() -> None:
    with pytest.raises(OptionError, match="use transform=deformable, not affine"):
        RegistrationOptions(guide=("labels",), transform="affine")


def test_the_command_line_guides_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {name: phantoms.save(tmp_path / f"{name}.nii.gz", image) for name, image in pair().items()}
    words = [word for name, path in files.items() for word in (f"--{name.replace('_', '-')}", str(path))]
    out = ["-o", str(tmp_path / "out"), "--effort", "fast", "--model", "none", "--threads", "1"]
    assert main(["register", *words, *out, "--guide", "labels", "--report"]) == 0
    assert "guided by 4 labels" in capsys.readouterr().out
    record = Result.load(tmp_path / "out").record
    assert record.command is not None and "--guide labels" in record.command
    assert "These labels guided the registration" in (tmp_path / "out" / "report.html").read_text()
    assert main(["register", *words[:4], *out, "--guide", "labels", "--overwrite"]) == 1
    assert "--guide labels: needs labels of both images, --fixed-labels and --moving-labels" in capsys.readouterr().err
