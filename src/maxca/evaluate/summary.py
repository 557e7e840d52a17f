"""Means and paired tests of an evaluation, as Markdown and as rows."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any

from maxca.errors import printable
from maxca.evaluate.rows import MARKDOWN_START, SCORES, Row, names, numbers
from maxca.evaluate.statistics import Comparison, compare, holm, interval
from maxca.report.lengths import decimals

COLUMNS = {  # of the Markdown table
    "dice": ("Dice", "{:.4f}"),
    "hd95_mm": ("HD95 mm", "{:.2f}"),
    "msd_mm": ("MSD mm", "{:.2f}"),
    "tre_mm": ("TRE mm", "{:.2f}"),
    "ndv_percent": ("NDV %", "{:.4f}"),
    "nonpositive_percent": ("det ≤ 0 %", "{:.4f}"),
    "sdlogj": ("SDlogJ", "{:.3f}"),
    "deformation_mm": ("deformation mm", "{:.2f}"),
    "seconds": ("seconds", "{:.1f}"),
    "peak_mb": ("peak MB", "{:.0f}"),
}


def markdown(rows: Sequence[Row], against: str | None = None) -> str:
    """For each set of pairs, a table of all methods and one of comparisons with one of them.

    Args:
        rows: of an evaluation.
        against: the method to compare with; by default the first.
    """
    parts = []
    for name in names(rows, "set"):
        of_set = [row for row in rows if row["set"] == name]
        parts.append(_means(of_set))
        base = against or names(of_set, "method")[0]
        compared = _compared(of_set, base)
        if compared:
            parts.append(compared)
    return "\n\n".join(parts) + "\n"


def summary(rows: Sequence[Row], against: str | None = None) -> list[dict[str, Any]]:
    """A row with ``SUMMARY_COLUMNS`` for each set, method and score: ``low`` and ``high`` are the 95 % interval.

    Args:
        rows: of an evaluation.
        against: the method to compare with; by default the first of each set. ``both`` is the number of common pairs;
            p values are corrected over the methods of a set, score by score.
    """
    found: list[dict[str, Any]] = []
    for name in names(rows, "set"):
        of_set = [row for row in rows if row["set"] == name]
        base = against or names(of_set, "method")[0]
        for column in (*SCORES, "seconds", "peak_mb"):
            compared = comparisons(of_set, base, column)
            for method in names(of_set, "method"):
                values = list(_by_pair(of_set, method, column).values())
                if not values:
                    continue
                row: dict[str, Any] = {"set": name, "method": method, "score": column, "pairs": len(values)}
                row |= interval(values)._asdict()
                if (c := compared.get(method)) is not None:
                    difference, _, low, high = c.difference
                    row |= {"against": base, "both": c.pairs, "difference": difference, "difference_low": low}
                    row |= {"difference_high": high, "p": c.p, "p_holm": c.p_holm, "effect": c.effect}
                found.append(row)
    return found


def comparisons(rows: Sequence[Row], base: str, column: str = "dice") -> dict[str, Comparison]:
    """Comparisons of the other methods with one, on common pairs; p values are corrected together.

    Args:
        rows: of one set.
        base: the method to compare with.
        column: the score.
    """
    scores = {method: _by_pair(rows, method, column) for method in names(rows, "method")}
    reference = scores.pop(base, {})
    found: dict[str, Comparison] = {}
    for method, values in scores.items():
        common = sorted(values.keys() & reference.keys())
        if common:
            found[method] = compare([values[pair] for pair in common], [reference[pair] for pair in common])
    corrected = holm([c.p for c in found.values()])
    return {method: c._replace(p_holm=p) for (method, c), p in zip(found.items(), corrected, strict=True)}


def _means(rows: Sequence[Row]) -> str:
    columns = {column: about for column, about in COLUMNS.items() if numbers(rows, column)}
    before = {row["pair"]: float(row["dice_before"]) for row in rows if row["dice_before"]}
    start = f"Dice before {sum(before.values()) / len(before):.4f}, " if before else ""
    threads = ", ".join(names(rows, "threads"))
    threads += " thread" if threads == "1" else " threads"
    title = f"{MARKDOWN_START}{_name(rows[0]['set'])}**"
    lines = [
        f"{title}: {len(names(rows, 'pair'))} pairs, {start}{threads}; mean ± SD over pairs, and for "
        "Dice the 95 % CI of the mean",
        "",
        "| method | pairs | " + " | ".join(title for title, _ in columns.values()) + " | failed |",
        "|---|" + "---:|" * (len(columns) + 2),
    ]
    for method in names(rows, "method"):
        of_method = [row for row in rows if row["method"] == method]
        done = [row for row in of_method if not row["error"]]
        cells = [_spread(numbers(done, column), form, column) for column, (_, form) in columns.items()]
        lines.append(f"| {_name(method)} | {len(done)} | {' | '.join(cells)} | {len(of_method) - len(done)} |")
    return "\n".join(lines)


def _compared(rows: Sequence[Row], base: str) -> str:
    found = comparisons(rows, base)
    if not found:
        return ""
    lines = [
        f"Paired difference in Dice from {_name(base)}: mean with 95 % CI, Wilcoxon p (Holm-corrected), "
        "rank-biserial effect size",
        "",
        "| method | pairs | difference | p | effect |",
        "|---|---:|---:|---:|---:|",
    ]
    for method, c in found.items():
        d = c.difference
        p = "–" if isnan(c.p_holm) else f"{c.p_holm:.2g}"  # no pair differs
        lines.append(
            f"| {_name(method)} | {c.pairs} | {d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}] | {p} | {c.effect:+.2f} |"
        )
    return "\n".join(lines)


def _name(text: str) -> str:
    """A name escaped for Markdown."""
    return "".join(f"\\{c}" if c in "|<>[]`*\\" else c for c in printable(text))


def _by_pair(rows: Sequence[Row], method: str, column: str) -> dict[str, float]:
    return {
        row["pair"]: float(row[column])
        for row in rows
        if row["method"] == method and row[column] not in ("", "nan") and not row["error"]
    }


def _spread(values: Sequence[float], form: str, column: str) -> str:
    if not values:
        return "–"
    mean, sd, low, high = interval(values)
    if column.endswith("_mm"):
        form = f"{{:.{decimals(mean)}f}}"
    if len(values) == 1:
        return form.format(mean)
    bounds = f" [{form.format(low)}, {form.format(high)}]" if column == "dice" else ""
    return f"{form.format(mean)} ± {form.format(sd)}{bounds}"
