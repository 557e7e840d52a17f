"""Figures from the rows of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from maxca.errors import MaxcaError, printable
from maxca.evaluate.rows import Row, names, numbers
from maxca.io.atomic import atomic_path

LEAST_NDV = 1e-5  # percent: smaller values are shown as none, because a logarithmic axis has no 0
DECADES = range(-5, 3)
MARKS = "osD^vP*X"
MOST_LABELS = 40  # most labels in one figure


def against_time(rows: Sequence[Row], path: Path) -> None:
    """Dice against seconds: small marks are pairs, large ones means of methods."""
    canvas = _canvas((7.5, 4))
    axes = canvas.subplots()
    for number, (method, done) in enumerate(_done(rows, "seconds", "dice")):
        seconds, dice = numbers(done, "seconds"), numbers(done, "dice")
        axes.scatter(seconds, dice, s=12, alpha=0.35, color=f"C{number}", linewidths=0)
        axes.scatter(fmean(seconds), fmean(dice), s=90, color=f"C{number}", edgecolors="white", label=method, zorder=3)
    _axis_of_round_numbers(axes, "seconds per pair, whole process")
    axes.set(ylabel="Dice, mean over labels")
    _save(canvas, axes, rows, path)


def against_folding(rows: Sequence[Row], path: Path) -> None:
    """Dice against NDV, one line per tool; for tools with several smoothness settings also against those.

    Tools without folding are in a column left of the logarithmic axis, which has no 0.
    """
    points: dict[str, list[tuple[float | None, float, float]]] = {}
    for method, done in _done(rows, "ndv_percent", "dice"):
        tool, _, text = method.partition("@")
        ndv, dice = fmean(numbers(done, "ndv_percent")), fmean(numbers(done, "dice"))
        try:
            mm = float(text) if text else None
        except ValueError:  # a name that contains an @
            tool, mm = method, None
        points.setdefault(tool, []).append((mm, ndv, dice))
    several = any(mm is not None for found in points.values() for mm, _, _ in found)
    size = (10, 4) if several else (7.5, 4)
    canvas = _canvas(size)
    panels = canvas.subplots(1, 1 + several, sharey=True, squeeze=False)
    by_mm, by_ndv = panels[0, 0], panels[0, -1]
    for number, (tool, found) in enumerate(points.items()):
        found.sort(key=lambda point: point[0] or 0)
        style: dict[str, Any] = {
            "color": f"C{number}",
            "marker": MARKS[number % len(MARKS)],
            "markersize": 5,
            "alpha": 0.8,
        }
        column = LEAST_NDV * 10 ** (1.2 * (number + 0.5) / len(points) - 1.4)
        at = [ndv if ndv >= LEAST_NDV else column for _, ndv, _ in found]
        by_ndv.plot(at, [dice for _, _, dice in found], label=tool, **style)
        texts: dict[tuple[float, float], list[str]] = {}
        for x, (mm, _, dice) in zip(at, found, strict=True):
            if mm is not None and x != column:
                texts.setdefault((x, dice), []).append(f"{mm:g}")
        for mark, words in texts.items():
            place: dict[str, Any] = {"xytext": (5, 3), "textcoords": "offset points"}
            by_ndv.annotate(", ".join(words), mark, fontsize=7, color=f"C{number}", **place)
        if several:
            asked = [(mm, dice) for mm, _, dice in found if mm is not None]
            by_mm.plot([mm for mm, _ in asked], [dice for _, dice in asked], **style)
    _axis_of_folding(by_ndv)
    by_mm.set(ylabel="Dice, mean over labels")
    if several:
        _axis_of_round_numbers(by_mm, "smoothness setting, mm")
    _save(canvas, by_mm, rows, path)


def _axis_of_folding(axes: Any) -> None:
    from matplotlib import ticker

    axes.axvspan(LEAST_NDV * 10**-1.5, LEAST_NDV, color="0.93", zorder=0)
    axes.set(xscale="log", xlabel="non-diffeomorphic volume, %")
    axes.set_xlim(LEAST_NDV * 10**-1.5, max(axes.get_xlim()[1], 100 * LEAST_NDV))
    axes.xaxis.set_major_locator(ticker.FixedLocator([LEAST_NDV * 10**-0.8, *(10.0**n for n in DECADES)]))
    axes.xaxis.set_major_formatter(ticker.FixedFormatter(["none", *(f"$10^{{{n}}}$" for n in DECADES)]))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.grid(alpha=0.3)


def _axis_of_round_numbers(axes: Any, label: str) -> None:
    from matplotlib import ticker

    axes.set(xscale="log", xlabel=label)
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())


def by_label(rows: Sequence[Row], path: Path) -> None:
    """Box plots of the Dice of each label, one box per method, sorted by the lowest median."""
    labels = [label for label in names(rows, "label") if _of(rows, "label", label)]
    if not labels:
        raise MaxcaError(f"{path}: the table contains no Dice of labels; evaluate pairs with labels")
    medians = {label: sorted(_of(rows, "label", label))[len(_of(rows, "label", label)) // 2] for label in labels}
    labels = sorted(labels, key=lambda label: medians[label])[:MOST_LABELS]
    methods = names(rows, "method")
    wide = max(7.5, 0.35 * len(labels) * len(methods) ** 0.5)
    canvas = _canvas((wide, 4))
    axes = canvas.subplots()
    width = 0.8 / len(methods)
    for number, method in enumerate(methods):
        mine = [row for row in rows if row["method"] == method]
        at = [n + (number - (len(methods) - 1) / 2) * width for n in range(len(labels))]
        axes.boxplot(
            [_of(mine, "label", label) for label in labels],
            positions=at,
            widths=0.9 * width,
            patch_artist=True,
            boxprops={"facecolor": f"C{number}", "alpha": 0.6},
            medianprops={"color": "black"},
            flierprops={"markersize": 2},
            manage_ticks=False,
        )
        axes.plot([], [], "s", color=f"C{number}", alpha=0.6, label=method)
    axes.set(xlabel="label", ylabel="Dice", xticks=range(len(labels)))
    axes.set_xticklabels(labels, rotation=90 if len(labels) > 12 else 0, fontsize=8, parse_math=False)
    _save(canvas, axes, rows, path)


def _of(rows: Sequence[Row], column: str, value: str) -> list[float]:
    return numbers([row for row in rows if row[column] == value], "dice")


def _done(rows: Sequence[Row], *columns: str) -> list[tuple[str, list[Row]]]:
    """Methods with their rows that have all these numbers."""
    found = []
    for method in names(rows, "method"):
        done = [row for row in rows if row["method"] == method and all(numbers([row], name) for name in columns)]
        if done:
            found.append((method, done))
    return found


def _canvas(size: tuple[float, float]) -> Any:
    """An empty figure of a size in inches, without pyplot, which would set the backend of the process."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(canvas: Any, axes: Any, rows: Sequence[Row], path: Path) -> None:
    axes.grid(alpha=0.3)
    legend = canvas.legend(frameon=False, fontsize="small", loc="outside right center")
    for text in legend.get_texts():
        text.set_parse_math(False)
    axes.set_title(printable(", ".join(names(rows, "set"))), parse_math=False)
    with atomic_path(path) as unfinished:
        canvas.savefig(unfinished, dpi=150)
