"""``maxca report`` and ``register --report``."""

from __future__ import annotations

import sys
from pathlib import Path

from commands import run

sys.path.append(str(Path(__file__).parents[1] / "report"))

import cases


def test_a_registration_ends_in_a_page(tmp_path: Path) -> None:
    files = cases.write_pair(tmp_path / "in")
    out = tmp_path / "out"
    first = run(
        *("register", "-f", files["fixed"], "-m", files["moving"], "-o", out),
        *("--effort", "fast", "--model", "none", "--report"),
    )
    assert first.code == 0, first.err
    assert f"{out / 'report.html'}: aligned" in first.out
    again = run("report", out)
    assert again.code == 0
    assert again.out.strip() == f"{out / 'report.html'}: aligned"


def test_what_is_no_output_folder_is_refused_in_a_line(tmp_path: Path) -> None:
    outcome = run("report", tmp_path)
    assert outcome.code == 1
    assert outcome.err.strip().splitlines() == [
        f"maxca: error: {tmp_path}: no result.json; pass an output folder of maxca register"
    ]
    assert not list(tmp_path.iterdir())
