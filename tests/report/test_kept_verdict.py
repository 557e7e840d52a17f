"""A report's verdict is worked out once, kept in result.json, and is of the images that were registered."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cases
import pytest

from maxca.errors import MaxcaError
from maxca.report import kept
from maxca.report.case import read_case
from maxca.report.verdict.check import Check, Verdict

SAID = Verdict((Check("a", "aligned", ""), Check("b", "check", "why")))


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cases that were judged, each with ``SAID``."""
    done: list[str] = []

    def judge(case: kept.Case) -> Verdict:
        done.append(case.name)
        return SAID

    monkeypatch.setattr(kept, "judge", judge)
    return done


def test_a_verdict_is_worked_out_once_for_a_transform(tmp_path: Path, judged: list[str]) -> None:
    folder = cases.good(tmp_path)
    for _ in range(2):
        assert kept.verdict_of(read_case(folder)) == SAID
    assert judged == ["good"]
    record = json.loads((folder / "result.json").read_text())
    assert record["verdict"]["state"] == "check"
    assert read_case(folder).record.metrics.similarity.name == record["metrics"]["similarity"]["name"]
    shutil.copy(folder / "inverse_transform.h5", folder / "transform.h5")
    kept.verdict_of(read_case(folder))
    assert judged == ["good", "good"]


@pytest.mark.parametrize("damage", [None, 7, {"method": 1}, {"state": "fine"}, {"checks": []}, {"method": 0}])
def test_a_verdict_that_cannot_be_read_is_worked_out_again(tmp_path: Path, judged: list[str], damage: object) -> None:
    folder = cases.good(tmp_path)
    kept.verdict_of(read_case(folder))
    path = folder / "result.json"
    record = json.loads(path.read_text())
    record["verdict"] = record["verdict"] | damage if isinstance(damage, dict) and len(damage) == 1 else damage
    changed = record["verdict"] != json.loads(path.read_text())["verdict"]
    path.write_text(json.dumps(record))
    assert kept.verdict_of(read_case(folder)) == SAID
    assert len(judged) == 1 + changed


def test_images_that_are_gone_or_others_are_refused(tmp_path: Path) -> None:
    folder = cases.good(tmp_path)
    fixed = tmp_path / "in" / "fixed.nii.gz"
    moved = shutil.move(fixed, tmp_path / "elsewhere.nii.gz")
    with pytest.raises(MaxcaError, match="fixed=FILE"):
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
