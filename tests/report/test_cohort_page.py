"""Many registrations on one page, and the pictures alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import cases
import pytest
from PIL import Image

from maxca.errors import MaxcaError
from maxca.report.case import read_case
from maxca.report.cohort import outlyingness, prepare_row, write_cohort
from maxca.report.figures import write_figures


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two that are well, one that folds, and one whose fixed image is gone."""
    folder = tmp_path_factory.mktemp("cohort")
    good = cases.good(folder / "a")
    cases.folded(folder / "b")
    shutil.copytree(good, folder / "c" / "again")
    lost = cases.good(folder / "d")
    (folder / "d" / "in" / "fixed.nii.gz").unlink()
    assert lost.is_dir()
    return folder


def test_what_needs_a_look_comes_first(cohort: Path) -> None:
    rows = write_cohort(cohort, pages=True)
    assert [row.state for row in rows] == ["failed", "failed", "aligned", "aligned"]
    assert {row.name for row in rows[:2]} == {"b/folded", "d/good"}
    lost = next(row for row in rows if row.name == "d/good")
    assert lost.reasons[0].startswith("cannot be assessed") and "fixed.nii.gz" in lost.reasons[0]
    page = (cohort / "cohort.html").read_text(encoding="utf-8")
    assert page.count("<tr>") == 1 + 4
    assert page.index("b/folded") < page.index("a/good")
    assert 'href="c/again/report.html"' in page
    assert (cohort / "c" / "again" / "report.html").is_file()


def test_prepared_results_need_no_images(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(cohort / "a" / "good", tmp_path / "good")
    drawn = write_cohort(tmp_path)[0]
    prepare_row(tmp_path / "good")
    monkeypatch.setattr("maxca.report.cohort.read_case", None)
    row = write_cohort(tmp_path)[0]
    assert row.thumbnail and drawn.thumbnail and (row.thumbnail.array == drawn.thumbnail.array).all()
    assert (row.state, row.reasons, row.numbers) == (drawn.state, drawn.reasons, drawn.numbers)


def test_a_folder_without_any_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MaxcaError, match="no output folder"):
        write_cohort(tmp_path)


def test_outliers_are_on_the_bad_side() -> None:
    usual = {"similarity": 0.8, "dice": float("nan"), "ndv": 0.0, "inverse_mm": 0.1}
    rows = [usual | {"similarity": 0.8 + 0.01 * n} for n in (-1, 0, 1, 0, -1)]
    far = outlyingness([*rows, usual | {"similarity": 0.5}, usual | {"similarity": 0.99}])
    assert max(far) == far[5] > 10
    assert far[6] == 0


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_pictures_alone(kind: str, cohort: Path, tmp_path: Path) -> None:
    written = write_figures(read_case(cohort / "a" / "good"), tmp_path, kind)
    assert {path.stem for path in written} == {"images", "checkerboard", "difference", "deformation", "labels"}
    for path in written:
        if kind == "png":
            assert min(Image.open(path).size) > 300
        else:
            assert path.read_text(encoding="utf-8").rstrip().endswith("</svg>")
