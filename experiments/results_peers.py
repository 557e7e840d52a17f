"""Results: comparison with other registration tools and with the bundled models."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import tables
from results_images import of
from wording import again, not_yet, picture, reversed_sign, said

from maxca.evaluate.rows import Row, names, read_rows
from maxca.evaluate.statistics import Comparison
from maxca.evaluate.summary import comparisons, markdown

PEERS = {
    "brain": ("Inter-subject brains", "oasis/pairs_val.csv"),
    "brain-models": ("Inter-subject brains, model named explicitly", "oasis/pairs_val.csv"),
    "rescan": ("Test–retest brains", "oasis/pairs_val.csv"),
    "cardiac": ("Hearts, end-diastole and end-systole", "acdc/pairs_val.csv"),
    "cardiac-models": ("Hearts, model named explicitly", "acdc/pairs_val.csv"),
    "hippocampus": ("Inter-subject hippocampi", "hippocampus/pairs_val.csv"),
    "hippocampus-models": ("Hippocampi, model named explicitly", "hippocampus/pairs_val.csv"),
}

# The table of the README: two columns for each data set with rows, a line for each method.
SHORT = {
    "brain": "brains, inter-subject",
    "cardiac": "hearts, end-diastole to end-systole",
    "hippocampus": "hippocampi, inter-subject",
}
NAMED = {
    "maxca-fast": "**maxca** `--effort fast`",
    "maxca-balanced": "**maxca** (balanced)",
    "maxca-balanced+auto": "**maxca** (balanced), with the bundled model",
    "maxca-accurate": "**maxca** `--effort accurate`",
    "greedy": "greedy",
    "syn": "ANTs SyN (default)",
    "elastix": "elastix (default)",
}
ALONE, WITH_MODEL = "maxca-balanced", "maxca-balanced+auto"


def headline() -> str:
    """Mean Dice and seconds of each method on the three data sets, the highest Dice of a set in bold."""
    there = {name: rows for name in SHORT if (rows := read_rows(tables.BENCHMARKS / f"{name}.csv"))}
    titles = [f"{SHORT[name]} ({len(names(rows, 'pair'))}) | |" for name, rows in there.items()]
    lines = ["| | " + " ".join(titles), "|---|" + "---:|" * 2 * len(there), "| |" + " Dice | seconds |" * len(there)]
    before = [fmean(of(rows, names(rows, "method")[0], "dice_before")) for rows in there.values()]
    lines += ["| before registration |" + "".join(f" {dice:.3f} | |" for dice in before)]
    for method, title in NAMED.items():
        cells = [_cells(rows, method) for rows in there.values()]
        lines += [f"| {title} | {' | '.join(cells)} |"]
    return "\n".join(lines)


def _cells(rows: Sequence[Row], method: str) -> str:
    """Dice and seconds of a method on a set; empty where it has no row or no model is available."""
    dice = {name: fmean(found) for name in names(rows, "method") if (found := of(rows, name, "dice"))}
    if method not in dice or (method == WITH_MODEL and of(rows, WITH_MODEL, "dice") == of(rows, ALONE, "dice")):
        return " | "
    bold = "**" if dice[method] == max(dice.values()) else ""
    return f"{bold}{dice[method]:.3f}{bold} | {fmean(of(rows, method, 'seconds')):.1f}"


def peers() -> list[str]:
    """The tables of maxca and of other tools."""
    lines = ["## Other registration tools", ""]
    for name, (title, pairs) in PEERS.items():
        rows = read_rows(tables.BENCHMARKS / f"{name}.csv")
        lines += [f"### {title}", ""]
        if not rows:
            lines += [not_yet(f"benchmarks/versus_peers.py --set {name}"), ""]
            continue
        ours, pair = rows[0]["method"], rows[0]["pair"]
        lines += [markdown(rows, ours).rstrip(), ""]
        lines += [f"- {told}." for told in outcomes(rows).values()]
        lines += ["", picture(f"peers-{name}", f"Dice by seconds, {title.lower()}")]
        lines += [
            "",
            again(f"maxca evaluate --pairs ../shared/data/{pairs} --pair {pair} --methods {ours} -o row.csv"),
            "",
        ]
    return lines


def outcomes(rows: Sequence[Row]) -> dict[str, str]:
    """The first method against other tools, and against itself with other models: name of the other → outcome."""
    ours, told = rows[0]["method"], {}
    for other, (c, share) in compared(rows).items():
        who = f"`{other}` against `{ours}`" if other.startswith(f"{ours}+") else f"`{ours}` against `{other}`"
        told[other] = f"{who}: {said(c.difference)}, in {share:.2f} × the time"
    return told


def compared(rows: Sequence[Row]) -> dict[str, tuple[Comparison, float]]:
    """Comparisons in Dice with other tools (the first method minus the tool) and with models (the model minus none).

    Returns:
        name of the other → comparison, and the ratio of the mean times, in the same direction.
    """
    ours, found = rows[0]["method"], {}
    for other, comparison in comparisons(rows, ours).items():
        share = fmean(of(rows, ours, "seconds")) / fmean(of(rows, other, "seconds"))
        if other.startswith(f"{ours}+"):
            found[other] = comparison, 1 / share
        elif not other.startswith("maxca"):
            found[other] = reversed_sign(comparison), share
    return found
