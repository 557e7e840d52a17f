"""Measures of regions and of volumes in ``result.json``; the others are in ``record``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

LabelName = Annotated[str, Meta(pattern=r"^-?[0-9]{1,20}$")]


@dataclass(frozen=True)
class ExcludedVolume:
    """The volume of an excluded region in its own image, and that of its image under the transform, in ml."""

    ml: float
    mapped_ml: float


@dataclass(frozen=True)
class BodyMotion:
    """The motion of a rigid body, or of an excluded region whose volume is kept.

    Args:
        kind: ``"rigid"`` or ``"volume"``.
        ml: its volume in its own image.
        mapped_ml: that of its image under the transform.
        degrees: its rotation.
        mm: the motion of its centre.
        departure_voxels: largest distance of the transform from the motion at its voxels, in voxels of the fixed image.
    """

    kind: str
    ml: float
    mapped_ml: float
    degrees: float
    mm: float
    departure_voxels: float


@dataclass(frozen=True)
class VolumeChange:
    """Change of volume from the fixed to the moving image over the content, in percent.

    Args:
        mean_percent: its mean.
        p05_percent: 5th percentile.
        p95_percent: 95th percentile.
        notable_percent: part of the content that changes more than ``volume_change.NOTABLE``.
        by_label: of each label of the fixed image.
    """

    mean_percent: float
    p05_percent: float
    p95_percent: float
    notable_percent: float
    by_label: dict[LabelName, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Uncertainty:
    """How much repeated runs with perturbations agree over the content, see ``registration.uncertainty``.

    Args:
        runs: number of them.
        mean_mm: mean of the standard deviation of the displacement over the runs.
        p95_mm: its 95th percentile.
        by_label: its mean in each label of the fixed image.
    """

    runs: int
    mean_mm: float
    p95_mm: float
    by_label: dict[LabelName, float] = field(default_factory=dict)
