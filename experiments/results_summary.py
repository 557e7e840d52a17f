"""The page of results: one table, and a paragraph per question with effect sizes and intervals."""

from __future__ import annotations

from statistics import fmean

import tables
from results_guided import segmentations
from results_images import of
from results_peers import NAMED, SHORT
from summary_images import across, corrupted_images, equal, models, rescan, tools, verdicts
from summary_networks import blocks, cost, finest, parts, training

from maxca.evaluate.rows import Row, names, read_rows
from maxca.evaluate.statistics import interval

QUESTIONS = {
    "Is maxca more accurate than other tools?": (tools, "other-registration-tools"),
    "Does the difference persist at equal folding?": (equal, "accuracy-at-equal-folding"),
    "Do the bundled models improve accuracy?": (models, "other-registration-tools"),
    "Do segmentations help?": (segmentations, "guided-by-a-segmentation"),
    "How accurate is it on two scans of one subject?": (rescan, "other-registration-tools"),
    "Is MAXCA more accurate than other blocks?": (blocks, "blocks-trained-without-labels"),
    "Do both branches of MAXCA contribute?": (parts, "blocks-trained-without-labels"),
    "Does MAXCA help at full resolution?": (finest, "resolution-levels"),
    "Is its cost linear in the number of voxels?": (cost, "computational-cost"),
    "What does training cost?": (training, "training-step"),
    "How robust is it to corrupted images?": (corrupted_images, "corrupted-images"),
    "Does it register different contrasts?": (across, "registration-between-contrasts"),
    "Can the verdict be trusted?": (verdicts, "verdict"),
}


def summary() -> list[str]:
    """The table, then a section per question."""
    lines = ["## Overview", "", *overview(), ""]
    for question, (answer, section) in QUESTIONS.items():
        sentences = answer()
        told = " ".join(sentences) if sentences else "*Not measured yet.*"
        lines += [f"## {question}", "", f"{told} [Details](results-appendix.md#{section})", ""]
    return lines


def overview() -> list[str]:
    """Dice with its interval, folding and time of each method on the three data sets."""
    there = {name: rows for name in SHORT if (rows := read_rows(tables.BENCHMARKS / f"{name}.csv"))}
    if not there:
        return ["*Not measured yet.*"]
    titles = " | ".join(
        f"{SHORT[name]} (n = {len(names(rows, 'pair'))}): Dice | NDV, % | s" for name, rows in there.items()
    )
    lines = ["Table 1: Mean Dice over labels with its 95 % CI, non-diffeomorphic volume (NDV) and time per pair.", ""]
    lines += [f"| method | {titles} |", "|---|" + "---:|" * 3 * len(there)]
    before = [of(rows, names(rows, "method")[0], "dice_before") for rows in there.values()]
    lines += ["| before registration |" + "".join(f" {_mean(dice)} | | |" for dice in before)]
    for method, title in NAMED.items():
        cells = " | ".join(_cells(rows, method) for rows in there.values())
        lines += [f"| {title} | {cells} |"]
    return lines


def _cells(rows: list[Row], method: str) -> str:
    """Dice, NDV and time of a method, or dashes."""
    if not (dice := of(rows, method, "dice")):
        return "– | – | –"
    ndv, seconds = of(rows, method, "ndv_percent"), of(rows, method, "seconds")
    return f"{_mean(dice)} | {f'{fmean(ndv):.5f}' if ndv else '–'} | {f'{fmean(seconds):.1f}' if seconds else '–'}"


def _mean(values: list[float]) -> str:
    """Mean and 95 % confidence interval."""
    found = interval(values)
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]" if len(values) > 1 else f"{found.mean:.3f}"
