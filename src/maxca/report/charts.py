"""Charts as SVG in the colours of the surrounding page."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from maxca.errors import one_line
from maxca.registration.record import LevelSummary

INK = "#010203"  # replaced by the colour of the surrounding text
LONGEST_NAME = 60  # most characters of a label
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
)  # Okabe and Ito, 2008: distinguishable with colour blindness


def histogram(distances: np.ndarray, title: str) -> str:
    """Histogram of the displacement of the content in mm."""
    figure, axes = _axes(title, "mm", "voxels")
    axes.hist(distances, bins=40, color=COLOURS[0])
    return _svg(figure, title)


def curves(levels: Sequence[LevelSummary], name: str) -> str:
    """The similarity at each step of each level."""
    name = one_line(name, LONGEST_NAME)
    title = f"{name} at each step"
    figure, axes = _axes(title, "step", name)
    start = 0
    for number, level in enumerate(levels):
        values = level.similarity
        steps = range(start, start + len(values))
        spacing = " x ".join(f"{mm:.3g}" for mm in level.spacing)
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(steps, values, "o-", markersize=2.5, color=colour, label=f"{spacing} mm")
        start += len(values)
    _legend(axes, 1)
    return _svg(figure, title)


def over_frames(
    lines: Mapping[str, np.ndarray], title: str, unit: str, limit: float | None = None, marked: Sequence[int] = ()
) -> str:
    """Values of each frame.

    Args:
        lines: (T,) values by name; NaN is left out.
        title: of the chart.
        unit: of the values.
        limit: a dashed line.
        marked: frames with a mark at the bottom.
    """
    figure, axes = _axes(title, "frame", unit)
    for number, (name, values) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(range(len(values)), values, "-", linewidth=1.2, color=colour, label=one_line(name, LONGEST_NAME))
    if limit is not None:
        axes.axhline(limit, linestyle="--", linewidth=0.8, color=INK)
    if len(marked):
        axes.plot(marked, [0.02] * len(marked), "|", color=COLOURS[1], transform=axes.get_xaxis_transform())
    if len(lines) > 1:
        _legend(axes, len(lines))
    return _svg(figure, title)


def over_steps(lines: Mapping[str, np.ndarray], title: str, across: str, up: str) -> str:
    """Values of each of a few steps, such as iterations.

    Args:
        lines: (N,) values by name; NaN is left out.
        title: of the chart.
        across: what a step is.
        up: the unit of the values.
    """
    figure, axes = _axes(title, across, up)
    for number, (name, values) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(range(len(values)), values, "o-", markersize=3, color=colour, label=one_line(name, LONGEST_NAME))
    axes.xaxis.get_major_locator().set_params(integer=True)
    known = [values[np.isfinite(values)].max() for values in lines.values() if np.isfinite(values).any()]
    if known and max(known) > 0:
        axes.set_ylim(0, 1.1 * float(max(known)))
    if len(lines) > 1:
        _legend(axes, 1)
    return _svg(figure, title)


def _legend(axes: Any, columns: int) -> None:
    for text in axes.legend(frameon=False, fontsize=8, ncols=columns).get_texts():
        text.set_color(INK)


def _axes(title: str, across: str, up: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.2, 3.0), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    # Names of measures come from result.json: plain text, in which `$` does not start mathematics.
    axes.set_title(title, fontsize=10, color=INK, parse_math=False)
    axes.set_xlabel(across, color=INK, parse_math=False)
    axes.set_ylabel(up, color=INK, parse_math=False)
    axes.tick_params(colors=INK, labelsize=8)
    for side, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_visible(side in ("left", "bottom"))
    return figure, axes


def _svg(figure: Figure, title: str) -> str:
    """The chart as SVG with an accessible name."""
    buffer = io.StringIO()
    # No date and a fixed salt, for reproducible output.
    figure.canvas = FigureCanvasSVG(figure)
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    text = buffer.getvalue()
    return (
        text[text.index("<svg") :]
        .replace(INK, "currentColor")
        .replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)
    )
