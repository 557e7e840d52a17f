"""``maxca series`` from file to folder: known motion, files that other tools read, and one-line errors."""

from __future__ import annotations

import csv
import json
import sys
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
from movingseries import apart, frame, motions, rigid, write

import maxca
from maxca.geometry import Affine
from maxca.io.images import read
from maxca.workflows.series.corrected import OverTime
from maxca.workflows.series.options import SeriesInputs, SeriesOptions

sys.path.append(str(Path(__file__).parents[1] / "cli"))

from commands import run

GRID = phantoms.grid((3, 3, 3))
COUNT = 7


@pytest.fixture(scope="module")
def moved() -> list[Affine]:
    return motions(COUNT)


@pytest.fixture(scope="module")
def bold(tmp_path_factory: pytest.TempPathFactory, moved: list[Affine]) -> Path:
    rng = np.random.default_rng(8)
    frames = [frame(GRID, motion, rng) for motion in moved]
    return write(tmp_path_factory.mktemp("series") / "bold.nii.gz", frames, GRID)


@pytest.fixture(scope="module")
def corrected(tmp_path_factory: pytest.TempPathFactory, bold: Path) -> Path:
    out = tmp_path_factory.mktemp("out") / "corrected"
    outcome = run("series", "-i", bold, "-o", out, "--report", "--threads", 1)
    assert outcome.code == 0, outcome.err
    assert f"{COUNT} frames" in outcome.out
    return out


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "motion.tsv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_itk_reads_the_motion_of_every_frame(corrected: Path, moved: list[Affine]) -> None:
    files = sorted((corrected / "transforms").iterdir())
    assert [file.name for file in files] == [f"{number:04}.tfm" for number in range(COUNT)]
    for file, truth in zip(files, moved, strict=True):
        transform = sitk.ReadTransform(str(file))
        for point in ([0, 0, 0], [15, -10, 12], [-12, 14, -9]):
            there = np.array(transform.TransformPoint([-point[0], -point[1], point[2]])) * [-1, -1, 1]
            assert np.linalg.norm(there - truth.map_points(np.array(point))) < 0.15 * 3


def test_the_frames_look_like_the_first_one_afterwards(corrected: Path, bold: Path) -> None:
    before, after = nib.load(bold), nib.load(corrected / "corrected.nii.gz")
    assert after.get_data_dtype() == before.get_data_dtype() and after.shape == before.shape
    assert after.header.get_zooms()[3] == 2.0 and after.header.get_xyzt_units() == ("mm", "sec")
    inside = np.linalg.norm(phantoms.nodes(GRID), axis=-1) < 20
    spread = [np.asarray(each.dataobj, dtype=float)[inside].std(axis=1).mean() for each in (before, after)]
    assert spread[1] < 1.3 * 12 < spread[0]


def test_apply_gives_the_same_series_from_the_transforms(corrected: Path, bold: Path, tmp_path: Path) -> None:
    arguments = ("--volume-transforms", corrected / "transforms", "--interpolation", "bspline", "-q")
    reference = corrected / "reference.nii.gz"
    assert run("apply", "-i", bold, "-r", reference, *arguments, "-o", tmp_path / "again.nii.gz").code == 0
    one, other = (np.asarray(nib.load(p).dataobj) for p in (corrected / "corrected.nii.gz", tmp_path / "again.nii.gz"))
    np.testing.assert_array_equal(one, other)


def test_the_table_has_a_row_per_frame_with_the_true_motion(corrected: Path, moved: list[Affine]) -> None:
    rows = table(corrected)
    assert rows[0]["framewise_displacement"] == rows[0]["dvars"] == "n/a"
    meanings = json.loads((corrected / "motion.json").read_text())
    assert set(rows[0]) <= set(meanings)
    center = np.array(meanings["CenterOfRotation"])
    for row, truth in zip(rows, moved, strict=True):
        shift = [float(row[f"trans_{axis}"]) for axis in "xyz"]
        turn = np.degrees([float(row[f"rot_{axis}"]) for axis in "xyz"])
        assert apart(rigid(shift, turn, center), truth, GRID) < 0.15
    record = json.loads((corrected / "result.json").read_text())
    assert record["motion"]["frames"] == COUNT and record["settings"]["to"] == "first"
    assert record["command"].startswith("maxca series --input ")
    assert [int(row["motion_outlier"]) for row in rows] == [0] + [1] * (COUNT - 1)


