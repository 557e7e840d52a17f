"""The section of the page of results about other tools."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import tables
from results_images import of
from wording import again, not_yet, opposite, picture, said

from maxca.evaluate.rows import Row, names, read_rows
from maxca.evaluate.summary import comparisons, markdown

PEERS = {
    "brain": ("Brains of different people", "oasis/pairs_val.csv"),
    "brain-models": ("Brains of different people, a network asked by name", "oasis/pairs_val.csv"),
    "rescan": ("The same brain twice", "oasis/pairs_val.csv"),
    "cardiac": ("Hearts, end of diastole and end of systole", "acdc/pairs_val.csv"),
    "cardiac-models": ("Hearts, a network asked by name", "acdc/pairs_val.csv"),
    "hippocampus": ("Hippocampi of different people", "hippocampus/pairs_val.csv"),
    "hippocampus-models": ("Hippocampi, a network asked by name", "hippocampus/pairs_val.csv"),
}

# The table of the README: two columns for each set that has rows, a line for each method.
SHORT = {
    "brain": "brains of different people",
    "cardiac": "hearts, end of diastole and systole",
    "hippocampus": "hippocampi",
}
NAMED = {
    "maxca-fast": "**maxca** `--effort fast`",
    "maxca-balanced": "**maxca** (balanced)",
    "maxca-balanced+auto": "**maxca** (balanced), with its model",
    "maxca-accurate": "**maxca** `--effort accurate`",
    "greedy": "greedy",
    "syn": "ANTs SyN (default)",
    "elastix": "elastix (default)",
}
ALONE, ASKING = "maxca-balanced", "maxca-balanced+auto"


def headline() -> str:
    """Mean Dice and seconds of each method on the three sets, the highest Dice of a set in bold."""
    there = {name: rows for name in SHORT if (rows := read_rows(tables.BENCHMARKS / f"{name}.csv"))}
    titles = [f"{SHORT[name]} ({len(names(rows, 'pair'))}) | |" for name, rows in there.items()]
    lines = ["| | " + " ".join(titles), "|---|" + "---:|" * 2 * len(there), "| |" + " Dice | seconds |" * len(there)]
    before = [fmean(of(rows, names(rows, "method")[0], "dice_before")) for rows in there.values()]
    lines += ["| as they lie |" + "".join(f" {dice:.3f} | |" for dice in before)]
    for method, title in NAMED.items():
        cells = [_cells(rows, method) for rows in there.values()]
        lines += [f"| {title} | {' | '.join(cells)} |"]
    return "\n".join(lines)


def _cells(rows: Sequence[Row], method: str) -> str:
    """Dice and seconds of a method on a set; empty where it has no row, or there is no model to ask."""
    dice = {name: fmean(found) for name in names(rows, "method") if (found := of(rows, name, "dice"))}
    if method not in dice or (method == ASKING and of(rows, ASKING, "dice") == of(rows, ALONE, "dice")):
        return " | "
    bold = "**" if dice[method] == max(dice.values()) else ""
    return f"{bold}{dice[method]:.3f}{bold} | {fmean(of(rows, method, 'seconds')):.1f}"


def peers() -> list[str]:
    """Ours beside other tools."""
    lines = ["## Beside other tools", ""]
    for name, (title, pairs) in PEERS.items():
        rows = read_rows(tables.BENCHMARKS / f"{name}.csv")
        lines += [f"### {title}", ""]
        if not rows:
            lines += [not_yet(f"benchmarks/versus_peers.py --set {name}"), ""]
            continue
        ours, pair = rows[0]["method"], rows[0]["pair"]
        lines += [markdown(rows, ours).rstrip(), ""]
        lines += [f"- {told}." for told in beside(rows).values()]
        lines += ["", picture(f"peers-{name}", f"Dice by seconds, {title.lower()}")]
        lines += [
            "",
            again(f"maxca evaluate --pairs ../shared/data/{pairs} --pair {pair} --methods {ours} -o row.csv"),
            "",
        ]
    return lines


def beside(rows: Sequence[Row]) -> dict[str, str]:
    """The first method against other tools, and with a model against itself: name of the other → what came out."""
    told = {}
    ours = rows[0]["method"]
    for other, found in comparisons(rows, ours).items():
        share = fmean(of(rows, ours, "seconds")) / fmean(of(rows, other, "seconds"))
        if other.startswith(f"{ours}+"):
            who, share, difference = f"`{other}` against `{ours}`", 1 / share, found.difference
        elif not other.startswith("maxca"):
            who, difference = f"`{ours}` against `{other}`", opposite(found.difference)
        else:
            continue
        told[other] = f"{who}: {said(difference, 'Dice')}, in {share:.2f} × the time"
    return told
