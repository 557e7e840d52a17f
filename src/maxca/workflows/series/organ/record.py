"""The record of the motion of an organ, and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from maxca.io.records import encode
from maxca.registration.record import Source
from maxca.workflows.cohort.table import write_table
from maxca.workflows.series.record import DIRECTION

FRAMES, LABELS, POINTS = "frames", "labels", "points"  # tables
FALLS = 0.005  # of the similarity of a frame: more is no noise
FOLDED = 0.1  # % of the volume, as in the report of a pair
MOST_NAMED = 10  # frames in a warning
MEANINGS: dict[str, dict[str, tuple[str, str]]] = {
    FRAMES: {
        "frame": ("number of the frame, the first is 0", "1"),
        "similarity_before": ("local normalised cross-correlation of the frame and the reference", "1"),
        "similarity": ("the same with the reference carried to the frame", "1"),
        "displacement_mean_mm": (
            "mean distance of the labels, or of the content of the reference, from where it was",
            "mm",
        ),
        "displacement_max_mm": ("largest of these distances", "mm"),
        "ndv_percent": ("non-diffeomorphic volume of the map from reference to frame (Liu et al., IJCV 2024)", "%"),
    },
    LABELS: {
        "frame": ("number of the frame, the first is 0", "1"),
        "label": ("number of the label", "1"),
        "name": ("its name in the label table", ""),
        "volume_ml": ("volume of the label as carried to the frame, with the parts of voxels at its border", "ml"),
        "strain_largest": ("mean of the largest principal Green-Lagrange strain since the frame of the labels", "1"),
        "strain_smallest": ("mean of the smallest principal strain", "1"),
        "strain_radial": ("mean strain of the wall of the left ventricle along the radius from its axis", "1"),
        "strain_circumferential": ("around its axis", "1"),
        "strain_longitudinal": ("along its axis, which is the normal of thick slices", "1"),
    },
    POINTS: {
        "frame": ("number of the frame, the first is 0", "1"),
        "point": ("name of the point, or its number from 0", ""),
        "x": ("to the right, RAS", "mm"),
        "y": ("to the front, RAS", "mm"),
        "z": ("upwards, RAS", "mm"),
    },
}
STRAIN = ("strain_largest", "strain_smallest", "strain_radial", "strain_circumferential", "strain_longitudinal")


@dataclass(frozen=True)
class FrameRow:
    """Measures of a frame, see ``MEANINGS``."""

    frame: int
    similarity_before: float
    similarity: float
    displacement_mean_mm: float
    displacement_max_mm: float
    ndv_percent: float


@dataclass(frozen=True)
class LabelRow:
    """Measures of a label in a frame, see ``MEANINGS``."""

    frame: int
    label: int
    name: str | None
    volume_ml: float
    strain_largest: float
    strain_smallest: float
    strain_radial: float | None = None
    strain_circumferential: float | None = None
    strain_longitudinal: float | None = None


@dataclass(frozen=True)
class PointRow:
    """The position of a point in a frame, see ``MEANINGS``."""

    frame: int
    point: str
    x: float
    y: float
    z: float


@dataclass(frozen=True)
class LabelSummary:
    """A label over all frames.

    Args:
        label: its number.
        name: in the label table.
        largest_ml: largest volume.
        largest_frame: its frame.
        smallest_ml: smallest volume.
        smallest_frame: its frame.
        volume_change_percent: of the largest volume, what is more than the smallest; None for a label without volume.
        ejection_fraction_percent: the same; None for the wall of a ventricle.
        peak_strain: by the name of its column: the strain of the largest size.
    """

    label: int
    name: str | None
    largest_ml: float
    largest_frame: int
    smallest_ml: float
    smallest_frame: int
    volume_change_percent: float | None
    ejection_fraction_percent: float | None
    peak_strain: dict[str, float]


@dataclass(frozen=True)
class OrganSummary:
    """What ``result.json`` says of the motion.

    Args:
        frames: their number.
        passes: over the frames.
        model: that predicted the fields, or ``"none"``.
        model_reason: for it.
        displacement_max_mm: the largest of all frames.
        ndv_percent: the largest of all frames.
        similarity_before: mean over the frames.
        similarity: mean over the frames.
        labels: a summary of each.
    """

    frames: int
    passes: int
    model: str
    model_reason: str
    displacement_max_mm: float
    ndv_percent: float
    similarity_before: float
    similarity: float
    labels: list[LabelSummary]


@dataclass(frozen=True)
class OrganRecord:
    """The content of ``result.json``.

    Args:
        maxca: version.
        inputs: the files by role.
        settings: the options as used.
        motion: a summary.
        warnings: for the user, one line each.
        versions: of Python and packages.
        seconds: in all.
        peak_memory_mb: of the process.
        command: repeats the run.
        direction: of the transforms.
    """

    maxca: str
    inputs: dict[str, Source]
    settings: dict[str, Any]
    motion: OrganSummary
    warnings: list[str]
    versions: dict[str, str]
    seconds: float
    peak_memory_mb: float
    command: str | None = None
    direction: str = DIRECTION
    kind: str = field(default="organ motion")


def summaries(rows: Sequence[LabelRow], wall: int | None) -> list[LabelSummary]:
    """A summary of each label.

    Args:
        rows: of all frames.
        wall: the label of the wall of a ventricle.
    """
    found = []
    for label in dict.fromkeys(row.label for row in rows):
        mine = [row for row in rows if row.label == label]
        volumes = np.array([row.volume_ml for row in mine])
        most, least = int(volumes.argmax()), int(volumes.argmin())
        fraction = 100 * float((volumes[most] - volumes[least]) / volumes[most]) if volumes[most] > 0 else None
        peaks = {}
        for name in STRAIN:
            values = [value for row in mine if (value := getattr(row, name)) is not None]
            if values:
                peaks[name] = max(values, key=abs)
        found.append(
            LabelSummary(
                label,
                mine[0].name,
                float(volumes[most]),
                mine[most].frame,
                float(volumes[least]),
                mine[least].frame,
                fraction,
                None if label == wall else fraction,
                peaks,
            )
        )
    return found


def doubts(rows: Sequence[FrameRow]) -> list[str]:
    """Warnings of the frames whose maps may be wrong, a line of each kind."""
    fell = [row.frame for row in rows if row.similarity < row.similarity_before - FALLS]
    folded = [row.frame for row in rows if row.ndv_percent > FOLDED]
    found = []
    if fell:
        found.append(f"{_numbers(fell)}: less similar to the reference after registration; check them in the movie")
    if folded:
        found.append(f"{_numbers(folded)}: more than {FOLDED:g} % of the volume folds; check them in the movie")
    return found


def _numbers(frames: Sequence[int]) -> str:
    named = ", ".join(map(str, frames[:MOST_NAMED]))
    rest = f" and {len(frames) - MOST_NAMED} others" if len(frames) > MOST_NAMED else ""
    return f"frame{'s' if len(frames) > 1 else ''} {named}{rest}"


def write_rows(name: str, rows: Sequence[FrameRow | LabelRow | PointRow], folder: Path) -> None:
    """Write a table and the meaning of its columns, as BIDS has them; nothing without rows."""
    if not rows:
        return
    meanings = MEANINGS[name]
    columns = [each.name for each in fields(rows[0])]
    written: list[Mapping[str, Any]] = [asdict(row) for row in rows]
    write_table(folder / f"{name}.tsv", columns, written)
    about = {
        column: {"Description": text} | ({"Units": unit} if unit else {}) for column, (text, unit) in meanings.items()
    }
    (folder / f"{name}.json").write_text(encode(about), encoding="utf-8")
