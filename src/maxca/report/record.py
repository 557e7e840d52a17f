"""The parts of ``result.json`` needed for a report, with validation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

from maxca.errors import MaxcaError
from maxca.io.atomic import RESULT_FILE
from maxca.io.records import read_json

Length = Annotated[float, Meta(gt=0, le=1e9)]  # mm
Similarity = Annotated[float, Meta(ge=-1e6, le=1e6)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
LabelName = Annotated[str, Meta(pattern=r"^-?[0-9]{1,20}$")]
REMEDY = "run maxca register again"
MEANT = f"the record of a registration; {REMEDY}"


class Source(TypedDict):
    """A file that was registered."""

    path: str
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Settings(TypedDict):
    """Settings of the registration."""

    model: str
    model_reason: str
    transform: NotRequired[str | None]
    effort: NotRequired[str | None]
    initial_transform: NotRequired[Any]
    seed: NotRequired[int | None]
    threads: NotRequired[int | None]
    device: NotRequired[str | None]


class Level(TypedDict):
    """One level of the optimisation."""

    spacing: Annotated[list[Length], Meta(min_length=3, max_length=3)]
    similarity: list[Similarity]


class Compared(TypedDict):
    """A similarity before and after."""

    name: str
    before: Similarity
    after: Similarity


class Folding(TypedDict):
    """Percent of the volume."""

    ndv_percent: float


class Distances(TypedDict):
    """Mean distance in mm, and the distances of individual landmarks."""

    mean: float
    by_point: NotRequired[list[float]]


class ByLabel(TypedDict):
    """Scores of the labels, and their mean."""

    mean: float | None
    by_label: dict[LabelName, float | None]


class Metrics(TypedDict):
    """Measures of the registration."""

    similarity: Compared
    folding: Folding
    inverse_consistency_mm: Distances
    dice_before: NotRequired[ByLabel]
    dice_after: NotRequired[ByLabel]
    hd95_mm_before: NotRequired[ByLabel]
    hd95_mm_after: NotRequired[ByLabel]
    tre_mm_before: NotRequired[Distances]
    tre_mm_after: NotRequired[Distances]


class Record(TypedDict):
    """The parts of ``result.json`` shown in a report."""

    inputs: dict[str, Source]
    settings: Settings
    levels: list[Level]
    metrics: Metrics
    warnings: list[str]
    versions: dict[str, str]
    seconds: dict[str, Seconds]
    peak_memory_mb: float
    command: NotRequired[str]


def read_record(folder: str | Path) -> dict[str, Any]:
    """The complete content of ``result.json``, after validation of the fields of ``Record``.

    Raises:
        MaxcaError: for a missing or invalid file; it names the field.
    """
    path = Path(folder) / RESULT_FILE
    if not os.path.lexists(path):
        raise MaxcaError(f"{folder}: no {RESULT_FILE}; pass an output folder of maxca register")
    checked = read_json(path, Record, MEANT)
    for before, after in (("dice_before", "dice_after"), ("tre_mm_before", "tre_mm_after")):
        _alike(path, checked["metrics"], before, after)
    return read_json(path, dict[str, Any], MEANT)


def _alike(path: Path, metrics: Any, before: str, after: str) -> None:
    """Reject scores that exist only before or after registration, or differ in the number of points or labels."""
    if (before in metrics) != (after in metrics):
        raise MaxcaError(f"{path}: `metrics` has only one of {before} and {after}; {REMEDY}")
    if before in metrics:
        held = [metrics[name].get("by_point", metrics[name].get("by_label")) for name in (before, after)]
        if any(one is None for one in held) or len(held[0]) != len(held[1]):
            raise MaxcaError(f"{path}: `metrics.{before}` and `metrics.{after}` differ in labels or points; {REMEDY}")
