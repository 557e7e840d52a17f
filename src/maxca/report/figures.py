"""The figures of a report as files, for papers and talks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from maxca.io.atomic import atomic_path
from maxca.report.case import Case
from maxca.report.groups import grouped
from maxca.report.parts import Picture, Shown, Shows
from maxca.report.planes import planes

KINDS = ("png", "svg")
FOLDER = "figures"


def write_figures(case: Case, folder: Path, kind: str) -> list[Path]:
    """One file for each group of figures.

    Args:
        case: the registration.
        folder: parent of the folder ``figures``.
        kind: one of ``KINDS``.

    Returns:
        The files.
    """
    shown = [Shown(case, plane) for plane in planes(case)]
    layers = [
        Picture(one.middle(layer), f"{words}, {one.plane.name}")
        for layer, words in (
            ("fixed", "fixed"),
            ("before", "moving, before registration"),
            ("warped", "moving, warped"),
        )
        for one in shown
    ]
    groups: dict[str, Sequence[Shows]] = {"images": layers} | {
        group.id: group.pictures for group in grouped(case, shown)
    }
    place = folder / FOLDER
    place.mkdir(exist_ok=True)
    written = []
    for name, found in groups.items():
        path = place / f"{name}.{kind}"
        with atomic_path(path) as unfinished:
            _figure(found, len(shown)).savefig(unfinished, format=kind, dpi=150, metadata=_undated(kind))
        written.append(path)
    return written


def _figure(found: Sequence[Shows], across: int) -> Figure:
    rows = -(-len(found) // across)
    figure = Figure(figsize=(3.4 * across, 3.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, picture in zip(figure.subplots(rows, across, squeeze=False).flat, found, strict=False):
        axes.imshow(picture.array, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(picture.alt, fontsize=9)
        axes.axis("off")
    return figure


def _undated(kind: str) -> dict[str, None]:
    """Metadata that make the files reproducible."""
    return {"Date": None} if kind == "svg" else {}
