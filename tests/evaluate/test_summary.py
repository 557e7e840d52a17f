"""Tables and figures from rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maxca.evaluate import figures
from maxca.evaluate.rows import LABEL_COLUMNS, SUMMARY_COLUMNS, append, read_rows
from maxca.evaluate.summary import comparisons, markdown, summary

FOLDING = ("ndv_percent", "nonpositive_percent", "sdlogj")


def row(method: str, pair: int, dice: float | str, error: str = "") -> dict[str, Any]:
    number = dice if error else 0.5
    return {
        "set": "brain", "pair": pair, "fixed": "a", "moving": "b", "method": method, "dice": dice, "dice_before": 0.25,
        "hd95_mm": number, "ndv_percent": number, "nonpositive_percent": number, "sdlogj": number,
        "seconds": 10.0 * (pair + 1), "peak_mb": 900.0, "threads": 2, "error": error,
    }  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "out.csv"
    append(path, [row("greedy", n, 0.5 + 0.01 * n) for n in range(8)])
    append(path, [row("syn", n, 0.52 + 0.011 * n) for n in range(7)])
    append(path, [row("syn", 7, "", "it fell over"), row("greedy@2", 0, 0.4), row("greedy@1", 0, 0.45)])
    return path


def test_the_table_has_means_intervals_tests_and_failures(table: Path) -> None:
    rows = read_rows(table)
    text = markdown(rows)
    assert "**brain**: 8 pairs, Dice before 0.2500, 2 threads; mean" in text
    assert "0.2500, 1 thread; mean" in markdown([{**r, "threads": "1"} for r in rows])
    assert "| greedy | 8 | 0.5350 ± 0.0245 [" in text
    assert "45.0 ± 24.5 | 900 ± 0 | 0 |" in text
    assert "| syn | 7 |" in text and "| 1 |" in text
    assert "TRE" not in text, "a score that no row has"
    assert "Paired difference in Dice from greedy" in text
    against_syn = comparisons(rows, "syn")
    assert against_syn["greedy"].pairs == 7
    assert against_syn["greedy"].difference.mean == pytest.approx(-0.023)
    assert against_syn["greedy"].p_holm == pytest.approx(3 * against_syn["greedy"].p)
    assert comparisons(rows, "greedy")["syn"].effect == 1


def test_the_summary_has_a_row_for_each_method_and_score(table: Path, tmp_path: Path) -> None:
    rows = read_rows(table)
    append(tmp_path / "summary.csv", summary(rows, "syn"), SUMMARY_COLUMNS)
    found = {(r["method"], r["score"]): r for r in read_rows(tmp_path / "summary.csv", SUMMARY_COLUMNS)}
    assert {score for _, score in found} == {"dice", "dice_before", "hd95_mm", *FOLDING, "seconds", "peak_mb"}
    greedy, expected = found["greedy", "dice"], comparisons(rows, "syn")["greedy"]
    assert (greedy["pairs"], greedy["mean"], greedy["both"], greedy["against"]) == ("8", "0.535", "7", "syn")
    assert float(greedy["difference_high"]) == pytest.approx(expected.difference.high, rel=1e-5)
    assert float(greedy["p_holm"]) == pytest.approx(expected.p_holm, rel=1e-5)
    assert found["syn", "dice"]["pairs"] == "7", "a failure is no score"
    assert found["syn", "dice"]["against"] == "", "not against itself"
    assert found["greedy", "seconds"]["effect"] == "0", "both took as long"


def test_methods_that_never_differ_have_no_p(tmp_path: Path) -> None:
    append(tmp_path / "out.csv", [row(method, n, 0.5 + 0.01 * n) for method in ("a", "b") for n in range(5)])
    assert "| b | 5 | +0.0000 [+0.0000, +0.0000] | – | +0.00 |" in markdown(read_rows(tmp_path / "out.csv"))


def test_figures_are_pictures(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = read_rows(table)
    figures.against_time(rows, tmp_path / "time.png")
    figures.against_folding(rows, tmp_path / "folding.svg")
    labels = [row(m, n, 0.5) | {"label": n % 3, "msd_mm": 1.0} for m in ("a", "b") for n in range(9)]
    append(tmp_path / "labels.csv", labels, LABEL_COLUMNS)
    figures.by_label(read_rows(tmp_path / "labels.csv", LABEL_COLUMNS), tmp_path / "labels.png")
    for name in ("time.png", "labels.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert 'id="axes_2"' in (tmp_path / "folding.svg").read_text(), "several smoothnesses have a panel of their own"
    figures.against_folding([r for r in rows if "@" not in r["method"]], tmp_path / "folding.svg")
    assert 'id="axes_2"' not in (tmp_path / "folding.svg").read_text()
