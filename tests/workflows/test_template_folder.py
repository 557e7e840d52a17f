"""The folder of a template: resumed, continued, refused and replaced, with transforms of the plane for 2-D scans."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import phantoms
import pytest
import SimpleITK as sitk

import maxca
from maxca.cli.main import main
from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain
from maxca.io.images import Image, read
from maxca.options import RegistrationOptions
from maxca.report.charts import over_steps
from maxca.workflows.cohort.options import CohortOptions
from maxca.workflows.cohort.plan import read_plan
from maxca.workflows.template.average import overlap
from maxca.workflows.template.options import TemplateOptions
from maxca.workflows.template.record import read_record
from maxca.workflows.template.shape import mirror_of
from maxca.workflows.template.symmetry import onto_plane

SIZE = 48
ONE_THREAD = RegistrationOptions(effort="fast", model="none", threads=1)
COARSE = phantoms.grid((4.0, 4.0, 4.0), 84.0)


def slice_of(number: int) -> sitk.Image:
    """A slice through the phantom, of another size and at another place for each number; 1 mm, two dimensions."""
    x, y = np.meshgrid(np.arange(SIZE) - 23.5, np.arange(SIZE) - 23.5)
    across = np.stack([x - 2 * number, y + number, np.full_like(x, 3.0)], axis=-1) / (0.9 + 0.1 * number) * 1.6
    return sitk.GetImageFromArray(phantoms.scene(across).astype(np.float32))


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three scans of two dimensions."""
    folder = tmp_path_factory.mktemp("slices")
    for number in range(3):
        sitk.WriteImage(slice_of(number), str(folder / f"p{number}.nii.gz"))
    return [folder / f"p{number}.nii.gz" for number in range(3)]


@pytest.fixture(scope="module")
def flat(slices: list[Path], tmp_path_factory: pytest.TempPathFactory, address: str) -> Path:
    """A finished template of them, of two iterations."""
    out = tmp_path_factory.mktemp("flat") / "out"
    assert build(slices, out, address).record.scans
    return out


@pytest.fixture
def finished(slices: list[Path], tmp_path: Path, address: str) -> Path:
    """Another one, which may be changed."""
    return build(slices, tmp_path / "out", address).folder


def build(files: list[Path], out: Path, address: str, iterations: int = 2, **more: object) -> maxca.Template:
    options = TemplateOptions(iterations=iterations, sharpen=bool(more.pop("sharpen", False)))
    return maxca.build_template(files, out, options, ONE_THREAD, CohortOptions(scheduler=address), **more)


