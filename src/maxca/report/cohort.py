"""One page for many registrations, those that need inspection first."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import numpy as np
from PIL import Image

from maxca.errors import MaxcaError, one_line, printable
from maxca.io.atomic import RESULT_FILE, atomic_path
from maxca.registration.record import read_record
from maxca.report.case import Case, read_case
from maxca.report.html import REPORT, own, sources, templates, write_report
from maxca.report.kept import kept_verdict, verdict_of
from maxca.report.parts import Picture, Shown
from maxca.report.pictures import checkerboard
from maxca.report.planes import planes
from maxca.report.verdict.check import ORDER, State
from maxca.version import installed_version
from maxca.workflows.cohort.plan import PLAN, read_plan

PAGE, THUMBNAIL = "cohort.html", "thumbnail.png"
WIDTH = 168  # pixels of a thumbnail, shown at half the size
EntryState = State | Literal["error", "pending"]  # a pair without a result has no verdict
STATES: tuple[EntryState, ...] = (*ORDER, "pending", "error")
NUMBERS = {"similarity": 1, "dice": 1, "ndv": -1, "inverse_mm": -1}  # sign of improvement, to detect outliers


@dataclass(frozen=True, eq=False)
class Entry:
    """One registration in the table.

    Args:
        name: of its folder, relative to that of the cohort.
        state: its verdict, ``"failed"`` if it could not be assessed; without a result ``"error"`` or ``"pending"``.
        reasons: of the verdict, or the error.
        numbers: by the keys of ``NUMBERS``; NaN if missing.
        seconds: of the registration.
        thumbnail: a checkerboard of its middle slice, if available.
        link: its own page, relative.
    """

    name: str
    state: EntryState
    reasons: tuple[str, ...]
    numbers: dict[str, float]
    seconds: float
    thumbnail: Picture | None
    link: str

    @property
    def rank(self) -> int:
        """4 for an error, 3 for pending, 2 for failed, 1 for check, 0 for aligned."""
        return STATES.index(self.state)


def write_cohort(
    folder: Path,
    *,
    pages: bool = False,
    progress: Callable[[str, float], None] = lambda _stage, _share: None,
    page: str = PAGE,
    missing: Mapping[str, str] | None = None,
) -> list[Entry]:
    """Write a page of all results into a folder of output folders.

    Args:
        folder: of ``maxca cohort``, all of whose pairs are shown, also those without a result; or another one that
            contains output folders of ``register``, at any depth.
        pages: also create the page of each result without one.
        progress: called with a name and the completed fraction.
        page: its name.
        missing: results that should be there as well, with the reason why they are not.

    Returns:
        The rows, those that need inspection first: pairs without a result, then by verdict, then by deviation of the
        worst measure from the median.

    Raises:
        MaxcaError: if there is no output folder.
    """
    places, entries = _places(folder)
    entries += [_without_result(name, "error", reason) for name, reason in (missing or {}).items()]
    for number, (place, name) in enumerate(places):
        progress(name, number / len(places))
        entries.append(_entry(place, name, folder, pages))
    far = outlyingness([entry.numbers for entry in entries])
    order = sorted(range(len(entries)), key=lambda n: (-entries[n].rank, -far[n], entries[n].name))
    rows = [entries[n] for n in order]
    text = (
        templates()
        .get_template("cohort.html.j2")
        .render(
            title=printable(folder.resolve().name),
            rows=[(entry, far[n]) for entry, n in zip(rows, order, strict=True)],
            counts=_counts(entries),
            css=own("page.css"),
            script=own("page.js"),
            script_sources=sources(own("page.js")),
            version=installed_version(),
        )
    )
    with atomic_path(folder / page) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return rows


def _places(folder: Path) -> tuple[list[tuple[Path, str]], list[Entry]]:
    """The output folders with their names, and the rows of pairs without one."""
    if os.path.lexists(folder / PLAN):
        pairs = read_plan(folder).pairs
        done = [(folder / pair.name, pair.name) for pair in pairs if pair.state == "done"]
        rest = [pair for pair in pairs if pair.state != "done"]
        return done, [
            _without_result(p.name, "error" if p.state == "failed" else "pending", p.error or "not registered yet")
            for p in rest
        ]
    places = sorted(path.parent for path in folder.rglob(RESULT_FILE))
    if not places:
        raise MaxcaError(f"{folder}: contains no output folder of maxca register")
    return [
        (place, printable(str(place.relative_to(folder)) if place != folder else place.resolve().name))
        for place in places
    ], []


def _counts(entries: list[Entry]) -> dict[str, int]:
    """The number of rows in each state; pending and error only if there are any."""
    counted = {state: sum(entry.state == state for entry in entries) for state in reversed(STATES)}
    return {state: count for state, count in counted.items() if count or state in ORDER}


def outlyingness(rows: list[dict[str, float]]) -> list[float]:
    """Deviation of the worst measure of each row from the median, in robust standard deviations."""
    worst = np.zeros(len(rows))
    for name, good in NUMBERS.items():
        values = np.array([row[name] for row in rows], dtype=np.float64) * good
        known = np.isfinite(values)
        if known.sum() < 3:
            continue
        apart = np.median(values[known]) - values
        spread = 1.4826 * np.median(np.abs(apart[known]))
        if spread > 0:
            worst = np.fmax(worst, np.where(known, apart / spread, 0))
    return [float(value) for value in worst]


def prepare_row(folder: Path) -> None:
    """Store the verdict and the thumbnail of an output folder in it: a page then needs no images."""
    case = read_case(folder)
    verdict_of(case)
    with atomic_path(folder / THUMBNAIL) as unfinished:
        Image.fromarray(_thumbnail(case)).save(unfinished)


def prepare_page(folder: Path) -> None:
    """Write the page of an output folder into it, and store its verdict and its thumbnail."""
    prepare_row(folder)
    write_report(read_case(folder), folder / REPORT)


def _entry(place: Path, name: str, folder: Path, pages: bool) -> Entry:
    """A row; errors of a registration are reported in it."""
    try:
        path = place / REPORT
        verdict = kept_verdict(place)
        if verdict is None or not (place / THUMBNAIL).is_file() or (pages and not path.is_file()):
            case = read_case(place, name=name)
            verdict = write_report(case, path) if pages and not path.is_file() else verdict_of(case)
            picture, record = _thumbnail(case), case.record
        else:
            record = read_record(place)
            with Image.open(place / THUMBNAIL) as file:
                picture = np.asarray(file)
        metrics = record.metrics
        numbers = {
            "similarity": metrics.similarity.after,
            "dice": None if metrics.dice_after is None else metrics.dice_after.mean,
            "ndv": metrics.folding.ndv_percent,
            "inverse_mm": metrics.inverse_consistency_mm.mean,
        }
        known = {key: float("nan") if value is None else float(value) for key, value in numbers.items()}
        seconds = float(sum(record.seconds.values()))
        link = quote(os.fsencode(os.path.relpath(path, folder))) if path.is_file() else ""
        thumbnail = Picture(picture, f"checkerboard, {name}")
        return Entry(name, verdict.state, tuple(verdict.reasons), known, seconds, thumbnail, link)
    except Exception as error:  # an error in one folder must not prevent the page
        said = str(error) if isinstance(error, MaxcaError) else f"{type(error).__name__}: {one_line(str(error), 200)}"
        return _without_result(name, "failed", f"cannot be assessed: {said}")


def _without_result(name: str, state: EntryState, reason: str) -> Entry:
    return Entry(name, state, (reason,), dict.fromkeys(NUMBERS, float("nan")), float("nan"), None, "")


def _thumbnail(case: Case) -> np.ndarray:
    """A checkerboard of the middle slice, (H, WIDTH) uint8."""
    shown = Shown(case, next(planes(case)).middle)
    picture = checkerboard(shown.middle("fixed"), shown.middle("warped"))
    height = max(1, round(picture.shape[0] * WIDTH / picture.shape[1]))
    return np.asarray(Image.fromarray(picture).resize((WIDTH, height)))
