"""A segmentation model guides a registration, says what it expects of the labels, and labels a scan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import phantoms
import pytest
import torch
from segmenters import ByBrightness

import maxca
from maxca import MaxcaError, Result
from maxca.cli.main import main
from maxca.engine.settings import Level, Settings
from maxca.engine.volume import Volume
from maxca.geometry import Affine, Grid
from maxca.io.images import Image, read
from maxca.models import select as room
from maxca.models.guide import SegmentedPair
from maxca.models.segmentation import Segmenter
from maxca.models.segmentation_file import save_segmenter
from maxca.networks.segmentation import SegmentationUNet
from maxca.registration.labelling import label, table

NAMES = {0: "background", 7: "grey", 200: "bright"}
WHERE = phantoms.grid((3.0, 3.0, 3.0))


def segmenter(**options: Any) -> Segmenter:
    return Segmenter(ByBrightness(2), NAMES, **{"spacing": (1.5, 1.5, 1.5), **options})  # type: ignore[arg-type]


def regions(points: np.ndarray) -> np.ndarray:
    here = phantoms.regions(points)
    return np.select([here > 2, here > 0], [200, 7], 0)


def grey(points: np.ndarray) -> np.ndarray:
    """Brightness by region, without the texture of the phantom."""
    return np.select([regions(points) == 200, regions(points) == 7], [900.0, 300.0], 0.0)


def pair(where: Grid = WHERE) -> dict[str, Image]:
    def numbers(points: np.ndarray) -> np.ndarray:
        return regions(points)

    return {
        "fixed": phantoms.image(where, phantoms.bend, grey),
        "moving": phantoms.image(where, what=grey),
        "fixed_labels": replace(phantoms.image(where, phantoms.bend, numbers), warnings=()),
        "moving_labels": replace(phantoms.image(where, what=numbers), warnings=()),
    }


@pytest.fixture(scope="module")
def guided() -> Result:
    return maxca.register(**pair(), model=segmenter(), effort="fast", threads=1)


def test_the_record_names_the_guide_and_its_labels(guided: Result) -> None:
    guide = guided.record.guide
    assert guide is not None and guided.record.network is None
    assert (guide.name, guide.share) == ("segmentation", 0.5)
    assert guide.labels == {"0": "background", "7": "grey", "200": "bright"}
    assert all(0.5 < confidence <= 1 for confidence in guide.confidence.values())
    assert guided.record.settings.model == "segmentation" and "as requested" in guided.record.model_reason


def test_the_predicted_overlap_is_about_that_of_the_labels(guided: Result) -> None:
    for time in ("before", "after"):
        predicted = getattr(guided.metrics, f"predicted_dice_{time}")
        true = getattr(guided.metrics, f"dice_{time}")
        assert predicted.by_label.keys() == true.by_label.keys() == {"7", "200"}
        for number, value in true.by_label.items():
            assert predicted.by_label[number] == pytest.approx(value, abs=0.1), (time, number)
    assert guided.metrics.predicted_dice_after.mean > guided.metrics.predicted_dice_before.mean  # type: ignore[union-attr, operator]


def test_the_record_comes_back_from_its_folder(guided: Result, tmp_path: Path) -> None:
    guided.save(tmp_path / "out")
    again = Result.load(tmp_path / "out")
    assert again.record.guide == guided.record.guide
    assert again.metrics.predicted_dice_after == guided.metrics.predicted_dice_after


def test_calibration_moves_the_predicted_overlap() -> None:
    images = pair()
    both = {name: images[name] for name in ("fixed", "moving")}
    options: dict[str, Any] = {"effort": "fast", "threads": 1}
    plain = maxca.register(**both, **options, model=segmenter()).metrics.predicted_dice_before
    lower = maxca.register(**both, **options, model=segmenter(calibration=(-0.1, 0.5))).metrics.predicted_dice_before
    assert plain is not None and lower is not None
    for number, value in plain.by_label.items():
        assert lower.by_label[number] == pytest.approx(0.5 * value - 0.1, abs=1e-6)  # type: ignore[operator]


SETTINGS = Settings((Level(1, 1),))


@pytest.mark.parametrize(
    ("options", "accepted", "reason"),
    [
        ({"extent_mm": ((20.0, 200.0),) * 3}, True, "at least"),
        ({"extent_mm": ((20.0, 200.0),) * 3, "confidence": 0.9999999}, False, "less than"),
        ({"extent_mm": ((200.0, 300.0),) * 3}, False, "mm from left to right"),
        ({}, False, "only when named"),
    ],
)
def test_auto_takes_a_segmentation_model_for_images_like_its_own(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], accepted: bool, reason: str
) -> None:
    monkeypatch.setattr(room, "is_segmenter", lambda path: True)
    monkeypatch.setattr(room, "load_segmenter", lambda path, device: segmenter(name="names", **options))
    volume = Volume(torch.from_numpy(grey(phantoms.nodes(WHERE)) / 900).float(), WHERE)
    found = room.select([Path("names.safetensors")], volume, volume, Affine.identity(), SETTINGS)
    assert (found.segmented is not None) == accepted and found.prediction is None
    assert "names: " in found.reason and reason in found.reason


def test_an_image_too_large_for_the_network_is_registered_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maxca.models.segmentation.MOST", 1000)
    both = {name: image for name, image in pair().items() if "labels" not in name}
    result = maxca.register(**both, model=segmenter(), transform="deformable", effort="fast", threads=1)
    assert result.record.guide is None and result.metrics.predicted_dice_after is None
    assert any("did not guide the registration: as requested, but at its spacing" in text for text in result.warnings)
    with pytest.raises(MaxcaError, match="cannot label it: at its spacing"):
        label(both["fixed"], segmenter(), threads=1)


def test_auto_does_not_segment_for_a_fast_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "is_segmenter", lambda path: True)
    monkeypatch.setattr(room, "load_segmenter", lambda path, device: segmenter(extent_mm=((20.0, 200.0),) * 3))
    monkeypatch.setattr(room, "shipped", lambda: ["brain-names"])
    both = {name: image for name, image in pair().items() if "labels" not in name}
    fast = maxca.register(**both, effort="fast", threads=1)
    assert fast.record.guide is None and "takes longer than a fast registration" in fast.record.model_reason
    assert maxca.register(**both, threads=1).record.guide is not None


def test_too_little_memory_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = Volume(torch.from_numpy(grey(phantoms.nodes(WHERE)) / 900).float(), WHERE)
    assert not segmenter().obstacle(volume)
    monkeypatch.setattr("maxca.models.segmentation.BYTES_PER_VOXEL", 10**12)
    assert "GB of memory and" in segmenter().obstacle(volume)


def trained(folder: Path) -> Path:
    """A network of real layers, with random weights."""
    torch.manual_seed(1)
    network = SegmentationUNet(3, channels=(4, 6), strides=((2, 2, 2),), depth=1, embedding=5)
    save_segmenter(Segmenter(network.eval(), NAMES, confidence=0.99), folder / "mine.safetensors")
    return folder / "mine.safetensors"


@pytest.mark.parametrize("flips", ["", "ij"])
def test_labels_lie_on_the_grid_of_the_image(flips: str) -> None:
    where = phantoms.grid((3.0, 2.5, 4.0), flips=flips)
    image = phantoms.image(where, what=grey)
    found = label(image, segmenter(), threads=1)
    assert found.image.grid.same_as(where) and found.image.data.dtype == np.uint8 and not found.warnings
    truth = regions(phantoms.nodes(where))
    for number in (7, 200):
        both = ((found.image.data == number) & (truth == number)).sum()
        assert 2 * both / ((found.image.data == number).sum() + (truth == number).sum()) > 0.93
    rows = [line.split("\t") for line in table(found).splitlines()]
    assert rows[0] == ["index", "name", "volume_mm3"] and [row[:2] for row in rows[1:]] == [
        ["0", "background"],
        ["7", "grey"],
        ["200", "bright"],
    ]
    assert float(rows[2][2]) == pytest.approx((found.image.data == 7).sum() * 30.0)


def test_the_command_writes_labels_and_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = phantoms.save(tmp_path / "scan.nii.gz", phantoms.image(WHERE))
    words = ["label", "-i", scan, "--model", trained(tmp_path), "-o", tmp_path / "labels.nii.gz", "--threads", 1]
    assert main([str(word) for word in [*words, "--table", tmp_path / "labels.tsv"]]) == 0
    written = read(tmp_path / "labels.nii.gz")
    assert written.grid.same_as(WHERE) and set(np.unique(written.data)) <= set(NAMES)
    assert (tmp_path / "labels.tsv").read_text().startswith("index\tname\tvolume_mm3\n0\tbackground\t")
    said = capsys.readouterr()
    assert "labels.nii.gz" in said.out and "the labels may be wrong: their mean probability" in said.err


def test_a_registration_model_cannot_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = phantoms.save(tmp_path / "scan.nii.gz", phantoms.image(WHERE))
    assert main(["label", "-i", str(scan), "--model", "hippocampus", "-o", str(tmp_path / "labels.nii.gz")]) != 0
    assert "a registration model" in capsys.readouterr().err and not (tmp_path / "labels.nii.gz").exists()
    with pytest.raises(MaxcaError, match="no such file"):
        label(phantoms.image(WHERE), "nothing-of-this-name")


def test_the_report_lists_the_predicted_labels(guided: Result, tmp_path: Path) -> None:
    from maxca.report.case import read_case
    from maxca.report.html import write_report

    images = pair()
    paths = {name: phantoms.save(tmp_path / f"{name}.nii.gz", images[name]) for name in ("fixed", "moving")}
    result = maxca.register(**paths, model=segmenter(), effort="fast", threads=1)
    place = result.save(tmp_path / "out")
    verdict = write_report(read_case(place, name="guided"), place / "report.html")
    page = (place / "report.html").read_text()
    assert "Predicted labels" in page and "<td>bright</td>" in page
    checks = {check.name: check for check in verdict.checks}
    assert (
        checks["predicted labels"].state == "aligned"
        and "predicted by the segmentation" in checks["predicted labels"].finding
    )


CENTRE = np.array([4.0, -13.0, 0.0])


def lesion(where: Grid = WHERE) -> np.ndarray:
    """A ball in the grey half of the moving image."""
    return np.asarray(np.linalg.norm(phantoms.nodes(where) - CENTRE, axis=-1) < 8)


@pytest.mark.parametrize("preset", [None, "longitudinal"])
def test_what_is_excluded_does_not_guide_through_a_model(
    preset: Literal["longitudinal"] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the model would see there: the result is the same to the last bit."""
    images = {name: image for name, image in pair().items() if "labels" not in name}
    marked = Image(lesion().astype(np.uint8), WHERE, Path("lesion.nii.gz"))
    given, restricted = SegmentedPair.inside, []

    def inside(segmented: SegmentedPair, *masks: Volume | None) -> SegmentedPair:
        restricted.append(masks[1] is not None)
        return given(segmented, *masks)

    monkeypatch.setattr(SegmentedPair, "inside", inside)
    maps = []
    for brightness in (900, 0):
        moving = replace(images["moving"], data=np.where(lesion(), brightness, images["moving"].data))
        options: dict[str, Any] = {"effort": "fast", "threads": 1, "model": segmenter(), "moving_exclude": marked}
        found = maxca.register(images["fixed"], moving, **options, preset=preset)
        assert found.record.guide is not None
        maps.append(found.chain.map_points(phantoms.nodes(WHERE)))
    np.testing.assert_array_equal(maps[0], maps[1])
    assert restricted == [True] * (2 if preset is None else 4)


def test_a_body_stays_rigid_with_a_model() -> None:
    images = {name: image for name, image in pair().items() if "labels" not in name}
    body = Image(lesion().astype(np.uint8), WHERE, Path("bodies.nii.gz"))
    found = maxca.register(**images, model=segmenter(), effort="fast", threads=1, rigid=body)
    assert found.record.guide is not None and found.metrics.folding.ndv_percent == 0
    assert found.metrics.largest_departure < 0.05
