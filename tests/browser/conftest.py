"""A real browser, or a clear word that there is none: ``make test-browser``."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "report"))
FLAGS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a browser unless it was asked for."""
    if os.environ.get("MAXCA_BROWSER"):
        return
    reason = "needs Chromium and Node.js: make test-browser"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "no Chromium; install it: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of a good, a folded, a misaligned and a failed registration."""
    import cases

    from maxca.report.case import read_case
    from maxca.report.html import write_report

    pages = {}
    for make in (cases.good, cases.folded, cases.misaligned, cases.failed):
        folder = make(tmp_path_factory.mktemp(make.__name__))
        pages[make.__name__] = folder / "report.html"
        write_report(read_case(folder), pages[make.__name__])
    return pages


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page, and at the end asks that nothing was complained of, nothing fetched, and no dialog shown."""
    contexts, complaints = [], []

    def see(path: Path, width: int = 1440, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        address = path.as_uri()
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: complaints.append(str(e)))
        page.on("dialog", lambda d: (complaints.append(d.message), d.dismiss()))
        page.on(
            "request",
            lambda r: complaints.append(r.url) if not r.url.startswith(("data:", "blob:", address)) else None,
        )
        page.goto(address)
        return page

    yield see
    for context in contexts:
        context.close()
    assert not [text for text in complaints if "GPU stall" not in text], complaints
