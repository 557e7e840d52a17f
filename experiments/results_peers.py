"""The section of the page of results about other tools."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import tables
from results_images import of
from wording import again, not_yet, opposite, picture, said

from maxca.evaluate.rows import Row, read_rows
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
