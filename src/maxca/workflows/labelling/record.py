"""The record of a multi-atlas labelling, ``labelling.json``, and its tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from maxca.io.atomic import atomic_path
from maxca.io.records import encode, read_json
from maxca.registration.record import Seconds
from maxca.workflows.cohort.plan import InputFile

RECORD = "labelling.json"
MEANT = "the record of a labelling; choose another folder"


@dataclass(frozen=True)
class AtlasRecord:
    """One atlas.

    Args:
        name: of the folder of its registration.
        image: with its hash.
        labels: with their hash.
        similarity: of the warped atlas and the scan; None if it was not registered.
        similarity_affine: after the affine, by which the nearest are chosen; None if all are used.
        used: whether its labels were fused.
        error: why not, if its registration failed.
    """

    name: str
    image: InputFile
    labels: InputFile
    similarity: float | None = None
    similarity_affine: float | None = None
    used: bool = False
    error: str | None = None


@dataclass(frozen=True)
class LabellingRecord:
    """Everything that determines the labels.

    Args:
        maxca: version.
        scan: with its hash.
        options: of the labelling.
        registration: options of the registrations.
        atlases: in the order of the list.
        labels: number of labels that occur.
        mean_confidence: over the labelled voxels.
        seconds: of registrations and fusion in this run.
        warnings: one line each.
    """

    maxca: str
    scan: InputFile
    options: dict[str, Any]
    registration: dict[str, Any]
    atlases: list[AtlasRecord] = field(default_factory=list)
    labels: int = 0
    mean_confidence: Annotated[float, Meta(ge=0, le=1.001)] = 0.0
    seconds: dict[str, Seconds] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write ``labelling.json``, atomically."""
        with atomic_path(folder / RECORD) as unfinished:
            unfinished.write_text(encode(self), encoding="utf-8")


def read_record(folder: str | Path) -> LabellingRecord:
    """Read the record in an output folder.

    Raises:
        MaxcaError: for a folder without one, or an invalid one.
    """
    return read_json(Path(folder) / RECORD, LabellingRecord, MEANT)
