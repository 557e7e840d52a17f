"""The record of a series and its table of motion."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from maxca.io.digest import sha256
from maxca.io.records import encode
from maxca.io.regular import check_regular
from maxca.models.zoo import find_model
from maxca.options import MODELS
from maxca.registration.record import Source
from maxca.workflows.series.motion import MotionTable
from maxca.workflows.series.options import SeriesInputs, SeriesOptions

TABLE, SIDECAR = "motion.tsv", "motion.json"
DIRECTION = "reference world points to frame world points, RAS+ mm"
AXES = ("x", "y", "z")
MEANINGS = {
    "trans_{}": ("motion of the centre of rotation along {} (R, A, S) since the reference", "mm"),
    "rot_{}": ("rotation about {} (R, A, S) through the centre, about x first, then y, then z", "rad"),
}
COLUMNS: dict[str, tuple[str, str]] = {
    "scale": ("determinant of the linear part: 1 for a rigid motion", "1"),
    "framewise_displacement": (
        "sum of the absolute changes of the six parameters, rotations on a sphere (Power et al., 2012)",
        "mm",
    ),
    "dvars": ("root mean square change of the corrected intensities since the last frame", "as the series"),
    "std_dvars": ("dvars over its median in the series", "1"),
    "similarity": ("correlation of the frame and of what the reference explains of it", "1"),
    "motion_outlier": ("1 for an outlier: framewise_displacement or std_dvars above its threshold", "1"),
}


@dataclass(frozen=True, eq=False)
class FrameMeasures:
    """Measures of each frame, in order.

    Args:
        motion: parameters.
        dvars: (T,) NaN for the first frame.
        std_dvars: (T,) over the median.
        similarity: (T,).
        outlier: (T,) bool.
    """

    motion: MotionTable
    dvars: np.ndarray
    std_dvars: np.ndarray
    similarity: np.ndarray
    outlier: np.ndarray

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of the table."""
        found = {f"trans_{axis}": self.motion.translations[:, n] for n, axis in enumerate(AXES)}
        found |= {f"rot_{axis}": self.motion.rotations[:, n] for n, axis in enumerate(AXES)}
        values = self.motion.scale, self.motion.displacement, self.dvars, self.std_dvars, self.similarity, self.outlier
        return found | dict(zip(COLUMNS, values, strict=True))


@dataclass(frozen=True)
class Summary:
    """What ``result.json`` says of the motion.

    Args:
        frames: their number.
        outliers: numbers of frames, from 0.
        mean_fd_mm: mean framewise displacement.
        max_fd_mm: the largest.
        max_translation_mm: the largest motion of the centre.
        max_rotation_degrees: the largest rotation about an axis.
        passes: over the frames.
        other_contrast: the number of frames that were aligned by the correlation ratio.
    """

    frames: int
    outliers: list[int]
    mean_fd_mm: float
    max_fd_mm: float
    max_translation_mm: float
    max_rotation_degrees: float
    passes: int
    other_contrast: int


@dataclass(frozen=True)
class SeriesRecord:
    """The content of ``result.json``.

    Args:
        maxca: version.
        inputs: the files by role.
        settings: the options as used.
        center: of rotation, RAS mm.
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
    center: list[float]
    motion: Summary
    warnings: list[str]
    versions: dict[str, str]
    seconds: float
    peak_memory_mb: float
    command: str | None = None
    direction: str = DIRECTION
    kind: str = field(default="series")


def sources_of(image: str | Path, inputs: SeriesInputs, options: SeriesOptions) -> dict[str, Source]:
    """The files of a series by role, the model among them, with their hashes.

    Raises:
        MaxcaError: for a file that is missing.
    """
    files = {"image": image} | {each.name: getattr(inputs, each.name) for each in fields(inputs)}
    if str(options.to) not in ("first", "mean") and options.frame is None:
        files["to"] = options.to
    if isinstance(options.model, str | Path) and str(options.model) not in MODELS:
        files["model"] = find_model(options.model)
    found = {role: Path(path) for role, path in files.items() if path is not None}
    for path in found.values():
        if not path.is_dir():
            check_regular(path)
    return {role: Source(str(path.resolve()), sha256(path)) for role, path in found.items()}


def settings_of(options: SeriesOptions) -> dict[str, Any]:
    """The options as they are recorded."""
    named = ("to", "model")
    return {name: str(value) if name in named else value for name, value in asdict(options).items()}


def write_table(measures: FrameMeasures, record: SeriesRecord, folder: Path) -> None:
    """Write the table, a row per frame, and the meaning of its columns, as BIDS has them."""
    columns = measures.columns()
    rows = zip(*columns.values(), strict=True)
    lines = ["\t".join(columns), *("\t".join(map(_cell, row)) for row in rows)]
    (folder / TABLE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    meanings = {
        name.format(axis): {"Description": text.format(axis), "Units": unit}
        for name, (text, unit) in MEANINGS.items()
        for axis in AXES
    }
    meanings |= {name: {"Description": text, "Units": unit} for name, (text, unit) in COLUMNS.items()}
    about = {"CenterOfRotation": record.center, "SphereRadius": record.settings["radius"], **meanings}
    about["Thresholds"] = {
        "framewise_displacement": record.settings["fd_threshold"],
        "std_dvars": record.settings["dvars_threshold"],
    }
    (folder / SIDECAR).write_text(encode(about), encoding="utf-8")


def summary(measures: FrameMeasures, passes: int, other_contrast: int) -> Summary:
    """The summary of a table."""
    motion = measures.motion
    return Summary(
        frames=len(motion.scale),
        outliers=np.flatnonzero(measures.outlier).tolist(),
        mean_fd_mm=float(np.nanmean(motion.displacement)),
        max_fd_mm=float(np.nanmax(motion.displacement)),
        max_translation_mm=float(np.linalg.norm(motion.translations, axis=1).max()),
        max_rotation_degrees=math.degrees(float(np.abs(motion.rotations).max())),
        passes=passes,
        other_contrast=other_contrast,
    )


def _cell(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    return f"{value:.8g}" if np.isfinite(value) else "n/a"
