"""Results: agreement of the verdict with registrations of known quality."""

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
TRUTH = {"right": "correct", "wrong": "wrong"}  # the table → the page
HALF = {"development": "development", "reported": "test"}


def judged() -> list[str]:
    """The verdict on registrations of known quality."""
    lines = ["## Verdict", ""]
    rows = tables.read(tables.RESULTS / "verdict.csv")
    if not rows:
        return [*lines, not_yet("experiments/verdict.py"), ""]
    typical = ", ".join(f"{name} {dice:g}" for name, dice in TYPICAL.items())
    lines += [
        "Agreement of the report's verdict with registrations of known quality (`maxca register --effort fast --model",
        "none`; the verdict does not see labels). Voxels are about 3 mm for brains and hearts and 2 mm for heads. Two",
        f"images of one subject related by a known deformation: correct up to a mean error of {RIGHT:g} voxels, wrong",
        f"from {WRONG:g}, also in the tissue around a lesion. Images of different subjects: correct from",
        f"{DICE_RIGHT:g} times the Dice of good results ({typical}), wrong up to",
        f"{DICE_WRONG:g} times it. Different organs and noise: wrong. Results between these limits are listed as",
        "borderline. A trial is classified by its outcome and not by how its images were manipulated: an image rotated",
        "by 60° and rotated back is correct. Thresholds were chosen on the development half; the test half (`--half",
        "reported`) has other subjects, except for the heads, which are two visits of one subject.",
        "",
        "| half | trials | correct: aligned | check | failed | wrong: failed | check | aligned | borderline |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for half in (*HALVES, "both"):
        mine = [row for row in rows if half in (row["half"], "both")]
        if mine:
            lines += [f"| {HALF.get(half, half)} | {len(mine)} | {_cells(mine)} |"]
    lines += ["", "By kind of trial, both halves:", ""]
    lines += [
        "| trial | data sets | correct: aligned | check | failed | wrong: failed | check | aligned | borderline |"
    ]
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
        f"Median time of a registration {seconds[0]:.1f} s, of its verdict {seconds[1]:.1f} s (threads: {threads};",
        "other processes were running on the machine).",
        "",
    ]
    last = rows[-1]
    command = f'python experiments/verdict.py ../shared/data --half {last["half"]} --only "{last["trial"]}" -o row.csv'
    return [*lines, again(command), ""]


def _cells(rows: Rows) -> str:
    """Counts, the expected verdict with its percentage."""
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
    """Every trial with a verdict other than expected."""
    missed = [row for row in rows if row["truth"] in WANTED and row["verdict"] != WANTED[row["truth"]]]
    if not missed:
        return ["Every correct result is `aligned`, every wrong one `failed`."]
    told = ["Misclassified trials:", ""]
    for row in missed:
        value = f", {row['value']} {row['measure']}" if row["value"] else f", {row['measure']}"
        why = f" ({row['reasons']})" if row["reasons"] else ""
        told.append(f"- {HALF[row['half']]}, {row['trial']}: {TRUTH[row['truth']]}{value}; `{row['verdict']}`{why}.")
    return told


def _kind(row: dict[str, str]) -> str:
    """The kind of a trial, whatever its data set."""
    group, kind = row["trial"].split("/")[:2]
    return STRANGERS if group == "strangers" else kind
