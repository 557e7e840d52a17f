"""Reports in a real browser: quiet, usable by mouse and keyboard, readable by everyone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
AXE = ROOT / "viewer" / "node_modules" / "axe-core" / "axe.min.js"
Visit = Callable[..., Any]
SHOTS = os.environ.get("MAXCA_SCREENSHOTS")  # a folder to keep what was seen in


@pytest.mark.parametrize("name", ["good", "folded", "misaligned", "failed"])
@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")])
def test_a_page_fits(
    name: str, width: int, scheme: str, reports: dict[str, Path], visit: Visit, tmp_path: Path
) -> None:
    page = visit(reports[name], width, scheme)
    page.wait_for_selector("canvas[data-ready=true]", timeout=20_000)
    assert page.inner_text(".verdict strong") == ("✓ Aligned" if name == "good" else "✗ Failed")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    kept = Path(SHOTS) if SHOTS else tmp_path
    page.screenshot(path=kept / f"report-{name}-{width}-{scheme}.png", full_page=name == "good")


def test_the_swipe_follows_slider_keys_and_mouse(reports: dict[str, Path], visit: Visit) -> None:
    page = visit(reports["good"])
    share = "() => getComputedStyle(document.querySelector('.stack')).getPropertyValue('--swipe')"
    page.focus("#swipe")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(share) == "51%"
    box = page.locator(".stack").first.bounding_box()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 20)
    assert page.evaluate(share) == "25%"


def test_flicker_starts_and_stops(reports: dict[str, Path], visit: Visit) -> None:
    page = visit(reports["good"])
    page.click("#flicker")
    assert page.get_attribute("#flicker", "aria-pressed") == "true"
    page.wait_for_selector(".stack.flicker.other", timeout=3000)
    page.wait_for_selector(".stack.flicker:not(.other)", timeout=3000)
    page.click("#flicker")
    assert page.locator(".stack.flicker").count() == 0
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("f")
    assert page.locator(".stack.flicker").count() == 3


def test_slices_and_layers_change_the_pictures(reports: dict[str, Path], visit: Visit) -> None:
    page = visit(reports["good"])
    images = page.locator(".stack").first.locator("img")
    before = [images.nth(n).get_attribute("src") for n in (0, 1)]
    page.locator("figcaption input").first.focus()
    page.keyboard.press("ArrowRight")
    after = [images.nth(n).get_attribute("src") for n in (0, 1)]
    assert before[0] != after[0] and before[1] != after[1]
    page.check("input[value=before]")
    assert images.nth(0).get_attribute("src") == after[0]
    assert images.nth(1).get_attribute("src") != after[1]


def test_the_view_in_space_shows_something_and_moves(reports: dict[str, Path], visit: Visit) -> None:
    page = visit(reports["good"])
    page.wait_for_selector("canvas[data-ready=true]", timeout=20_000)
    page.wait_for_timeout(500)
    box = page.locator("#space").bounding_box()
    assert box is not None and box["height"] > 300
    page.focus("#space")
    page.keyboard.press("ArrowRight")
    first = page.inner_text("#space-where")
    assert first.startswith("crosshair at")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    before, after = (int(text.split()[2].rstrip(",")) for text in (first, page.inner_text("#space-where")))
    assert after < before  # right on the screen is the left of the patient, as in the planes
    page.locator("#space").click(position={"x": 60, "y": box["height"] / 2})  # in the axial plane, left of its middle
    assert int(page.inner_text("#space-where").split()[2].rstrip(",")) > 0
    full = page.locator("#space").screenshot()
    page.evaluate(
        "() => { const o = document.getElementById('opacity'); o.value = 0; o.dispatchEvent(new Event('input')); }"
    )
    page.wait_for_timeout(300)
    assert page.locator("#space").screenshot() != full
    assert len(full) > 10_000  # an empty canvas packs into next to nothing


def test_tables_sort(reports: dict[str, Path], visit: Visit) -> None:
    page = visit(reports["good"])
    column = (
        "() => [...document.querySelectorAll('table.sortable tbody tr')].map((row) => Number(row.cells[2].textContent))"
    )
    head = page.locator("table.sortable th button").nth(2)
    head.focus()
    page.keyboard.press("Enter")
    values = page.evaluate(column)
    assert values == sorted(values)
    page.keyboard.press("Enter")
    assert page.evaluate(column) == sorted(values, reverse=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["good", "failed"])
def test_nobody_is_shut_out(name: str, scheme: str, reports: dict[str, Path], visit: Visit) -> None:
    page = visit(reports[name], scheme=scheme)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("async () => (await axe.run()).violations")
    serious = [(v["id"], [n["target"] for n in v["nodes"]]) for v in found if v["impact"] in ("serious", "critical")]
    assert not serious


def test_a_hostile_name_is_text(tmp_path: Path, visit: Visit) -> None:
    import cases

    import maxca
    from maxca.report.case import read_case
    from maxca.report.html import write_report

    hostile = "<img src=x onerror=alert(1)>.nii.gz"
    folder = maxca.register(**cases.write_pair(tmp_path / "in", hostile), model="none", effort="fast").save(
        tmp_path / "out"
    )
    write_report(read_case(folder), folder / "report.html")
    page = visit(folder / "report.html")
    page.wait_for_timeout(500)
    assert hostile in page.inner_text("header")
    assert page.locator("img[src=x]").count() == 0
