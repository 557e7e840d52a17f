"""The page of a cohort in a real browser: filter, verdicts, sorting, CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maxca.report.cohort import write_cohort
from maxca.workflows.cohort.plan import InputFile, Plan, PlannedPair

Visit = Callable[..., Any]


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good and a folded registration, one that failed and one that is pending."""
    import cases

    folder = tmp_path_factory.mktemp("cohort")
    cases.good(folder)
    cases.folded(folder)
    files = {role: InputFile(f"/data/{role}.nii.gz") for role in ("fixed", "moving")}
    pairs = [PlannedPair(name, files, "", state="done") for name in ("good", "folded")]
    pairs += [
        PlannedPair("gone", files, "", state="failed", error='=no such file, "T1"'),
        PlannedPair("later", files, ""),
    ]
    Plan("1", {}, {}, [], pairs).write(folder)
    write_cohort(folder)
    return folder / "cohort.html"


def names(page: Any) -> list[str]:
    return page.locator("#cohort tbody tr:not([hidden]) th").all_inner_texts()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_every_pair_is_there_and_filters(cohort: Path, visit: Visit, width: int, scheme: str) -> None:
    page = visit(cohort, width, scheme)
    assert names(page) == ["gone", "later", "folded", "good"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.fill("#filter", "NO SUCH")
    assert names(page) == ["gone"] and page.inner_text("#shown") == "1 of 4"
    page.fill("#filter", "")
    page.uncheck("input[value=error]")
    page.uncheck("input[value=pending]")
    assert names(page) == ["folded", "good"]
    page.click("button:has-text('similarity')")
    assert set(names(page)) == {"folded", "good"}


def test_the_rows_shown_are_saved_as_csv(cohort: Path, visit: Visit, tmp_path: Path) -> None:
    page = visit(cohort)
    page.uncheck("input[value=failed]")
    with page.expect_download() as download:
        page.click("#csv")
    download.value.save_as(tmp_path / "cohort.csv")
    with (tmp_path / "cohort.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["gone", "later", "good"]
    assert rows[0]["why"] == '\'=no such file, "T1"' and rows[0]["Dice"] == ""
    assert 0.7 < float(rows[2]["Dice"]) <= 1