def test_the_page_shows_the_curves(corrected: Path) -> None:
    page = (corrected / "report.html").read_text(encoding="utf-8")
    for title in ("Translation", "Rotation", "Framewise displacement", "DVARS of the corrected series"):
        assert f'aria-label="{title}"' in page
    assert page.count("data:image") >= 14 and "Content-Security-Policy" in page


def test_a_mean_favours_no_frame(bold: Path, tmp_path: Path, moved: list[Affine]) -> None:
    """The same frames in another order have the same motions, and these add to none."""
    image = nib.load(bold)
    order = np.array([3, 0, 6, 1, 5, 2, 4])
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[..., order], image.affine), tmp_path / "other.nii.gz")
    options = SeriesOptions(to="mean", interpolation="linear")
    one = maxca.series(bold, tmp_path / "one", options)
    two = maxca.series(tmp_path / "other.nii.gz", tmp_path / "two", options)
    assert max(apart(two.affines[n], one.affines[at], GRID) for n, at in enumerate(order)) < 0.1
    assert np.abs(one.measures.motion.translations.mean(axis=0)).max() < 0.1 * 3
    back = one.affines[0].inverse()[0]
    assert max(apart(each @ back, truth, GRID) for each, truth in zip(one.affines, moved, strict=True)) < 0.15


def test_the_reference_is_any_frame_or_another_image(bold: Path, tmp_path: Path, moved: list[Affine]) -> None:
    second = maxca.series(bold, tmp_path / "second", SeriesOptions(to=2))
    assert apart(second.affines[2], Affine.identity(), GRID) < 0.02
    assert apart(second.affines[0], moved[2].inverse()[0], GRID) < 0.15
    shifted = rigid((4, -3, 2), (3, 0, -4))
    finer = phantoms.grid((2.5, 2.5, 2.5), extent=70.0)
    scan = read(phantoms.save(tmp_path / "sbref.nii.gz", maxca.Image(frame(finer, shifted).astype(np.int16), finer)))
    found = maxca.series(bold, tmp_path / "to_image", SeriesOptions(to=tmp_path / "sbref.nii.gz"))
    truth = [motion @ shifted.inverse()[0] for motion in moved]
    assert max(apart(each, true, GRID) for each, true in zip(found.affines, truth, strict=True)) < 0.15
    assert nib.load(tmp_path / "to_image" / "corrected.nii.gz").shape == (*scan.grid.shape, COUNT)
    assert "to" in found.record.inputs


def test_diffusion_weightings_are_aligned_by_the_correlation_ratio(tmp_path: Path, moved: list[Affine]) -> None:
    frames = [frame(GRID, motion) for motion in moved]
    weighted = [
        values if n % 3 == 0 else np.where(values > 50, (900 - values) / 2, 0) for n, values in enumerate(frames)
    ]
    path = write(tmp_path / "dwi.nii.gz", weighted, GRID)
    np.savetxt(tmp_path / "dwi.bvec", np.tile([[0.0], [0.6], [0.8]], COUNT))
    found = maxca.series(path, tmp_path / "out", inputs=SeriesInputs(bvec=tmp_path / "dwi.bvec"))
    assert found.record.motion.other_contrast == 4
    assert max(apart(each, true, GRID) for each, true in zip(found.affines, moved, strict=True)) < 0.15
    rotated = np.loadtxt(tmp_path / "out" / "corrected.bvec")
    for column, truth in zip(rotated.T, moved, strict=True):
        expected = np.diag([-1, 1, 1]) @ truth.matrix[:3, :3].T @ np.diag([-1, 1, 1]) @ [0, 0.6, 0.8]
        assert np.degrees(np.arccos(np.clip(column @ expected, -1, 1))) < 1.0


def test_a_mask_says_where_motion_is_estimated(tmp_path: Path) -> None:
    """The upper half moves and the lower does not: the mask decides which motion is found."""
    truth = [Affine.identity(), rigid((2, -1, 0), (0, 0, 4))]
    upper = phantoms.nodes(GRID)[..., 2] > 0
    frames = [np.where(upper, frame(GRID, motion), frame(GRID, Affine.identity())) for motion in truth]
    path = write(tmp_path / "neck.nii.gz", frames, GRID)
    for name, region, motion in (("upper", upper, truth[1]), ("lower", ~upper, truth[0])):
        phantoms.save(tmp_path / f"{name}.nii.gz", maxca.Image(region.astype(np.uint8), GRID))
        inputs = SeriesInputs(mask=tmp_path / f"{name}.nii.gz")
        found = maxca.series(path, tmp_path / name, inputs=inputs).affines[1]
        assert apart(found, motion, GRID) < 0.3


