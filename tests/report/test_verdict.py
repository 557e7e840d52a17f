"""A verdict is right about registrations whose worth is known."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cases
import pytest

from maxca.errors import MaxcaError
from maxca.report.case import read_case
from maxca.report.verdict import Verdict, judge


@pytest.mark.parametrize(
    ("make", "state", "reason"),
    [
        (cases.good, "aligned", None),
        (cases.folded, "failed", "folding"),
        (cases.misaligned, "failed", "position"),
        (cases.failed, "failed", "likeness"),
    ],
)
def test_the_verdict(make: Callable[[Path], Path], state: str, reason: str | None, tmp_path: Path) -> None:
    verdict = judge(read_case(make(tmp_path)))
    states = {check.name: check.state for check in verdict.checks}
    assert verdict.state == state, verdict
    assert reason is None or states[reason] == "failed", verdict
    assert bool(verdict.reasons) == (state != "aligned")


def test_the_worst_check_decides() -> None:
    from maxca.report.verdict import Check

    checks = [Check("a", "aligned", ""), Check("b", "check", "why"), Check("c", "aligned", "")]
    assert Verdict(tuple(checks)).state == "check"
    assert Verdict((*checks, Check("d", "failed", "so"))).state == "failed"
    assert Verdict(tuple(checks)).reasons == ["b: why"]


def test_images_that_are_gone_or_others_are_refused(tmp_path: Path) -> None:
    folder = cases.good(tmp_path)
    fixed = tmp_path / "in" / "fixed.nii.gz"
    moved = shutil.move(fixed, tmp_path / "elsewhere.nii.gz")
    with pytest.raises(MaxcaError, match="--fixed FILE"):
        read_case(folder)
    assert read_case(folder, fixed=moved).fixed.image.path == Path(moved)
    shutil.copy(tmp_path / "in" / "moving.nii.gz", fixed)
    with pytest.raises(MaxcaError, match="has changed since"):
        read_case(folder)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MaxcaError, match=r"no result\.json"):
        read_case(tmp_path)
    (tmp_path / "result.json").write_text('{"inputs": [1]}')
    with pytest.raises(MaxcaError, match="not the record"):
        read_case(tmp_path)
