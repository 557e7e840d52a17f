"""Names of folders that no list can choose, plans that are validated, shares of memory."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil
import pytest

from maxca.errors import MaxcaError
from maxca.io.pairs import Pair, read_pairs
from maxca.options import RegistrationOptions
from maxca.workflows.cohort.cluster import share_of
from maxca.workflows.cohort.naming import key_of, name_pairs
from maxca.workflows.cohort.plan import PLAN, Plan, PlannedPair, fingerprint, read_plan
from maxca.workflows.cohort.planning import make_plan

ATLAS = Path("/data/atlas.nii.gz")


def names(*moving: str, known: dict | None = None) -> list[str]:
    return name_pairs([Pair(ATLAS, Path(path)) for path in moving], known or {})


def test_names_are_those_of_the_moving_files() -> None:
    assert names("/d/sub-01_T1w.nii.gz", "/d/sub-02_T1w.mha") == ["sub-01_T1w", "sub-02_T1w"]


def test_names_have_folders_where_files_are_named_alike() -> None:
    assert names("/d/sub-01/T1.nii.gz", "/d/sub-02/T1.nii.gz") == ["sub-01_T1", "sub-02_T1"]


def test_names_have_the_fixed_image_where_it_differs() -> None:
    pairs = [Pair(Path("/d/a.nii"), Path("/d/b.nii")), Pair(Path("/d/b.nii"), Path("/d/a.nii"))]
    assert name_pairs(pairs, {}) == ["b_to_a", "a_to_b"]


def test_known_names_stay_when_a_list_grows() -> None:
    first = Pair(ATLAS, Path("/d/sub-01/T1.nii.gz"))
    assert names("/d/sub-01/T1.nii.gz", "/d/sub-02/T1.nii.gz", known={key_of(first): "T1"}) == ["T1", "sub-02_T1"]


HOSTILE = (
    *("/d/..nii.gz", "/d/../../etc/passwd", "/d/-rf.nii.gz", "/d/a b$(id).nii", "/d/\x1b[31m.nii", "/d/ü\u202e.nii"),
    *(f"/d/{'x' * 250}.nii", "/d/plan.json", "/d/.nii.gz", "/d/<img src=x>.nii"),
)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_become_safe_and_unique(hostile: str, tmp_path: Path) -> None:
    found = names(hostile, hostile + ".nii", "/e/" + hostile[3:], "/d/T1.nii.gz", "/d/t1.nii.gz")
    assert len({name.lower() for name in found}) == 5
    for name in found:
        assert os.path.dirname(os.path.abspath(tmp_path / name)) == str(tmp_path)
        assert name.replace("-", "").replace("_", "").isascii() and "." not in name and name[0] != "-"
        Plan("1", {}, {}, [], [PlannedPair(name, {}, "")]).write(tmp_path)
        assert read_plan(tmp_path).pairs[0].name == name


@pytest.mark.parametrize("name", ["../out", "/etc", "a/b", "", ".", "..", "-x", "a.b", "x" * 300])
def test_a_plan_with_other_names_is_refused(name: str, tmp_path: Path) -> None:
    pair = {"name": name, "inputs": {}, "fingerprint": ""}
    (tmp_path / PLAN).write_text(json.dumps({"maxca": "1", "versions": {}, "options": {}, "pairs": [pair]}))
    with pytest.raises(MaxcaError, match=r"plan\.json.*choose another folder"):
        read_plan(tmp_path)


def test_fingerprints_follow_contents_and_options_not_paths(tmp_path: Path) -> None:
    for name, text in (("a", "1"), ("b", "2"), ("c", "2")):
        (tmp_path / f"{name}.nii").write_text(text)
    a, b, c = (tmp_path / f"{name}.nii" for name in "abc")

    def of(pair: Pair, **options: object) -> str:
        return make_plan([pair], RegistrationOptions(**options)).pairs[0].fingerprint  # type: ignore[arg-type]

    assert of(Pair(a, b)) == of(Pair(a, c)) != of(Pair(b, a))
    assert of(Pair(a, b), effort="fast") != of(Pair(a, b))
    assert of(Pair(a, b, moving_mask=c)) != of(Pair(a, b, fixed_mask=c))
    assert of(Pair(a, b), initial_transform=str(b)) == of(Pair(a, b), initial_transform=str(c))
    assert of(Pair(a, b), initial_transform=str(a)) != of(Pair(a, b), initial_transform=str(c))


def test_an_option_that_a_new_version_adds_leaves_finished_pairs_as_they_are() -> None:
    assert fingerprint({}, {"effort": "balanced", "guide": [], "later": None}, ()) == fingerprint({}, {}, ())
    assert fingerprint({}, {"effort": "fast"}, ()) != fingerprint({}, {}, ())


def test_unchanged_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.nii").write_text(name)
    pair, options = Pair(tmp_path / "a.nii", tmp_path / "b.nii"), RegistrationOptions()
    first = make_plan([pair], options)
    read: list[Path] = []
    monkeypatch.setattr("maxca.workflows.cohort.planning.sha256", lambda path: read.append(path) or "0" * 64)
    assert make_plan([pair], options, previous=first) == first and not read
    (tmp_path / "b.nii").write_text("longer")
    assert make_plan([pair], options, previous=first) != first and read == [tmp_path / "b.nii"]


def test_one_fixed_image_for_all(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("moving,group\na.nii.gz,x\nb.nii.gz,y\n")
    pairs = read_pairs(tmp_path / "pairs.csv", {"fixed": ATLAS}, present=False)
    assert [pair.fixed for pair in pairs] == [ATLAS, ATLAS] and pairs[1].moving == tmp_path / "b.nii.gz"
    (tmp_path / "pairs.csv").write_text("fixed,moving\na.nii.gz,b.nii.gz\n")
    with pytest.raises(MaxcaError, match="has a column fixed"):
        read_pairs(tmp_path / "pairs.csv", {"fixed": ATLAS}, present=False)


def test_workers_fit_into_the_memory() -> None:
    free = psutil.virtual_memory().available / 1e9
    assert share_of(3, 1, 0.001).workers == 3
    assert share_of(64, 1, 0.3, limit_gb=3.05).workers == 3  # 0.3 GB for the pair and 0.7 GB for the worker
    few = share_of(64, 1, free / 3)
    assert few.workers < 4 and few.workers * few.memory <= free * 1.1e9 and "of workers=64" in few.reason
    assert share_of(None, 1, 10 * free) == (1, 0, "")