def content(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_transforms_of_2d_scans_have_two_dimensions_in_itk(slices: list[Path], flat: Path) -> None:
    template = sitk.ReadImage(str(flat / "template.nii.gz"), sitk.sitkFloat32)
    assert template.GetDimension() == 2
    inside = sitk.GetArrayFromImage(template) > 300
    for path in slices:
        transform = sitk.ReadTransform(str(flat / "transforms" / f"{path.name[:2]}.h5"))
        back = sitk.ReadTransform(str(flat / "transforms" / f"{path.name[:2]}_inverse.h5"))
        assert transform.GetDimension() == back.GetDimension() == 2
        warped = sitk.Resample(sitk.ReadImage(str(path), sitk.sitkFloat32), template, transform, sitk.sitkLinear)
        both = sitk.GetArrayFromImage(warped)[inside], sitk.GetArrayFromImage(template)[inside]
        assert np.corrcoef(*both)[0, 1] > 0.9
    starts = sorted((flat / "iterations/01/starts").glob("*.tfm"))
    assert [sitk.ReadTransform(str(path)).GetDimension() for path in starts] == [2, 2, 2]


def test_a_template_of_other_scans_or_options_is_refused_or_replaced(
    slices: list[Path], finished: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(finished)
    with pytest.raises(MaxcaError, match=r"has a template of other options \(sharpen\); choose another folder"):
        build(slices, finished, address, sharpen=True)
    assert main(["template", *map(str, slices[:2]), "-o", str(finished), "--iterations", "2", "--threads", "1"]) == 1
    said = capsys.readouterr().err.strip()
    assert said.endswith("has a template of other scans; choose another folder, or pass --overwrite")
    assert content(finished) == before
    made = build(slices[:2], finished, address, overwrite=True)
    assert {path.name[:2] for path in (finished / "transforms").iterdir()} == {"p0", "p1"} == set(made.chains)
    assert {path.name for path in (finished / "iterations/00/registrations").iterdir() if path.is_dir()} == {"p0", "p1"}
    assert set(read_record(finished).scans) == {"p0", "p1"}


def test_a_scan_of_other_content_is_another_scan(slices: list[Path], flat: Path, tmp_path: Path) -> None:
    for path in slices:
        shutil.copy(path, tmp_path)
    sitk.WriteImage(slice_of(5), str(tmp_path / "p1.nii.gz"))
    with pytest.raises(MaxcaError, match="has a template of other scans"):
        build([tmp_path / path.name for path in slices], flat, "tcp://127.0.0.1:1")


def test_an_interrupted_continuation_leaves_no_old_outputs_and_resumes(
    slices: list[Path], finished: Path, address: str
) -> None:
    (finished / "report.html").write_text("of two iterations")

    def interrupt(stage: str, _share: float) -> None:
        if (finished / "iterations/02/registrations/plan.json").exists() and "done" in stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(slices, finished, address, iterations=3, progress=interrupt)
    assert {path.name for path in finished.iterdir()} == {"iterations", "iterations.tsv", "template.json"}
    assert read_record(finished).bias_mm is None and len(read_record(finished).iterations) == 2
    first = {path: path.stat().st_mtime_ns for path in finished.glob("iterations/*/registrations/*/transform.h5")}
    assert len(first) >= 6
    made = build(slices, finished, address, iterations=3)
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert len(made.record.iterations) == 3 and len(list((finished / "transforms").iterdir())) == 6


def test_scans_that_failed_are_tried_again(slices: list[Path], finished: Path, address: str) -> None:
    place = finished / "iterations/01/registrations"
    plan = read_plan(place)
    shutil.rmtree(place / "p1")
    pairs = [replace(p, state="failed", error="its worker ended") if p.name == "p1" else p for p in plan.pairs]
    replace(plan, pairs=pairs).write(place)
    said: list[str] = []
    assert set(build(slices, finished, address, warn=said.append).chains) == {"p0", "p1", "p2"} and not said


def test_dice_is_that_of_pairs_with_labels_in_common_of_any_size() -> None:
    def labels(*values: int) -> Image:
        data = np.zeros(COARSE.shape, np.int64)
        for number, value in enumerate(values):
            data[4 * number : 4 * number + 4] = value
        return Image(data, COARSE)

    large = 2**32 + 7  # 7, if it were stored in 32 bits
    scans = [labels(large, 2), labels(large, 7), labels(9), labels(7)]
    found = overlap(scans, [Chain()] * 4, COARSE)
    # In common: scans 0 and 1 at the same place, 1 and 3 apart; the other four pairs have nothing to compare.
    assert found == (0.5, 6, 4)
    assert overlap([labels(1), labels(2)], [Chain()] * 2, COARSE) == (None, 1, 1)


def test_a_chart_of_unknown_values_is_drawn() -> None:
    unknown = np.array([np.nan])
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(RuntimeWarning)
        assert "<svg" in over_steps({"motion": unknown}, "Motion", "iteration", "mm")
    assert "<svg" in over_steps({"shape": np.array([2.0]), "motion": unknown}, "Motion", "iteration", "mm")


def tilted(number: int) -> Affine:
    """From a template to a scan far from the middle of its grid, and tilted."""
    matrix = np.eye(4)
    angle = 0.15 + 0.05 * number
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = 14.0, 3.0 * number, 2.0
    return Affine(matrix)


def halves(points: np.ndarray) -> np.ndarray:
    """Two bright balls in an ellipsoid: equal halves."""
    folded = np.abs(points[..., 0])
    body = np.linalg.norm(points / [20, 26, 16], axis=-1) < 1
    spot = np.linalg.norm(np.stack([folded - 9, points[..., 1] - 8, points[..., 2]], axis=-1), axis=-1) < 5
    return 100.0 * body + 100 * spot


def test_the_plane_of_symmetry_is_found_far_from_the_middle() -> None:
    image = phantoms.image(COARSE, lambda p: tilted(0).inverse()[0].map_points(p), halves)
    half = onto_plane(image, mirror_of(COARSE))
    middle = np.array([[0.0, y, z] for y in (-20, 0, 20) for z in (-10, 10)])
    anatomy = tilted(0).inverse()[0].map_points(half.map_points(middle))
    assert np.abs(anatomy[:, 0]).max() < 0.8  # mm; points of the middle plane of the grid are of that of the anatomy


def test_a_symmetric_template_of_scans_off_the_middle_is_not_double(tmp_path: Path, address: str) -> None:
    files = []
    for number in range(2):
        seeing = lambda p, n=number: tilted(n).inverse()[0].map_points(p)  # noqa: E731
        files.append(phantoms.save(tmp_path / f"h{number}.nii.gz", phantoms.image(COARSE, seeing, halves)))
    options, where = TemplateOptions(iterations=1, symmetric=True), CohortOptions(scheduler=address)
    made = maxca.build_template(files, tmp_path / "out", options, ONE_THREAD, where)
    data, scan = made.image.data, read(files[0]).data
    np.testing.assert_allclose(data, data[::-1], atol=1e-2)
    inside = (data > 300).sum() * made.image.grid.voxel_volume
    assert inside == pytest.approx((scan > 50).sum() * COARSE.voxel_volume, rel=0.1)  # twice that, if it were double
    assert data.max() > 0.8 * 1000
