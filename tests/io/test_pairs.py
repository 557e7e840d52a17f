"""Lists of pairs: read, written, made from scans."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maxca.errors import MaxcaError
from maxca.io.pairs import Pair, Scan, pair_up, read_pairs, split_by_subject, write_pairs


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("a.nii.gz", "b.nii.gz", "la.nii.gz"):
        (tmp_path / name).touch()
    return tmp_path


def scans(subjects: int = 3, each: int = 2) -> list[Scan]:
    return [Scan(f"{s}{n}", f"s{s}", Path(f"{s}{n}.nii"), group="EX"[n]) for s in range(subjects) for n in range(each)]


def test_csv_and_json_lists_hold_the_same(files: Path) -> None:
    (files / "pairs.csv").write_text("fixed,moving,fixed_labels,group\na.nii.gz,b.nii.gz,la.nii.gz,inter\n")
    rows = [{"fixed": "a.nii.gz", "moving": "b.nii.gz", "fixed_labels": "la.nii.gz", "group": "inter"}]
    (files / "pairs.json").write_text(json.dumps(rows))
    expected = [Pair(files / "a.nii.gz", files / "b.nii.gz", files / "la.nii.gz", group="inter")]
    assert read_pairs(files / "pairs.csv") == read_pairs(files / "pairs.json") == expected
    write_pairs(files / "again.csv", expected)
    assert read_pairs(files / "again.csv") == expected
    assert "a.nii.gz,b.nii.gz" in (files / "again.csv").read_text(), "paths beside the list are relative"


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("p.csv", "fixed,other\na.nii.gz,b.nii.gz\n", "pair 1: no moving"),
        ("p.csv", "fixed,moving\na.nii.gz,c.nii.gz\n", "moving is c.nii.gz, which does not exist"),
        ("p.csv", "fixed,moving\n", "contains no pairs"),
        ("p.json", '{"fixed": 1}', "a JSON list"),
        ("p.json", "[{", "not a JSON file"),
        ("q.csv", None, "no such list"),
    ],
)
def test_a_wrong_list_is_named(files: Path, name: str, text: str | None, complaint: str) -> None:
    if text is not None:
        (files / name).write_text(text)
    with pytest.raises(MaxcaError, match=complaint):
        read_pairs(files / name)


def test_pairs_are_ordered_and_of_one_kind() -> None:
    inter, intra = pair_up(scans(), "inter"), pair_up(scans(), "intra")
    assert len(inter) == 6 * 4
    assert len(intra) == 6
    assert {pair.group for pair in intra} == {"E-to-X", "X-to-E"}
    drawn = pair_up(scans(), "inter", count=5, seed=1)
    assert len(set(drawn)) == 5
    assert drawn == pair_up(scans(), "inter", count=5, seed=1) != pair_up(scans(), "inter", count=5, seed=2)


def test_a_split_keeps_subjects_together() -> None:
    train, val = split_by_subject(scans(10), 0.2)
    assert len({s.subject for s in val}) == 2
    assert not {s.subject for s in train} & {s.subject for s in val}
    assert len(train) + len(val) == 20
    with pytest.raises(ValueError, match="two subjects"):
        split_by_subject(scans(1), 0.5)
