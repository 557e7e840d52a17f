"""The record of a template, ``template.json``, and its table of iterations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from maxca.io.atomic import atomic_path
from maxca.io.records import encode, read_json
from maxca.workflows.cohort.table import write_table

RECORD, ITERATIONS = "template.json", "iterations.tsv"
MEANT = "the record of a template; choose another folder"


@dataclass(frozen=True)
class Iteration:
    """One registration of all scans to a template, and the template that it led to.

    Args:
        number: from 0, the affine one.
        shape_mm: mean distance of the mean shape of the scans from the template that they were registered to, before it
            was removed.
        shape_max_mm: the largest.
        moved_mm: mean distance, over scans and content, between the points of the scans that the transforms map to and
            those of the iteration before; None at the first.
        change: 1 minus the correlation of the old template and the new one, of several channels the largest.
        sharpness: mean gradient per mm in the new one, relative to its mean intensity.
        dice: mean over all pairs of scans, of their labels in template space; None without labels in common.
        seconds: of this run.
    """

    number: int
    shape_mm: float
    shape_max_mm: float
    moved_mm: float | None
    change: float
    sharpness: float
    dice: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class TemplateRecord:
    """How a template was built.

    Args:
        maxca: version.
        options: of the template.
        registration: options of the registrations.
        fingerprint: of the contents of scans and reference, and of the options.
        scans: the files, by the name of their transforms.
        iterations: in order.
        converged: whether it ended before the last iteration that was allowed.
        bias_mm: the residual of the removal of the mean shape: its mean distance from the identity afterwards, near 0.
        warnings: one line each.
    """

    maxca: str
    options: dict[str, Any]
    registration: dict[str, Any]
    fingerprint: str = ""
    scans: dict[str, str] = field(default_factory=dict)
    iterations: list[Iteration] = field(default_factory=list)
    converged: bool = False
    bias_mm: float | None = None
    warnings: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write the record and the table, atomically."""
        with atomic_path(folder / RECORD) as unfinished:
            unfinished.write_text(encode(self), encoding="utf-8")
        columns: Sequence[str] = [each.name for each in fields(Iteration)]
        write_table(folder / ITERATIONS, columns, [asdict(each) for each in self.iterations])


def read_record(folder: str | Path) -> TemplateRecord:
    """Read the record in an output folder.

    Raises:
        MaxcaError: for a folder without one, or an invalid one.
    """
    return read_json(Path(folder) / RECORD, TemplateRecord, MEANT)
