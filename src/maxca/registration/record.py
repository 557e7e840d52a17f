"""The types of ``result.json``, against which it is validated."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from maxca.errors import MaxcaError
from maxca.io.atomic import RESULT_FILE
from maxca.io.records import read_json
from maxca.registration.measures import BodyMotion, ExcludedVolume, LabelName, Uncertainty, VolumeChange
from maxca.registration.smoothness import SmoothnessRecord

Length = Annotated[float, Meta(gt=0, le=1e9)]  # mm
Value = Annotated[float, Meta(ge=-1e6, le=1e6)]  # of a similarity
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
WARPED = "warped.nii.gz"  # the moving image, of several channels the first
REMEDY = "run maxca register again"
MEANT = f"the record of a registration; {REMEDY}"
DIRECTION = "transform.h5 maps fixed world points to moving world points"


@dataclass(frozen=True)
class Source:
    """An input file or a model: its path and its hash."""

    path: str
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class RecordedOptions:
    """The options as used, see ``RegistrationOptions``.

    Their vocabularies are not validated: a record can be read without the plugin it was created with.
    """

    model: str
    preset: str | None = None
    transform: str | None = None
    initial_transform: str | None = None
    search: str | None = None
    matrix_convention: str | None = None
    effort: str | None = None
    similarity: str | None = None
    channel_weights: tuple[float, ...] = ()
    guide: tuple[str, ...] = ()
    label_table: str | None = None
    exclude_as: str | None = None
    restrict: str | None = None
    max_displacement: float | None = None
    smoothness: float | None = None
    uncertainty: int | None = None
    fill: float | None = None
    device: str | None = None
    threads: int | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Applied:
    """Interpolation of an additional image."""

    interpolation: str
    reason: str
    fill: float


@dataclass(frozen=True)
class AffineRecord:
    """The affine, fixed world points → moving world points, and the reason for it; see ``Alignment``."""

    affine: Annotated[list[Annotated[list[float], Meta(min_length=4, max_length=4)]], Meta(min_length=4, max_length=4)]
    chosen: str
    reason: str
    similarity: dict[str, float | None]
    same_contrast: bool
    searched: str | None = None
    turned: bool = False


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
class GuideRecord:
    """The segmentation model that guided the optimisation; see ``SegmentedPair``.

    Args:
        name: of the model.
        share: of the force.
        labels: names by number.
        confidence: mean probability of the labels in each image.
    """

    name: str
    share: float
    labels: dict[LabelName, str]
    confidence: dict[str, float]


@dataclass(frozen=True)
class GuidanceRecord:
    """Given data that guided the optimisation.

    Args:
        kind: ``"labels"`` or ``"points"``.
        share: of the force.
        used: values of the labels, or names of the points, numbers from 1 without names.
        ignored: labels that only one image has, or of weight 0.
        suspected: points that may be wrong: much farther apart than most.
    """

    kind: str
    share: float
    used: list[str]
    ignored: list[str]
    suspected: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LevelSummary:
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
class FoldingRecord:
    """Percentage of the volume that folds, and standard deviation of the log-Jacobian; see ``metrics.folding``."""

    ndv_percent: float
    nonpositive_percent: float | None = None
    sd_log_jacobian: float | None = None
    sd_log_jacobian_plus_3: float | None = None


@dataclass(frozen=True)
class Distances:
    """Distances in mm, for landmarks also individually."""

    mean: float
    max: float | None = None
    by_point: list[float] | None = None


@dataclass(frozen=True)
class ByLabel:
    """Scores of the labels, and their mean."""

    mean: float | None
    by_label: dict[LabelName, float | None]


@dataclass(frozen=True)
class Assessment:
    """The measures; those of labels and landmarks exist if both images have them.

    The similarity of several channels is their weighted mean. The predicted Dice is an estimate from a segmentation
    model, for labels that nobody has drawn.
    """

    similarity: Compared
    folding: FoldingRecord
    inverse_consistency_mm: Distances
    inverse_residual_mm: Distances | None = None
    dice_before: ByLabel | None = None
    dice_after: ByLabel | None = None
    hd95_mm_before: ByLabel | None = None
    hd95_mm_after: ByLabel | None = None
    predicted_dice_before: ByLabel | None = None
    predicted_dice_after: ByLabel | None = None
    tre_mm_before: Distances | None = None
    tre_mm_after: Distances | None = None
    similarity_by_channel: list[Compared] = field(default_factory=list)
    excluded: dict[str, ExcludedVolume] = field(default_factory=dict)
    bodies: dict[str, BodyMotion] = field(default_factory=dict)
    volume_change: VolumeChange | None = None
    uncertainty: Uncertainty | None = None

    @property
    def largest_departure(self) -> float:
        """The largest departure of a body from its motion, in voxels; 0 without bodies."""
        return max((each.departure_voxels for each in self.bodies.values()), default=0.0)


@dataclass(frozen=True)
class ChannelRecord:
    """One of several channels of a pair; its similarity is in ``Assessment.similarity_by_channel``.

    Args:
        weight: of its force, relative to those of other channels.
        same_contrast: see ``AffineRecord``; None for a channel of weight 0.
        warped: name of its warped image in the output folder.
    """

    weight: float
    same_contrast: bool | None
    warped: str


@dataclass(frozen=True)
class Record:
    """The content of ``result.json``, except the verdict, which a report adds.

    Args:
        maxca: version.
        inputs: the files by role: ``"fixed"``, ``"moving_labels"``, ``"fixed_2"``, ``"model"``, ….
        settings: the options as used.
        levels: of the optimisation, from coarse to fine.
        metrics: the measures.
        warnings: for the user, one line each.
        versions: of Python and the packages that affect the result.
        seconds: by stage.
        peak_memory_mb: of the process.
        model_reason: why this model, or none.
        affine: its affine part.
        network: the registration model, if any was run.
        smoothness: how it was chosen, if by trials.
        guide: the segmentation model, if one guided the optimisation.
        guidance: given data that guided the optimisation.
        channels: of the pair, if there are several.
        label_names: of the labels that are measured, by number; empty without a table.
        optimisation: settings of the optimiser.
        applied: interpolation of each additional image.
        command: repeats the registration.
        direction: of the transform.
    """

    maxca: str
    inputs: dict[str, Source]
    settings: RecordedOptions
    levels: list[LevelSummary]
    metrics: Assessment
    warnings: list[str]
    versions: dict[str, str]
    seconds: dict[str, Seconds]
    peak_memory_mb: float
    model_reason: str
    affine: AffineRecord | None = None
    network: NetworkRecord | None = None
    smoothness: SmoothnessRecord | None = None
    guide: GuideRecord | None = None
    guidance: list[GuidanceRecord] = field(default_factory=list)
    channels: list[ChannelRecord] = field(default_factory=list)
    label_names: dict[LabelName, str] = field(default_factory=dict)
    optimisation: dict[str, Any] | None = None
    applied: dict[str, Applied] = field(default_factory=dict)
    command: str | None = None
    direction: str = DIRECTION


def read_record(folder: str | Path) -> Record:
    """Read the ``result.json`` of an output folder.

    Raises:
        MaxcaError: for a missing or invalid file; it names the field.
    """
    path = Path(folder) / RESULT_FILE
    if not os.path.lexists(path):
        raise MaxcaError(f"{folder}: no {RESULT_FILE}; pass an output folder of maxca register")
    record = read_json(path, Record, MEANT)
    _check_alike(path, "dice", record.metrics.dice_before, record.metrics.dice_after)
    _check_alike(path, "predicted_dice", record.metrics.predicted_dice_before, record.metrics.predicted_dice_after)
    _check_alike(path, "tre_mm", record.metrics.tre_mm_before, record.metrics.tre_mm_after)
    return record


def _check_alike(path: Path, score: str, before: ByLabel | Distances | None, after: ByLabel | Distances | None) -> None:
    """Reject scores that exist only before or after registration, or differ in the number of points or labels."""
    if (before is None) != (after is None):
        raise MaxcaError(f"{path}: `metrics` has only one of {score}_before and {score}_after; {REMEDY}")
    if before is None or after is None:
        return
    held = [each.by_label if isinstance(each, ByLabel) else each.by_point for each in (before, after)]
    if any(one is None for one in held) or len(held[0] or ()) != len(held[1] or ()):
        raise MaxcaError(
            f"{path}: `metrics.{score}_before` and `metrics.{score}_after` differ in labels or points; {REMEDY}"
        )
