"""The motion of a series as a self-contained page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup
from scipy import ndimage

from maxca.geometry import Chain, Grid
from maxca.io.atomic import atomic_path
from maxca.report import pictures
from maxca.report.charts import over_frames
from maxca.report.html import REPORT, own, sources, templates
from maxca.report.parts import Group, Picture, Table
from maxca.report.planes import Plane, planes_of, sampled
from maxca.version import installed_version
from maxca.workflows.series.corrected import Corrected, OverTime
from maxca.workflows.series.organ.run import OrganResult
from maxca.workflows.series.record import Summary
from maxca.workflows.series.run import SeriesResult

MOST_ROWS = 2_000  # of the table on the page; all are in motion.tsv
ABOUT_CHARTS = (
    "How the anatomy moved since the reference. Dashed: threshold of outliers, which are marked at the bottom."
)
MOST_LISTED = 20  # outliers at the top
LINE_HEIGHT = 240  # pixels of the picture of a line over time
SHOWN = (
    "trans_x",
    "trans_y",
    "trans_z",
    "rot_x",
    "rot_y",
    "rot_z",
    "framewise_displacement",
    "std_dvars",
    "similarity",
    "motion_outlier",
)


def write_page(result: SeriesResult, folder: Path) -> None:
    """Write ``report.html``: curves of the motion, images before and after, and a table of the frames.

    Args:
        result: of ``maxca.series``.
        folder: where the page is written.
    """
    parts = (_headline(result.record.motion), ABOUT_CHARTS, _charts(result), _groups(result), _facts(result))
    write_parts(result, folder, *parts)


def write_parts(
    result: SeriesResult | OrganResult,
    folder: Path,
    headline: str,
    about_charts: str,
    charts: Iterable[str],
    groups: Iterable[Group],
    facts: Iterable[tuple[str, str]],
) -> None:
    """Write the page of a series from its parts.

    Args:
        result: of the series.
        folder: where the page is written.
        headline: the first lines.
        about_charts: text above the charts.
        charts: SVG, with its text escaped by ``report.charts``.
        groups: pictures and tables.
        facts: names and values at the end.
    """
    page = (
        templates()
        .get_template("series.html.j2")
        .render(
            name=result.folder.resolve().name,
            file=Path(result.record.inputs["image"].path).name,
            headline=headline,
            about_charts=about_charts,
            charts=[Markup(chart) for chart in charts],
            groups=list(groups),
            command=result.record.command or "",
            facts=list(facts),
            css=own("page.css"),
            script=own("page.js"),
            script_sources=sources(own("page.js")),
            version=installed_version(),
        )
    )
    with atomic_path(folder / REPORT) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def _headline(motion: Summary) -> str:
    listed = ", ".join(map(str, motion.outliers[:MOST_LISTED]))
    more = ", …" if len(motion.outliers) > MOST_LISTED else ""
    which = f": frames {listed}{more}" if motion.outliers else ""
    return (
        f"{motion.frames} frames. Framewise displacement {motion.mean_fd_mm:.2f} mm on average, "
        f"{motion.max_fd_mm:.2f} mm at most; largest translation {motion.max_translation_mm:.2f} mm, largest rotation "
        f"{motion.max_rotation_degrees:.2f}°. {len(motion.outliers)} outliers{which} (the first frame is 0)."
    )


def _charts(result: SeriesResult) -> Iterator[str]:
    measures, settings = result.measures, result.record.settings
    motion, marked = measures.motion, result.record.motion.outliers
    names = ("x (right)", "y (anterior)", "z (superior)")
    yield over_frames(dict(zip(names, motion.translations.T, strict=True)), "Translation", "mm")
    yield over_frames(dict(zip(names, np.degrees(motion.rotations.T), strict=True)), "Rotation", "degrees")
    yield over_frames(
        {"framewise displacement": motion.displacement},
        "Framewise displacement",
        "mm",
        settings["fd_threshold"],
        marked,
    )
    limit = None if result.record.motion.other_contrast else settings["dvars_threshold"]
    yield over_frames(
        {"DVARS over its median": measures.std_dvars}, "DVARS of the corrected series", "median = 1", limit, marked
    )
    yield over_frames({"similarity": measures.similarity}, "Similarity to the reference", "correlation")


def _groups(result: SeriesResult) -> Iterator[Group]:
    shown = [plane.middle for plane in planes_of(result.reference)]
    yield from over_time(result.corrected, result.frame_grid, result.reference.grid, shown)
    yield Group("frames", "Frames", "Click on a column head to sort.", [], _table(result))


def over_time(frames: Corrected, before: Grid, after: Grid, shown: Sequence[Plane]) -> Iterator[Group]:
    """Mean, standard deviation and a line of voxels over time, before and after alignment.

    Args:
        frames: their statistics.
        before: grid of the frames as they were.
        after: grid of the aligned frames.
        shown: single slices.
    """
    about = {"before": (frames.before, before), "after": (frames.after, after)}

    def rows(which: str) -> Iterator[Picture]:
        layers = {
            when: [sampled(getattr(stats, which), where, Chain(), plane) for plane in shown]
            for when, (stats, where) in about.items()
        }
        window = pictures.window(np.concatenate([layer.ravel() for layer in layers["before"]]))
        for when, planes in layers.items():
            for plane, layer in zip(shown, planes, strict=True):
                yield Picture(pictures.gray(plane.pictures(layer)[0], window), f"{when}, {plane.name}")

    yield Group("mean", "Mean over time", "Sharper after alignment.", list(rows("mean")))
    yield Group(
        "deviation",
        "Standard deviation over time",
        "Motion shows as bright edges; those before and after have one intensity window.",
        list(rows("deviation")),
    )
    yield Group(
        "lines",
        "A line of voxels over time",
        "Frames from left to right; the line through the centre of the content. Steps are motion.",
        [_line(stats, when) for when, (stats, _) in about.items()],
    )


def _line(stats: OverTime, when: str) -> Picture:
    lines = np.stack(stats.lines, axis=1)[::-1]
    values = pictures.gray(lines, pictures.window(lines))
    zoom = max(1, LINE_HEIGHT // values.shape[0]), max(1, 2 * LINE_HEIGHT // values.shape[1])
    return Picture(ndimage.zoom(values, zoom, order=0), f"{when} alignment")


def _table(result: SeriesResult) -> Table:
    columns = result.measures.columns()
    rows = [
        (str(number), *("–" if np.isnan(columns[name][number]) else f"{columns[name][number]:.3f}" for name in SHOWN))
        for number in range(min(MOST_ROWS, result.record.motion.frames))
    ]
    heads = ("frame", *(name.replace("_", " ") for name in SHOWN))
    return Table("Translations in mm, rotations in radians; all columns are in motion.tsv.", heads, rows)


def _facts(result: SeriesResult) -> Iterator[tuple[str, str]]:
    record = result.record
    for name, value in record.settings.items():
        if value is not None:
            yield name.replace("_", " "), str(value)
    yield "center of rotation", ", ".join(f"{mm:.2f}" for mm in record.center) + " mm (RAS)"
    yield "transforms", record.direction
    yield "passes over the frames", str(record.motion.passes)
    yield "seconds", f"{record.seconds:.1f}"
    yield "peak memory", f"{record.peak_memory_mb:g} MB"
    for warning in record.warnings:
        yield "warning", warning
    yield "versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())
    for role, file in record.inputs.items():
        yield role, f"{file.path} (SHA-256 {file.sha256[:12]}…)"