def test_statistics_over_time_keep_no_frame() -> None:
    stats = OverTime(np.ones((40, 40, 40), bool))
    values = [np.random.default_rng(n).normal(size=(40, 40, 40)).astype(np.float32) for n in range(5)]
    for each in values:
        stats.add(each)
    np.testing.assert_allclose(stats.mean, np.mean(values, axis=0), atol=1e-6)
    np.testing.assert_allclose(stats.deviation, np.std(values, axis=0), atol=1e-5)
    np.testing.assert_allclose(
        stats.dvars[1:], [np.sqrt(np.mean((b - a) ** 2)) for a, b in pairwise(values)], rtol=1e-5
    )
    assert all(line.base is None for line in stats.lines)


def test_a_slice_over_time_moves_in_its_plane(tmp_path: Path) -> None:
    where = phantoms.grid((1.5, 1.5, 66.0))
    truth = [rigid((n, -n, 0), (0, 0, 2 * n)) for n in range(4)]
    path = write(tmp_path / "cine.nii.gz", [frame(where, motion) for motion in truth], where)
    found = maxca.series(path, tmp_path / "out").affines
    assert max(apart(each, true, where) for each, true in zip(found, truth, strict=True)) < 0.15


def bad(folder: Path, kind: str) -> tuple[list[object], str]:
    """Arguments, and what is said about them."""
    frames = [frame(GRID, motion) for motion in motions(3)]
    options: list[object] = []
    said = {
        "three": "a 3-D image, but a series of several frames is expected",
        "single": "a 4-D image of a single frame",
        "empty": "frame 1 (the first is 0) is empty: every voxel is 0",
        "nan": "frame 2 (the first is 0) is empty: every voxel is NaN",
        "bvec": "3 x 2 numbers, but 3 frames need 3 x 3",
        "number": "--to 3: ",
        "missing": "no such file",
        "word": "no such file",
        "truncated": "truncated or damaged",
        "radius": "--radius",
    }[kind]
    path = folder / "series.nii.gz"
    if kind == "empty":
        frames[1][:] = 0
    if kind == "nan":
        frames[2][:] = np.nan
    write(path, frames[:1] if kind == "single" else frames, GRID, "float32")
    if kind == "three":
        nib.save(nib.Nifti1Image(frames[0], GRID.affine), path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    if kind == "bvec":
        np.savetxt(folder / "a.bvec", np.zeros((3, 2)))
        options = ["--bvec", folder / "a.bvec"]
    extra = {"number": ["--to", 3], "word": ["--to", "median"], "radius": ["--radius", -1]}
    missing = folder / "none.nii.gz" if kind == "missing" else path
    return ["-i", missing, *options, *extra.get(kind, [])], said


@pytest.mark.parametrize(
    "kind", ["three", "single", "empty", "nan", "bvec", "number", "missing", "word", "truncated", "radius"]
)
def test_bad_input_gives_one_line_and_no_output(kind: str, tmp_path: Path) -> None:
    arguments, said = bad(tmp_path, kind)
    outcome = run("series", *arguments, "-o", tmp_path / "out" / "put")
    assert outcome.code == (2 if kind == "radius" else 1)
    assert said in outcome.err and outcome.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_nan_voxels_of_some_frames_give_one_warning(tmp_path: Path) -> None:
    frames = [frame(GRID, motion) for motion in motions(3)]
    frames[1][:2], frames[2][0] = np.nan, np.nan
    path = write(tmp_path / "series.nii", frames, GRID, "float32")
    outcome = run("series", "-i", path, "-o", tmp_path / "out", "-q")
    assert outcome.code == 0 and outcome.err.count("\n") == 1 and "NaN" in outcome.err and "2 volumes" in outcome.err


def test_an_earlier_output_is_replaced_only_on_request(corrected: Path, bold: Path) -> None:
    outcome = run("series", "-i", bold, "-o", corrected)
    assert outcome.code == 1 and "--overwrite" in outcome.err
