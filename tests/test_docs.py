"""The code in the documentation runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from maxca.blocks import BLOCKS

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "```python" in page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_snippet_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    known = set(BLOCKS)  # a page may add its own
    snippets = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, object] = {"__name__": "page"}
    try:
        for number, snippet in enumerate(snippets):
            exec(compile(snippet, f"{page.name}, snippet {number + 1}", "exec"), names)
    finally:
        for name in set(BLOCKS) - known:
            del BLOCKS[name]


def test_there_are_pages_to_run() -> None:
    assert {"maxca", "your-own-block"} <= {page.stem for page in PAGES}
