"""``maxca series --transform deformable``: a beating ventricle of known motion, from file to folder."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
import torch
from beatingseries import CAVITY, WALL, parts, squeezed, ventricle, write_beat

import maxca
from maxca.errors import MaxcaError
from maxca.geometry import Chain, DenseField
from maxca.workflows.series.options import SeriesInputs, SeriesOptions
from maxca.workflows.series.organ.fields import StoredFields
from maxca.workflows.series.organ.strain import LabelRegion, StrainMeter

sys.path.append(str(Path(__file__).parents[1] / "cli"))

from commands import run

GRID = phantoms.grid((2.5, 2.5, 8.0), extent=80.0)
COUNT = 6
POINTS = np.array([[12.0, 0, 2], [0, -15.0, -6], [-13.0, 9.0, 0]])
ALIKE: tuple[object, ...] = (
    "--transform",
    "deformable",
    "--model",
    "none",
    "--effort",
    "fast",
    "--cyclic",
    "--threads",
    1,
)
ALIKE += ("--time-smoothness", 0.4)  # six frames of a beat leave little to smooth


@pytest.fixture(scope="module")
def beat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beat")
    write_beat(folder, GRID, COUNT)
    np.savetxt(folder / "points.csv", POINTS, delimiter=",", header="x,y,z", comments="")
    (folder / "names.tsv").write_text(f"index\tname\n{WALL}\tmyocardium\n{CAVITY}\tleft ventricle\n")
    return folder


@pytest.fixture(scope="module")
def followed(beat: Path) -> Path:
    files = ("--labels", beat / "labels.nii.gz", "--points", beat / "points.csv", "--label-table", beat / "names.tsv")
    outcome = run("series", "-i", beat / "cine.nii.gz", "-o", beat / "out", *ALIKE, *files, "--report")
    assert outcome.code == 0, outcome.err
    assert f"{COUNT} frames" in outcome.out and "left ventricle" in outcome.out
    return beat / "out"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def truth(number: int) -> np.ndarray:
    """The labels of a frame."""
    return ventricle(squeezed(phantoms.nodes(GRID), parts(COUNT)[number]))


def test_labels_are_carried_to_every_frame(followed: Path) -> None:
    carried = nib.load(followed / "labels.nii.gz")
    assert carried.shape == (*GRID.shape, COUNT) and carried.header.get_zooms()[3] == pytest.approx(0.08)
    labels = np.asarray(carried.dataobj)
    np.testing.assert_array_equal(labels[..., 0], truth(0))
    for number in range(1, COUNT):
        for label in (WALL, CAVITY):
            both = labels[..., number] == label, truth(number) == label
            before = truth(0) == label
            dice = [2 * (each & both[1]).sum() / (each.sum() + both[1].sum()) for each in (both[0], before)]
            assert dice[0] > 0.85 and dice[0] > dice[1] - 0.02


def test_volumes_and_ejection_fraction_are_the_true_ones(followed: Path) -> None:
    volume = [np.count_nonzero(truth(number) == CAVITY) * GRID.voxel_volume / 1000 for number in range(COUNT)]
    rows = [row for row in table(followed / "labels.tsv") if int(row["label"]) == CAVITY]
    assert [row["name"] for row in rows] == ["left ventricle"] * COUNT
    found = [float(row["volume_ml"]) for row in rows]
    np.testing.assert_allclose(found, volume, atol=0.09 * volume[0])
    wall, cavity = json.loads((followed / "result.json").read_text())["motion"]["labels"]
    expected = 100 * (1 - min(volume) / max(volume))
    assert cavity["ejection_fraction_percent"] == pytest.approx(expected, abs=7)
    assert wall["ejection_fraction_percent"] is None
    assert cavity["smallest_frame"] == COUNT // 2 and cavity["largest_frame"] == 0


def test_the_wall_thickens_and_shortens_around_the_cavity(followed: Path) -> None:
    rows = {(int(row["frame"]), int(row["label"])): row for row in table(followed / "labels.tsv")}
    systole = rows[COUNT // 2, WALL]
    assert float(systole["strain_radial"]) > 0.15 and float(systole["strain_circumferential"]) < -0.08
    assert abs(float(systole["strain_longitudinal"])) < 0.06
    assert rows[COUNT // 2, CAVITY]["strain_radial"] == "n/a"
    assert set(next(iter(rows.values()))) == set(json.loads((followed / "labels.json").read_text()))


def test_itk_maps_points_to_the_frames_and_back(followed: Path) -> None:
    rows = table(followed / "points.tsv")
    assert len(rows) == COUNT * len(POINTS)
    for number in (1, COUNT // 2):
        there, back = (
            sitk.ReadTransform(str(followed / f"{name}transforms" / f"{number:04}.h5")) for name in ("", "inverse_")
        )
        for index, point in enumerate(POINTS):
            flipped = (point * [-1, -1, 1]).tolist()
            moved = np.array(there.TransformPoint(flipped))
            row = rows[number * len(POINTS) + index]
            np.testing.assert_allclose(moved * [-1, -1, 1], [float(row[axis]) for axis in "xyz"], atol=0.02)
            assert np.linalg.norm(np.subtract(back.TransformPoint(moved.tolist()), flipped)) < 0.3
            at_rest = squeezed((moved * [-1, -1, 1])[None], parts(COUNT)[number])[0]
            assert np.linalg.norm(at_rest - point) < 2.0


def test_apply_carries_another_image_of_the_frames(followed: Path, beat: Path, tmp_path: Path) -> None:
    arguments = ("--volume-transforms", followed / "transforms", "--interpolation", "bspline", "-q")
    reference = followed / "reference.nii.gz"
    out = tmp_path / "again.nii.gz"
    assert run("apply", "-i", beat / "cine.nii.gz", "-r", reference, *arguments, "-o", out).code == 0
    one, other = (np.asarray(nib.load(path).dataobj) for path in (followed / "corrected.nii.gz", out))
    np.testing.assert_array_equal(one, other)
    still = np.asarray(nib.load(beat / "cine.nii.gz").dataobj, dtype=float)
    inside = truth(0) != 0
    assert one[inside].astype(float).std(axis=1).mean() < 0.75 * still[inside].std(axis=1).mean()


def test_the_page_shows_a_movie_and_curves(followed: Path) -> None:
    page = (followed / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/gif") == 2 and "prefers-reduced-motion" in page
    for title in ("Volume", "Strain of myocardium", "Strain of left ventricle", "Non-diffeomorphic volume"):
        assert f'aria-label="{title}"' in page
    assert "ejection fraction" in page


def test_a_series_to_its_mean_favours_no_frame(beat: Path, tmp_path: Path) -> None:
    """The displacements from the reference to all frames add to almost none."""
    options = SeriesOptions(transform="deformable", to="mean", model="none", effort="fast", threads=1, labels_frame=0)
    inputs = SeriesInputs(labels=beat / "labels.nii.gz")
    found = maxca.organ_motion(beat / "cine.nii.gz", tmp_path / "mean", options, inputs=inputs)
    from maxca.io.transforms import read_transform

    points = phantoms.nodes(GRID)[truth(1) == WALL]
    files = sorted((tmp_path / "mean" / "transforms").iterdir())
    moved = np.array([read_transform(path).map_points(points) - points for path in files])
    assert np.linalg.norm(moved.mean(axis=0), axis=-1).mean() < 0.35 * np.linalg.norm(moved, axis=-1).mean()
    cavity = next(each for each in found.record.motion.labels if each.label == CAVITY)
    assert cavity.largest_frame == 0 and cavity.smallest_frame == COUNT // 2


class Stop(Exception):
    """An interruption."""


@pytest.mark.parametrize("transform", ["rigid", "deformable"])
def test_an_interrupted_series_goes_on_with_the_same_bytes(beat: Path, tmp_path: Path, transform: str) -> None:
    seen: list[str] = []

    def upto(limit: str | None) -> None:
        def progress(stage: str, _share: float) -> None:
            seen.append(stage)
            if stage == limit:
                raise Stop

        options = (
            SeriesOptions(to="mean", threads=1)
            if transform == "rigid"
            else SeriesOptions(transform="deformable", model="none", effort="fast", threads=1)
        )
        run = maxca.series if transform == "rigid" else maxca.organ_motion
        run(beat / "cine.nii.gz", tmp_path / name, options, progress=progress)  # type: ignore[operator]

    verb = "aligning" if transform == "rigid" else "registering"
    name = "once"
    upto(None)
    name = "twice"
    with pytest.raises(Stop):
        upto(f"{verb} frame 4")
    left = tmp_path / ".twice.unfinished"
    assert left.is_dir() and not (tmp_path / "twice").exists()
    kept = sorted(left.rglob("*.npy")) or (left / "pass-0.jsonl").read_text().splitlines()
    assert len(kept) == 4
    upto(f"writing frame {COUNT}")
    assert not left.exists()
    one, two = (
        {
            str(path.relative_to(tmp_path / each)): path.read_bytes()
            for path in (tmp_path / each).rglob("*.*")
            if path.name != "result.json"
        }
        for each in ("once", "twice")
    )
    assert one == two


def test_what_another_command_left_is_not_used(beat: Path, tmp_path: Path) -> None:
    def stop(stage: str, _share: float) -> None:
        if stage == "aligning frame 3":
            raise Stop

    with pytest.raises(Stop):
        maxca.series(beat / "cine.nii.gz", tmp_path / "out", SeriesOptions(threads=1), progress=stop)
    with pytest.raises(Stop):
        maxca.series(beat / "cine.nii.gz", tmp_path / "out", SeriesOptions(to=1, threads=1), progress=stop)
    rows = (tmp_path / ".out.unfinished" / "pass-0.jsonl").read_text().splitlines()
    assert len(rows) == 3 and json.loads(rows[1])[0] == pytest.approx(np.eye(4), abs=0.01)


def test_a_strain_is_that_of_the_known_map() -> None:
    """The wall of a tube whose inner radius shrinks, in a plane of constant area: circumferential and radial strain."""
    where = phantoms.grid((1.0, 1.0, 8.0), extent=64.0)
    nodes = phantoms.nodes(where)
    region = LabelRegion.of(ventricle(nodes), where)
    meter = StrainMeter(region)
    assert meter.ventricle is not None and meter.ventricle.wall == WALL and meter.ventricle.cavity == CAVITY
    radius = np.maximum(np.linalg.norm(nodes[..., :2], axis=-1), 8.0)
    there = np.sqrt(radius**2 - 40)
    moved = nodes * np.stack([there / radius] * 2 + [np.ones_like(radius)], axis=-1) - nodes
    chain = Chain((DenseField(torch.as_tensor(np.moveaxis(moved, -1, 0), dtype=torch.float32), where),))
    found = meter(chain)[WALL]
    inside = (ventricle(nodes) == WALL) & (radius > 11)
    around, across = there[inside] / radius[inside], radius[inside] / there[inside]
    assert found.circumferential == pytest.approx(((around**2 - 1) / 2).mean(), rel=0.1)
    assert found.radial == pytest.approx(((across**2 - 1) / 2).mean(), rel=0.2)
    assert found.longitudinal == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("thin", [0.5, 1.0, 8.0])
def test_a_slice_has_a_ventricle_whatever_its_thickness(thin: float) -> None:
    where = phantoms.grid((1.0, 1.0, thin), extent=64.0)
    where = where.box([0, 0, where.shape[2] // 2], [where.shape[0], where.shape[1], where.shape[2] // 2 + 1])
    region = LabelRegion.of(ventricle(phantoms.nodes(where)), where)
    assert region.across == 2 and region.ventricle == (CAVITY, WALL)
    radial, _, long = region.axes(region.ventricle)
    assert np.abs(long[..., 2]).min() == pytest.approx(1)
    np.testing.assert_allclose(np.linalg.norm(radial[..., :2], axis=-1)[region.labels == WALL], 1, atol=1e-6)


def test_a_nodule_in_a_lung_is_no_ventricle() -> None:
    where = phantoms.grid((2.0, 2.0, 2.0), extent=80.0)
    distance = np.linalg.norm(phantoms.nodes(where), axis=-1)
    meter = StrainMeter(LabelRegion.of(np.where(distance < 8, 2, np.where(distance < 35, 1, 0)), where))
    assert meter.ventricle is None
    found = meter(Chain((DenseField(torch.zeros(3, *where.shape), where),)))
    assert found[1].radial is None and found[1].circumferential is None


def test_fields_are_combined_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maxca.workflows.series.organ.fields.AT_ONCE", 70)
    where = phantoms.grid((20, 20, 20), extent=60)
    values = torch.randn(4, 3, *where.shape)
    stored = StoredFields(tmp_path / "a", where, 4)
    for number in range(4):
        assert number not in stored
        stored.store(number, DenseField(values[number], where))
    matrix = np.random.default_rng(1).normal(size=(4, 4))
    found = stored.combined(matrix, tmp_path / "b")
    expected = torch.einsum("st,tcijk->scijk", torch.as_tensor(matrix).float(), values)
    for number in range(4):
        np.testing.assert_allclose(found[number].displacement, expected[number], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--labels", "labels.nii.gz"), "--labels"),
        (("--cyclic",), "--cyclic"),
        (("--transform", "deformable", "--fd-threshold", 1), "--fd-threshold"),
        (("--transform", "deformable", "--to", "mean", "--labels", "labels.nii.gz"), "--labels-frame"),
        (("--transform", "deformable", "--labels-frame", 1), "--labels-frame"),
        (("--transform", "deformable", "--labels", "labels.nii.gz", "--labels-frame", 9), "--labels-frame 9"),
        (("--transform", "deformable", "--model", "brain-names"), "a segmentation model"),
        (("--transform", "deformable", "--label-table", "names.tsv"), "--label-table"),
        (("--transform", "deformable", "--labels", "empty.nii.gz"), "every voxel is 0"),
        (("--transform", "deformable", "--to", 6), "--to 6"),
    ],
)
def test_what_does_not_go_together_is_refused(
    beat: Path, tmp_path: Path, arguments: tuple[object, ...], said: str
) -> None:
    phantoms.save(beat / "empty.nii.gz", maxca.Image(np.zeros(GRID.shape, np.uint8), GRID))
    words = [beat / each if isinstance(each, str) and "." in each else each for each in arguments]
    outcome = run("series", "-i", beat / "cine.nii.gz", *words, "-o", tmp_path / "new" / "out")
    assert outcome.code != 0 and said in outcome.err and outcome.err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_each_function_names_the_other(beat: Path, tmp_path: Path) -> None:
    with pytest.raises(MaxcaError, match="organ_motion"):
        maxca.series(beat / "cine.nii.gz", tmp_path / "out", SeriesOptions(transform="deformable"))
    with pytest.raises(MaxcaError, match=r"maxca\.series"):
        maxca.organ_motion(beat / "cine.nii.gz", tmp_path / "out", SeriesOptions())
