"""The page: whole, safe, and of the size it should be. Whether it works in a browser is tested in ``tests/browser``."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import cases
import numpy as np
import phantoms
import pytest

import maxca
from maxca.geometry import Grid
from maxca.io.form import Form
from maxca.io.images import Image
from maxca.report.case import read_case
from maxca.report.html import write_report

HOSTILE = "<img src=x onerror=alert(1)>.nii.gz"


class Tags(HTMLParser):
    """Start tags with their attributes, and all text outside scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    files = cases.write_pair(folder / "in", HOSTILE)
    points = {f"{side}_points": str(folder / "in" / f"{side}.csv") for side in ("fixed", "moving")}
    maxca.register(**files, **points, model="none", effort="fast").save(folder / "out")
    write_report(read_case(folder / "out"), folder / "out" / "report.html")
    return (folder / "out" / "report.html").read_text(encoding="utf-8")


def test_nothing_is_fetched(page: str) -> None:
    for tag, attributes in Tags(page).tags:
        for name in ("src", "href", "action"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:", "#")), (tag, address)
    assert not re.search(r"url\((?!data:|#)", page.split("<script", 1)[0])


def test_a_file_name_stays_text(page: str) -> None:
    tags = Tags(page)
    assert HOSTILE in tags.text
    assert not [a for tag, a in tags.tags if tag == "img" and "onerror" in a]


def test_all_parts_are_there(page: str) -> None:
    text = " ".join(Tags(page).text.split())
    for words in ("Aligned", "Checkerboard", "Difference, before and after", "Deformation", "Labels", "Landmarks"):
        assert words in text
    assert "Target registration error" in text
    assert page.count('class="stack"') == 3
    assert len(page) < 15e6


def test_pictures_have_words(page: str) -> None:
    assert all(a.get("alt") for tag, a in Tags(page).tags if tag == "img")


def test_a_slice_has_one_plane(tmp_path: Path) -> None:
    plane = Grid((64, 56, 1), np.diag([1.0, 1.0, 5.0, 1.0]))
    rows, columns = np.indices((64, 56))
    blob = 800 * np.exp(-(((rows - 30) / 14) ** 2 + ((columns - 28) / 11) ** 2)) * (1 + 0.3 * np.sin(rows / 3))
    images = [
        Image(np.roll(blob, n, axis=0)[..., None].astype(np.int16), plane, form=Form(dimension=2)) for n in (0, 2)
    ]
    paths = [str(phantoms.save(tmp_path / f"{name}.nii.gz", one)) for name, one in zip(("f", "m"), images, strict=True)]
    folder = maxca.register(*paths, model="none", effort="fast").save(tmp_path / "out")
    write_report(read_case(folder), folder / "report.html")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count('class="stack"') == 1
    assert 'id="space"' not in page
