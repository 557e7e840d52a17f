"""Text of any origin, in every field of a record and in names of files and folders, stays text on every page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import phantoms
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import maxca
from maxca.registration.record import LevelSummary
from maxca.report import charts
from maxca.report.case import read_case
from maxca.report.cohort import write_cohort
from maxca.report.html import write_report

MARK = "zqx"
HOSTILE = (
    f"\"'><script>{MARK}()</script><img src=x {MARK} onerror={MARK}()>",
    f"</title></style></script><svg {MARK}><{MARK}>",
    f"' {MARK}=1 onload={MARK}() x='",
    f"{{{{ {MARK} }}}}{{% raw %}}<!-- {MARK} --><![CDATA[<{MARK}>]]>",
    f"$\\frac{{{MARK}$ \x1b[31m\n\u202e\ud800<{MARK}>&#60;{MARK}>",
)
KEPT = {"path", "sha256"}  # of the images, which must be found


class Elements(HTMLParser):
    """Elements with their attributes, and the text of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "script" and "type" not in self.found[-1][1]:
            self.scripts.append(data)

    def names(self) -> set[tuple[str, str]]:
        return {(tag, name) for tag, attributes in self.found for name in ("", *attributes)}


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    where = phantoms.grid((4.0, 4.0, 4.0))
    files = {
        "fixed": phantoms.save(folder / "<img src=x onerror=zqx()>.nii.gz", phantoms.image(where, phantoms.bend)),
        "moving": phantoms.save(folder / "\"'$\\frac$[bold]\n.nii.gz", phantoms.image(where)),
        "fixed_labels": phantoms.save(folder / "fl.nii.gz", phantoms.image(where, phantoms.bend, phantoms.regions)),
        "moving_labels": phantoms.save(folder / "ml.nii.gz", phantoms.image(where, what=phantoms.regions)),
    }
    named = {role: str(path) for role, path in files.items()}
    return maxca.register(**named, model="none", effort="fast").save(folder / "out")


def page_of(registered: Path, place: Path, record: dict[str, Any]) -> str:
    shutil.copytree(registered, place)
    (place / "result.json").write_text(json.dumps(record))
    write_report(read_case(place), place / "report.html")
    return (place / "report.html").read_text(encoding="utf-8")


def spoiled(value: Any, text: str, key: str = "") -> Any:
    """Every text replaced, names of versions and of stages too."""
    if isinstance(value, dict):
        free = key in ("versions", "seconds")
        return {text + k if free and not n else k: spoiled(v, text, k) for n, (k, v) in enumerate(value.items())}
    if isinstance(value, list):
        return [spoiled(one, text, key) for one in value]
    return text if isinstance(value, str) and key not in KEPT else value


def check(page: str, usual: Elements) -> None:
    found = Elements(page)
    assert not [name for pair in found.names() for name in pair if MARK in name]
    assert not [name for _, name in found.names() if name.startswith("on")]
    assert found.names() <= usual.names()
    assert found.scripts == usual.scripts
    assert found.found[0] == usual.found[0] and "</html>" in page[-10:]


def warned(registered: Path) -> dict[str, Any]:
    return json.loads((registered / "result.json").read_text()) | {"warnings": ["a warning"]}


@pytest.fixture(scope="module")
def usual(registered: Path, tmp_path_factory: pytest.TempPathFactory) -> Elements:
    """The page of the registration as it is."""
    return Elements(page_of(registered, tmp_path_factory.mktemp("usual") / "out", warned(registered)))


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_text_in_every_field_is_no_element(registered: Path, usual: Elements, tmp_path: Path, number: int) -> None:
    record = warned(registered)
    page = page_of(registered, tmp_path / f"{MARK}<b {MARK}>", spoiled(record, HOSTILE[number]))
    assert page.count(MARK) > 10
    check(page, usual)
    policy = next(a["content"] for tag, a in usual.found if tag == "meta" and "http-equiv" in a)
    scripts = re.search(r"script-src ([^;]*)", policy or "")
    assert scripts and "'unsafe-inline'" not in scripts[1]
    own = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in own]
    assert digests and all(f"'sha256-{digest}'" in scripts[1] for digest in digests)


def test_a_cohort_of_hostile_names(registered: Path, tmp_path: Path) -> None:
    record = json.loads((registered / "result.json").read_text())
    for place in ("usual/a", "usual/b", f"other/<img {MARK} onerror={MARK}()>", f"other/javascript:{MARK}()\n\x1b\"'="):
        shutil.copytree(registered, tmp_path / place)
    (tmp_path / "usual" / "b" / "result.json").write_text("{}")
    broken = spoiled(record, HOSTILE[0]) | {"levels": [{"spacing": HOSTILE[0]}]}
    (tmp_path / f"other/<img {MARK} onerror={MARK}()>" / "result.json").write_text(json.dumps(broken))
    pages = []
    for name in ("usual", "other"):
        rows = write_cohort(tmp_path / name, pages=True)
        assert [row.rank for row in rows].count(2) >= 1 and len(rows) == 2
        pages.append((tmp_path / name / "cohort.html").read_text(encoding="utf-8"))
    check(pages[1], Elements(pages[0]))


@cache
def names_in_a_drawing() -> set[tuple[str, str]]:
    return Elements(charts.curves([LevelSummary([1, 1, 1], [0.1, 0.2])], "lncc")).names()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(st.text(max_size=80), st.text(alphabet="<>\"'&$\\{}^_/= \x00\x1b\n#ab", max_size=80)))
def test_any_name_in_a_drawing(name: str) -> None:
    usual = names_in_a_drawing()
    drawn = Elements(charts.curves([LevelSummary([1, 1, 1], [0.1, 0.2])], name))
    assert drawn.names() <= usual and usual - drawn.names() <= optional()


def optional() -> set[tuple[str, str]]:
    """What a drawing lacks whose label is empty."""
    return {("text", ""), ("text", "style"), ("text", "x"), ("text", "y"), ("text", "transform")}


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from leaves(one, (*path, key))


WRONG = (None, "x", -1, 1.5, [], {}, [[]], True, 10**400, "\u0000")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_wrong_field_is_named(
    registered: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    from maxca.errors import MaxcaError
    from maxca.registration.record import read_record

    record = json.loads((registered / "result.json").read_text())
    record["levels"] = [{**level, "similarity": level["similarity"][:2]} for level in record["levels"]]
    path = data.draw(st.sampled_from([one for one in leaves(record) if one]))
    target = record
    for key in path[:-1]:
        target = target[key]
    if data.draw(st.booleans()):
        target[path[-1]] = data.draw(st.sampled_from(WRONG))
    else:
        del target[path[-1]]
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "result.json").write_text(json.dumps(record))
    try:
        read_record(folder)
    except MaxcaError as error:
        named = [str(part) for part in path if isinstance(part, str)]
        assert "result.json" in str(error) and any(part in str(error) for part in named)
        assert len(str(error)) < 500 and str(error).isprintable()


@pytest.mark.parametrize("text", ["", "null", "[" * 100_000, '{"a":' * 100_000, "\xff", "{}", '{"inputs": 1}', "NaN"])
def test_what_is_no_record(tmp_path: Path, text: str) -> None:
    from maxca.errors import MaxcaError

    (tmp_path / "result.json").write_text(text, encoding="latin-1")
    with pytest.raises(MaxcaError, match=r"result\.json: .*; run maxca register again"):
        read_case(tmp_path)
