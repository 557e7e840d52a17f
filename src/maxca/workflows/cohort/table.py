"""The measures of a cohort as tables: ``measures.tsv``, a row per pair, and ``labels.tsv``, a row per label of it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maxca.errors import MaxcaError
from maxca.io.atomic import atomic_path
from maxca.io.cells import neutral
from maxca.registration.record import Assessment, ByLabel, Record, read_record
from maxca.workflows.cohort.plan import Plan, PlannedPair

MEASURES, LABELS = "measures.tsv", "labels.tsv"
LABELLED = (
    "dice_before",
    "dice_after",
    "hd95_mm_before",
    "hd95_mm_after",
    "predicted_dice_before",
    "predicted_dice_after",
)
SPREAD = ("tre_mm_before", "tre_mm_after", "inverse_consistency_mm", "inverse_residual_mm")  # mean and maximum
FOLDING = ("ndv_percent", "nonpositive_percent", "sd_log_jacobian", "sd_log_jacobian_plus_3")
MEASURED = (
    *("similarity", "similarity_before", "similarity_after"),
    *LABELLED,
    *(f"{name}{end}" for name in SPREAD for end in ("", "_max")),
    *FOLDING,
    *("model", "warnings", "seconds", "peak_memory_mb"),
)
COLUMNS = ("name", "state", "fixed", "moving", "group", *MEASURED, "error")
LABEL_COLUMNS = ("name", "label", *LABELLED)


def write_tables(plan: Plan, folder: Path) -> None:
    """Write both tables; that of the labels only if there are any."""
    records = {pair.name: record for pair in plan.pairs if (record := _record(folder, pair)) is not None}
    write_table(folder / MEASURES, COLUMNS, (_row(pair, records.get(pair.name)) for pair in plan.pairs))
    labels = [row for name, record in records.items() for row in _labels(name, record.metrics)]
    if labels:
        write_table(folder / LABELS, LABEL_COLUMNS, labels)
    else:
        (folder / LABELS).unlink(missing_ok=True)


def _record(folder: Path, pair: PlannedPair) -> Record | None:
    if pair.state != "done":
        return None
    try:
        return read_record(folder / pair.name)
    except MaxcaError:  # removed or edited since; the row says nothing then
        return None


def _row(pair: PlannedPair, record: Record | None) -> dict[str, Any]:
    paths = {side: pair.inputs[side].path for side in ("fixed", "moving")}
    row = {"name": pair.name, "state": pair.state, "group": pair.group, "error": pair.error, **paths}
    return row if record is None else row | measures(record)


def measures(record: Record) -> dict[str, Any]:
    """The measures of a registration, by the names of the columns."""
    metrics = record.metrics
    row: dict[str, Any] = {
        "similarity": metrics.similarity.name,
        "similarity_before": metrics.similarity.before,
        "similarity_after": metrics.similarity.after,
        "model": record.settings.model,
        "warnings": len(record.warnings),
        "seconds": sum(record.seconds.values()),
        "peak_memory_mb": record.peak_memory_mb,
    }
    row |= {name: getattr(metrics.folding, name) for name in FOLDING}
    for name in LABELLED:
        each: ByLabel | None = getattr(metrics, name)
        row[name] = None if each is None else each.mean
    for name in SPREAD:
        distances = getattr(metrics, name)
        if distances is not None:
            row |= {name: distances.mean, f"{name}_max": distances.max}
    return row


def _labels(name: str, metrics: Assessment) -> Iterator[dict[str, Any]]:
    scores = {score: each.by_label for score in LABELLED if (each := getattr(metrics, score)) is not None}
    labels = dict.fromkeys(label for score in scores.values() for label in score)
    for label in sorted(labels, key=int):
        yield {"name": name, "label": label} | {score: held.get(label) for score, held in scores.items()}


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table with tabs, atomically; what is missing is n/a, as BIDS writes it."""
    with atomic_path(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(row.get(name)) for name in columns})


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "n/a"
    return f"{value:.6g}" if isinstance(value, float) else neutral(str(value))
