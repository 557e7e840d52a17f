"""What ``result.json`` holds, as types: another file is refused by its first wrong field."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from maxca.errors import MaxcaError
from maxca.io.atomic import RESULT_FILE
from maxca.io.records import read_json

Length = Annotated[float, Meta(gt=0, le=1e9)]  # mm
Value = Annotated[float, Meta(ge=-1e6, le=1e6)]  # of a similarity
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
LabelName = Annotated[str, Meta(pattern=r"^-?[0-9]{1,20}$")]
CURE = "run maxca register again"
MEANT = f"the record of a registration; {CURE}"
DIRECTION = "transform.h5 maps fixed world points to moving world points"


@dataclass(frozen=True)
class Source:
    """A file that was registered, or a model: where it was, and its hash."""

    path: str
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Settings:
    """The options as they were used, see ``RegistrationOptions``.

    Their vocabularies are not checked: a record can be read without the plugin that it was made with.
    """

    model: str
    transform: str | None = None
    initial_transform: str | None = None
    matrix_convention: str | None = None
    effort: str | None = None
    similarity: str | None = None
    smoothness: float | None = None
    fill: float | None = None
    device: str | None = None
    threads: int | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Applied:
    """How a further image was warped."""

    interpolation: str
    reason: str
    fill: float


@dataclass(frozen=True)
class AffineRecord:
    """The affine, fixed world points → moving world points, and why it was chosen; see ``Alignment``."""

    affine: Annotated[list[Annotated[list[float], Meta(min_length=4, max_length=4)]], Meta(min_length=4, max_length=4)]
    chosen: str
    reason: str
    similarity: dict[str, float | None]
    same_contrast: bool


@dataclass(frozen=True)
class NetworkRecord:
    """The model whose prediction was considered, and whether it was accepted; see ``PredictedField``."""

    name: str
    config: dict[str, Any]
    similarity: dict[str, float | None]
    accepted: bool
    reason: str
    spacing_mm: list[float | None] | None = None


@dataclass(frozen=True)
class Level:
    """One level of the optimisation."""

    spacing: Annotated[list[Length], Meta(min_length=3, max_length=3)]
    similarity: list[Value]
    steps: int | None = None
    converged: bool | None = None


@dataclass(frozen=True)
class Compared:
    """A similarity before and after."""

    name: str
    before: Value
    after: Value


@dataclass(frozen=True)
class Folding:
    """Share of the volume that folds, in percent, and the spread of the Jacobian; see ``metrics.folding``."""

    ndv_percent: float
    nonpositive_percent: float | None = None
    sd_log_jacobian: float | None = None
    sd_log_jacobian_plus_3: float | None = None


@dataclass(frozen=True)
class Distances:
    """Distances in mm; of landmarks also one by one."""

    mean: float
    max: float | None = None
    by_point: list[float] | None = None


@dataclass(frozen=True)
class ByLabel:
    """A score of each label, and their mean."""

    mean: float | None
    by_label: dict[LabelName, float | None]


@dataclass(frozen=True)
class Assessment:
    """What was measured; labels and landmarks are there where both images have them."""

    similarity: Compared
    folding: Folding
    inverse_consistency_mm: Distances
    inverse_residual_mm: Distances | None = None
    dice_before: ByLabel | None = None
    dice_after: ByLabel | None = None
    hd95_mm_before: ByLabel | None = None
    hd95_mm_after: ByLabel | None = None
    tre_mm_before: Distances | None = None
    tre_mm_after: Distances | None = None


@dataclass(frozen=True)
class Record:
    """Everything that ``result.json`` holds, but for the verdict, which a report adds.

    Args:
        maxca: version.
        inputs: the files by role: ``"fixed"``, ``"moving_labels"``, ``"model"``, ….
        settings: the options as they were used.
        levels: of the optimisation, from coarse to fine.
        metrics: what was measured.
        warnings: what the user should know, one line each.
        versions: of Python and the packages that decide the numbers.
        seconds: by stage.
        peak_memory_mb: of the process.
        model_reason: why this model, or none.
        affine: what preceded the deformation.
        network: the model that was considered.
        optimisation: levels, smoothness and the rest of what the optimiser was given.
        applied: how each further image was warped.
        command: what makes the same files again.
        direction: of the transform.
    """

    maxca: str
    inputs: dict[str, Source]
    settings: Settings
    levels: list[Level]
    metrics: Assessment
    warnings: list[str]
    versions: dict[str, str]
    seconds: dict[str, Seconds]
    peak_memory_mb: float
    model_reason: str
    affine: AffineRecord | None = None
    network: NetworkRecord | None = None
    optimisation: dict[str, Any] | None = None
    applied: dict[str, Applied] = field(default_factory=dict)
    command: str | None = None
    direction: str = DIRECTION


def read_record(folder: str | Path) -> Record:
    """Read the ``result.json`` of an output folder.

    Raises:
        MaxcaError: for a folder without one, or a file that is not the record of a registration; it names the field.
    """
    path = Path(folder) / RESULT_FILE
    if not os.path.lexists(path):
        raise MaxcaError(f"{folder}: no {RESULT_FILE}; name a folder that maxca register wrote")
    record = read_json(path, Record, MEANT)
    _check_alike(path, "dice", record.metrics.dice_before, record.metrics.dice_after)
    _check_alike(path, "tre_mm", record.metrics.tre_mm_before, record.metrics.tre_mm_after)
    return record


def _check_alike(path: Path, score: str, before: ByLabel | Distances | None, after: ByLabel | Distances | None) -> None:
    """Refuse scores that are there before or after alone, or of another number of points or labels."""
    if (before is None) != (after is None):
        raise MaxcaError(f"{path}: `metrics` has only one of {score}_before and {score}_after; {CURE}")
    if before is None or after is None:
        return
    held = [each.by_label if isinstance(each, ByLabel) else each.by_point for each in (before, after)]
    if any(one is None for one in held) or len(held[0] or ()) != len(held[1] or ()):
        raise MaxcaError(
            f"{path}: `metrics.{score}_before` and `metrics.{score}_after` differ in labels or points; {CURE}"
        )
