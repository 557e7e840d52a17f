"""The section of the page of results about the verdict: how often it is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

import tables
from verdict_trials import HALVES
from verdict_truth import DICE_RIGHT, DICE_WRONG, RIGHT, TYPICAL, WRONG
from wording import again, not_yet

from maxca.report.verdict.check import ORDER

Rows = Sequence[dict[str, str]]
SETS = ("hippocampus", "heart", "brain", "head", "organ")
STRANGERS = "different organs"
WANTED = {"right": "aligned", "wrong": "failed"}


def judged() -> list[str]:
    """Registrations whose worth is known, and what the verdict says of them."""
    lines = ["## The verdict", ""]
    rows = tables.read(tables.RESULTS / "verdict.csv")
    if not rows:
        return [*lines, not_yet("experiments/verdict.py"), ""]
    typical = ", ".join(f"{name} {dice:g}" for name, dice in TYPICAL.items())
    lines += [
        "What the verdict of a report says of registrations whose worth is known (`maxca register --effort fast",
        "--model none`; the verdict sees no labels). Brains and hearts have voxels of about 3 mm, heads of 2 mm.",
        f"Two images of one person that differ by a known map: right up to a mean error of {RIGHT:g} voxels, wrong",
        f"from {WRONG:g}, in the tissue around a lesion too. Images of different people: right from",
        f"{DICE_RIGHT:g} times the Dice of good results ({typical}), wrong up to",
        f"{DICE_WRONG:g} times it. Different organs, noise: wrong. What lies between is counted as neither. So a trial",
        "is right or wrong by what came out, not by what was done: an image turned by 60° that was turned back is",
        "right. Thresholds were chosen on the development half; the reported half has other people, except for the",
        "heads, which are two visits of one.",
        "",
        "| half | trials | right: aligned | check | failed | wrong: failed | check | aligned | between |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for half in (*HALVES, "both"):
        mine = [row for row in rows if half in (row["half"], "both")]
        if mine:
            lines += [f"| {half} | {len(mine)} | {_cells(mine)} |"]
    lines += ["", "By kind of trial, both halves together:", ""]
    lines += ["| trial | sets | right: aligned | check | failed | wrong: failed | check | aligned | between |"]
    lines += ["|---|---|---:|---:|---:|---:|---:|---:|---:|"]
    kinds: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        kinds.setdefault(_kind(row), []).append(row)
    for kind, mine in sorted(kinds.items()):
        groups = dict.fromkeys(row["trial"].split("/")[0] for row in mine)
        sets = "all" if kind == STRANGERS else ", ".join(sorted(groups, key=SETS.index))
        lines += [f"| {kind} | {sets} | {_cells(mine)} |"]
    lines += ["", *_wrong(rows), ""]
    seconds = [median(float(row[column]) for row in rows) for column in ("register_s", "verdict_s")]
    threads = ", ".join(sorted({row["threads"] for row in rows}))
    lines += [
        f"A registration took {seconds[0]:.1f} s, its verdict {seconds[1]:.1f} s (medians; threads: {threads}; the",
        "machine had other work besides).",
        "",
    ]
    last = rows[-1]
    command = f'python experiments/verdict.py ../shared/data --half {last["half"]} --only "{last["trial"]}" -o row.csv'
    return [*lines, again(command), ""]


def _cells(rows: Rows) -> str:
    """Counts, the first of three with its share."""
    counted = Counter((row["truth"], row["verdict"]) for row in rows)
    cells = []
    for truth, states in (("right", ORDER), ("wrong", ORDER[::-1])):
        total = sum(counted[truth, state] for state in states)
        for state in states:
            share = f" ({counted[truth, state] / total:.0%})" if total and state == WANTED[truth] else ""
            cells.append(f"{counted[truth, state] or '–'}{share}" if total else "")
    between = sum(counted["between", state] for state in ORDER)
    return " | ".join([*cells, str(between) if between else ""])


def _wrong(rows: Rows) -> list[str]:
    """Every trial that was judged otherwise than it should be."""
    missed = [row for row in rows if row["truth"] in WANTED and row["verdict"] != WANTED[row["truth"]]]
    if not missed:
        return ["Every right result is `aligned`, every wrong one `failed`."]
    told = ["Judged otherwise than they should be:", ""]
    for row in missed:
        value = f", {row['value']} {row['measure']}" if row["value"] else f", {row['measure']}"
        why = f" ({row['reasons']})" if row["reasons"] else ""
        told.append(f"- {row['half']}, {row['trial']}: {row['truth']}{value}; `{row['verdict']}`{why}.")
    return told


def _kind(row: dict[str, str]) -> str:
    """What was done, whatever it was done to."""
    group, kind = row["trial"].split("/")[:2]
    return STRANGERS if group == "strangers" else kind
