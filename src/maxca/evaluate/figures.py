"""Figures from the rows of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from maxca.evaluate.rows import Row, names, numbers

LEAST_NDV = 1e-5  # percent: a logarithmic axis has no 0
MOST_LABELS = 40  # boxes that fit into one figure


def against_time(rows: Sequence[Row], path: Path) -> None:
    """Dice against seconds: small marks are pairs, large ones the mean of a method."""
    pyplot = _pyplot()
    from matplotlib import ticker

    canvas, axes = pyplot.subplots(figsize=(7.5, 4), layout="constrained")
    for number, (method, done) in enumerate(_done(rows, "seconds", "dice")):
        seconds, dice = numbers(done, "seconds"), numbers(done, "dice")
        axes.scatter(seconds, dice, s=12, alpha=0.35, color=f"C{number}", linewidths=0)
        axes.scatter(fmean(seconds), fmean(dice), s=90, color=f"C{number}", edgecolors="white", label=method, zorder=3)
    axes.set(xscale="log", xlabel="seconds per pair, whole process", ylabel="Dice, mean over labels")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    _save(canvas, axes, rows, path)


def against_folding(rows: Sequence[Row], path: Path) -> None:
    """Dice against NDV, a line for each method that was run with several smoothnesses."""
    pyplot = _pyplot()
    canvas, axes = pyplot.subplots(figsize=(7.5, 4), layout="constrained")
    points: dict[str, list[tuple[float, float, str]]] = {}
    for method, done in _done(rows, "ndv_percent", "dice"):
        tool, _, mm = method.partition("@")
        ndv = max(fmean(numbers(done, "ndv_percent")), LEAST_NDV)
        points.setdefault(tool, []).append((ndv, fmean(numbers(done, "dice")), mm))
    for number, (tool, found) in enumerate(points.items()):
        found.sort(key=lambda point: float(point[2] or 0))
        axes.plot(*zip(*((x, y) for x, y, _ in found), strict=True), "o-", color=f"C{number}", label=tool, markersize=4)
        for x, y, text in found:
            axes.annotate(text, (x, y), textcoords="offset points", xytext=(4, 3), fontsize=7, color=f"C{number}")
    axes.set(xscale="log", xlabel="non-diffeomorphic volume, %", ylabel="Dice, mean over labels")
    _save(canvas, axes, rows, path)


def by_label(rows: Sequence[Row], path: Path) -> None:
    """Box plots of the Dice of each label, a box for each method; the labels whose median is lowest come first."""
    pyplot = _pyplot()
    labels = names(rows, "label")
    medians = {label: sorted(_of(rows, "label", label))[len(_of(rows, "label", label)) // 2] for label in labels}
    labels = sorted(labels, key=lambda label: medians[label])[:MOST_LABELS]
    methods = names(rows, "method")
    wide = max(7.5, 0.35 * len(labels) * len(methods) ** 0.5)
    canvas, axes = pyplot.subplots(figsize=(wide, 4), layout="constrained")
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
    axes.set_xticklabels(labels, rotation=90 if len(labels) > 12 else 0, fontsize=8)
    _save(canvas, axes, rows, path)


def _of(rows: Sequence[Row], column: str, value: str) -> list[float]:
    return numbers([row for row in rows if row[column] == value], "dice")


def _done(rows: Sequence[Row], *columns: str) -> list[tuple[str, list[Row]]]:
    """Methods with those of their rows that have all these numbers."""
    found = []
    for method in names(rows, "method"):
        done = [row for row in rows if row["method"] == method and all(numbers([row], name) for name in columns)]
        if done:
            found.append((method, done))
    return found


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(canvas: Any, axes: Any, rows: Sequence[Row], path: Path) -> None:
    axes.grid(alpha=0.3)
    canvas.legend(frameon=False, fontsize="small", loc="outside right center")
    axes.set_title(", ".join(names(rows, "set")))
    canvas.savefig(path, dpi=150)
    _pyplot().close(canvas)
