"""What remains of a series that did not end: never less than was stored, and never beside a complete output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import phantoms
import pytest
from beatingseries import write_beat
from movingseries import write

import maxca
from maxca.errors import MaxcaError
from maxca.models.zoo import find_model
from maxca.workflows.series.options import SeriesInputs, SeriesOptions
from maxca.workflows.series.organ.estimate import Survey
from maxca.workflows.series.organ.record import FrameRow, LabelRow, doubts, summaries
from maxca.workflows.series.record import sources_of

GRID = phantoms.grid((5.0, 5.0, 10.0), extent=60.0)
OPTIONS = {
    "rigid": SeriesOptions(threads=1),
    "deformable": SeriesOptions(transform="deformable", model="none", effort="fast", threads=1),
}


@pytest.fixture
def cine(tmp_path: Path) -> Path:
    return write_beat(tmp_path, GRID, 3)


def align(cine: Path, out: Path, transform: str, finish: Callable[..., object] | None = None) -> list[str]:
    """The stages of a run."""
    seen: list[str] = []
    run = maxca.series if transform == "rigid" else maxca.organ_motion
    run(cine, out, OPTIONS[transform], finish=finish, progress=lambda stage, _: seen.append(stage))  # type: ignore[operator]
    return seen


def stored(left: Path) -> list[object]:
    """The parts, and when each was written."""
    table = left / "pass-0.jsonl"
    if table.is_file():
        return [table.stat().st_mtime_ns, *table.read_text().splitlines()]
    return [(path.name, path.stat().st_mtime_ns) for path in sorted((left / "pass-0").iterdir())]


@pytest.mark.parametrize("transform", ["rigid", "deformable"])
def test_an_output_that_is_refused_at_the_end_keeps_the_parts(cine: Path, tmp_path: Path, transform: str) -> None:
    """Another program writes to the output folder while the series is being aligned: it cannot be replaced."""
    out, left = tmp_path / "out", tmp_path / ".out.unfinished"

    def occupy(_result: object, _place: Path) -> None:
        assert left.is_dir()
        out.mkdir()
        (out / "notes.txt").write_text("mine")

    with pytest.raises(MaxcaError, match="exists"):
        align(cine, out, transform, occupy)
    before, after = stored(left), []
    assert len(before) >= 3 and (out / "notes.txt").read_text() == "mine"
    (out / "notes.txt").unlink()
    align(cine, out, transform, lambda _result, _place: after.extend(stored(left)))
    assert after[-3:] == before[-3:]
    assert (out / "result.json").is_file() and not left.exists()


@pytest.mark.parametrize("transform", ["rigid", "deformable"])
def test_an_error_of_the_report_keeps_the_parts(cine: Path, tmp_path: Path, transform: str) -> None:
    def fail(_result: object, _place: Path) -> None:
        raise MaxcaError("the page cannot be written")

    with pytest.raises(MaxcaError, match="the page"):
        align(cine, tmp_path / "out", transform, fail)
    left = tmp_path / ".out.unfinished"
    assert len(stored(left)) >= 3
    assert not (tmp_path / "out").exists()
    align(cine, tmp_path / "out", transform)
    assert not left.exists()


def test_an_output_that_exists_is_refused_before_the_parts_of_another_run_are_removed(
    cine: Path, tmp_path: Path
) -> None:
    out, left = tmp_path / "out", tmp_path / ".out.unfinished"
    align(cine, out, "rigid")
    left.mkdir()
    (left / "pass-0.jsonl").write_text("[]\n")
    with pytest.raises(MaxcaError, match="overwrite"):
        align(cine, out, "rigid")
    assert (left / "pass-0.jsonl").read_text() == "[]\n"


def test_a_changed_model_of_the_same_name_begins_again(cine: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    hashes = []
    for name in ("cardiac-cine", "hippocampus"):
        path.write_bytes(find_model(name).read_bytes())
        options = SeriesOptions(transform="deformable", model=path)
        hashes.append(sources_of(cine, SeriesInputs(), options)["model"].sha256)
    assert hashes[0] != hashes[1]
    for word in ("auto", "none"):
        assert "model" not in sources_of(cine, SeriesInputs(), SeriesOptions(transform="deformable", model=word))
    with pytest.raises(MaxcaError, match="no such file"):
        sources_of(cine, SeriesInputs(), SeriesOptions(transform="deformable", model=tmp_path / "none.safetensors"))


def test_frames_that_do_not_differ_have_a_page(tmp_path: Path) -> None:
    from maxca.report.organ import write_page

    frame = phantoms.scene(phantoms.nodes(GRID)).astype(np.int16)
    still = write(tmp_path / "still.nii.gz", [frame, frame], GRID)
    found = maxca.organ_motion(still, tmp_path / "out", OPTIONS["deformable"], finish=write_page)
    assert (tmp_path / "out" / "report.html").is_file()
    assert found.record.motion.displacement_max_mm < 0.5 and not found.record.warnings


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_how_much_a_frame_differs_is_in_proportion(noise: float) -> None:
    """Of two frames the other one is that which differs most; of three, half the motion is about half."""

    def survey(*apart: float) -> np.ndarray:
        volume = np.zeros((2, 2, 2), np.float32)
        return Survey(volume, volume, np.array([0, *(each + noise for each in apart)]), noise).differing

    np.testing.assert_allclose(survey(0.3), [0, 1])
    np.testing.assert_allclose(survey(0.2, 0.4), [0, 0.5, 1])
    np.testing.assert_allclose(survey(0.4, 0.4), [0, 1, 1])
    np.testing.assert_array_equal(Survey(np.ones(1), np.ones(1), np.zeros(3)).differing, 0)
    np.testing.assert_allclose(Survey(np.ones(1), np.ones(1), np.array([0, 0.1]), 0.2).differing, [0, 1])


@pytest.mark.parametrize("count", [2, 3, 6])
def test_noise_is_told_from_motion_whatever_the_number_of_frames(tmp_path: Path, count: int) -> None:
    from maxca.geometry import Affine
    from maxca.workflows.series.frames import open_frames
    from maxca.workflows.series.organ.estimate import _survey

    rng = np.random.default_rng(2)
    where = phantoms.grid((4, 4, 4), extent=120.0)
    clean = phantoms.scene(phantoms.nodes(where))
    moved = [clean.copy() for _ in range(count)]
    moved[1][8:20, 8:20, 8:20] = clean[8:20, 8:20, 8:20][::-1, ::-1]  # 6 % of the voxels change
    frames = [each + rng.normal(0, 20, where.shape) for each in moved]
    series = open_frames(write(tmp_path / "noisy.nii", frames, where, "float32"))
    found = _survey(series, series.numbered(0), Affine.identity(), lambda _stage, _share: None)
    assert found.noise == pytest.approx(np.sqrt(2) * 20 * np.sqrt(2 / np.pi) / clean.std(), rel=0.15)
    assert found.differing[1] == 1 and (np.delete(found.differing, 1) < 0.2).all()


def test_frames_that_may_be_wrong_are_named() -> None:
    rows = [FrameRow(n, 0.9, 0.95, 1.0, 2.0, 0.0) for n in range(20)]
    assert doubts(rows) == []
    rows[3] = FrameRow(3, 0.9, 0.85, 1.0, 2.0, 0.5)
    rows[7] = FrameRow(7, 0.9, 0.85, 1.0, 2.0, 0.0)
    similar, folds = doubts(rows)
    assert similar.startswith("frames 3, 7: less similar") and folds.startswith("frame 3: more than 0.1 %")
    many = doubts([FrameRow(n, 0.9, 0.5, 1.0, 2.0, 0.0) for n in range(13)])[0]
    assert many.startswith("frames 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 3 others:")


def test_the_change_of_volume_is_that_of_every_label() -> None:
    rows = [LabelRow(n, label, None, volume, 0, 0) for n, volume in enumerate((100.0, 80.0)) for label in (2, 3)]
    wall, cavity = summaries(rows, 2)
    assert wall.volume_change_percent == cavity.volume_change_percent == pytest.approx(20)
    assert wall.ejection_fraction_percent is None and cavity.ejection_fraction_percent == pytest.approx(20)
    assert json.loads(json.dumps(wall.peak_strain))
