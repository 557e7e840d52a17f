"""A Markdown table and a figure from the rows of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

Row = dict[str, str]
COLUMNS = {
    "dice": ("Dice", "{:.4f}"),
    "hd95_mm": ("HD95 mm", "{:.2f}"),
    "ndv_percent": ("NDV %", "{:.4f}"),
    "nonpositive_percent": ("det ≤ 0 %", "{:.4f}"),
    "sdlogj": ("SDlogJ", "{:.3f}"),
    "seconds": ("seconds", "{:.1f}"),
    "peak_mb": ("peak MB", "{:.0f}"),
}


def markdown(rows: Sequence[Row]) -> str:
    """Mean ± standard deviation over pairs, a table per set and a line per method, in the order of the rows."""
    return "\n\n".join(_table([row for row in rows if row["set"] == name]) for name in _names(rows, "set")) + "\n"


def figure(rows: Sequence[Row], path: Path) -> None:
    """Dice against seconds: small marks are pairs, large ones the mean of a method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    canvas, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for number, method in enumerate(_names(rows, "method")):
        done = [row for row in rows if row["method"] == method and not row["error"]]
        if not done:
            continue
        seconds, dice = values(done, "seconds"), values(done, "dice")
        axes.scatter(seconds, dice, s=12, alpha=0.35, color=f"C{number}", linewidths=0)
        axes.scatter(fmean(seconds), fmean(dice), s=90, color=f"C{number}", edgecolors="white", label=method, zorder=3)
    axes.set(xscale="log", xlabel="seconds per pair, whole process", ylabel="Dice, mean over labels")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    axes.set_title(", ".join(_names(rows, "set")))
    canvas.savefig(path, dpi=150)
    pyplot.close(canvas)


def values(rows: Sequence[Row], column: str) -> list[float]:
    """The numbers of a column, in rows that have one."""
    return [float(row[column]) for row in rows if row[column] not in ("", "nan")]


def _table(rows: Sequence[Row]) -> str:
    pairs = {row["pair"]: row["dice_before"] for row in rows if row["dice_before"]}
    before = f"Dice before {fmean(map(float, pairs.values())):.4f}, " if pairs else ""
    lines = [
        f"**{rows[0]['set']}**: {len({row['pair'] for row in rows})} pairs, {before}{rows[0]['threads']} threads",
        "",
        "| method | pairs | " + " | ".join(title for title, _ in COLUMNS.values()) + " | failed |",
        "|---|" + "---:|" * (len(COLUMNS) + 2),
    ]
    for method in _names(rows, "method"):
        of_method = [row for row in rows if row["method"] == method]
        done = [row for row in of_method if not row["error"]]
        cells = [_spread(values(done, column), form) for column, (_, form) in COLUMNS.items()]
        lines.append(f"| {method} | {len(done)} | {' | '.join(cells)} | {len(of_method) - len(done)} |")
    return "\n".join(lines)


def _spread(numbers: Sequence[float], form: str) -> str:
    if not numbers:
        return "–"
    return form.format(fmean(numbers)) + (f" ± {form.format(stdev(numbers))}" if len(numbers) > 1 else "")


def _names(rows: Sequence[Row], column: str) -> list[str]:
    return list(dict.fromkeys(row[column] for row in rows))
