"""Brains guided by their segmentations, and the overlap predicted from these: an answer and a table."""

from __future__ import annotations

from statistics import correlation, fmean, median

import tables
from wording import not_yet, said

from maxca.evaluate.statistics import compare

TITLES = {
    "header": "before registration",
    "affine": "affine",
    "smooth": "`fast`, smoothness 12 mm",
    "fast": "`fast`",
    "balanced": "`balanced`, no model",
    "guided": "`balanced`, guided",
}
Rows = list[dict[str, str]]


def segmentations() -> list[str]:
    """Whether guided pairs have a higher overlap, and whether it can be predicted."""
    rows = _rows()
    if not rows:
        return []
    guided, alone = (_values(rows, method, "dice") for method in ("guided", "balanced"))
    rough = [fmean(_values(rows, method, "sdlogj")) for method in ("balanced", "guided")]
    r = correlation([float(row["predicted"]) for row in rows], [float(row["dice"]) for row in rows])
    return [
        f"On {len(guided)} inter-subject pairs of brains, guided by the segmentations of `brain-names` compared with "
        f"the optimisation alone: {said(compare(guided, alone).difference)}; SDlogJ went from {rough[0]:.3f} to "
        f"{rough[1]:.3f}.",
        f"The overlap of the two segmentations correlates with that of the reference labels (r = {r:.3f}, {len(rows)} "
        "registrations from unaligned to guided).",
    ]


def guided() -> list[str]:
    """The appendix: every method."""
    rows = _rows()
    lines = ["## Guided by a segmentation", ""]
    if not rows:
        return [*lines, not_yet("experiments/segmentation/guided.py"), ""]
    lines += [
        "Dice of the reference labels, and as predicted from the segmentations before calibration; means over "
        f"{len(_values(rows, 'guided', 'dice'))} pairs. Seconds: median of the optimisation alone, on a busy machine.",
        "",
        "| | Dice | predicted | SDlogJ | NDV % | s |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for method, title in TITLES.items():
        columns = ("dice", "predicted", "sdlogj", "ndv_percent")
        dice, predicted, rough, ndv = (fmean(_values(rows, method, column)) for column in columns)
        seconds = median(_values(rows, method, "seconds"))
        lines += [f"| {title} | {dice:.3f} | {predicted:.3f} | {rough:.3f} | {ndv:.4f} | {seconds:.1f} |"]
    return [*lines, "", "`python experiments/segmentation/guided.py DATA MODEL -o guided.csv`", ""]


def _rows() -> Rows:
    """The rows of the pairs that have every method."""
    rows: Rows = tables.read(tables.RESULTS / "guided.csv")
    whole = {row["pair"] for row in rows}
    for method in TITLES:
        whole &= {row["pair"] for row in rows if row["method"] == method}
    return [row for row in rows if row["pair"] in whole]


def _values(rows: Rows, method: str, column: str) -> list[float]:
    return [float(row[column]) for row in rows if row["method"] == method]
