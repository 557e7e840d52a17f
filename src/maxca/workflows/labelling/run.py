"""``maxca.label_by_atlases``: a scan labelled by the registration of labelled scans."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maxca.errors import MaxcaError
from maxca.fields import OptionError
from maxca.io.alone import alone_in
from maxca.io.atomic import folders_of
from maxca.io.images import Image, read
from maxca.io.label_table import read_label_table
from maxca.io.pairs import Pair, Scan
from maxca.options import RegistrationOptions
from maxca.registration.record import WARPED
from maxca.registration.record import read_record as read_registration
from maxca.registration.result import LABELS
from maxca.runtime import tuned
from maxca.version import installed_version
from maxca.workflows.cohort.options import CohortOptions
from maxca.workflows.cohort.plan import InputFile, Plan, PlannedPair
from maxca.workflows.cohort.run import cohort
from maxca.workflows.labelling.atlases import check_numbering, find_atlases, read_labels
from maxca.workflows.labelling.fusion.fuse import Fused, fuse
from maxca.workflows.labelling.fusion.stack import stacked
from maxca.workflows.labelling.options import LabellingOptions
from maxca.workflows.labelling.outputs import write_atlases, write_outputs
from maxca.workflows.labelling.record import RECORD, AtlasRecord, LabellingRecord, read_record

REGISTRATIONS, AFFINES = "registrations", "affine"  # folders of two cohorts
Progress = Callable[[str, float], None]
Warn = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class LabelledByAtlases:
    """The labels of a scan.

    Args:
        image: labels on the grid of the scan.
        confidence: the share of the votes of each voxel's label.
        record: content of ``labelling.json``.
    """

    image: Image
    confidence: Image
    record: LabellingRecord


def label_by_atlases(
    scan: str | Path,
    folder: str | Path,
    options: LabellingOptions,
    registration: RegistrationOptions | None = None,
    where: CohortOptions | None = None,
    *,
    progress: Progress = lambda _stage, _share: None,
    warn: Warn = lambda _line: None,
) -> LabelledByAtlases:
    """Label a scan by atlases: register each of them to the scan, and fuse their labels.

    The same call resumes after an interruption. Registrations are kept in the folder and are repeated only if their
    files or options have changed; another fusion of them needs none.

    Args:
        scan: the file to label.
        folder: of the output.
        options: the atlases, and how their labels are fused.
        registration: options of the registrations; by default those of ``options.effort``. ``threads`` is 1 unless
            given.
        where: the workers.
        progress: called with the stage and its completed fraction.
        warn: called with one line for each notice.

    Raises:
        MaxcaError: for a scan, atlases or options that cannot be used, before anything is written.
    """
    scan, folder, where = Path(os.path.abspath(scan)), Path(folder), where or CohortOptions()
    if options.atlases is None:
        raise MaxcaError("no atlases; pass atlases=FOLDER or a list")
    registration = registration or RegistrationOptions(effort=options.effort)
    image = read(scan)
    atlases = find_atlases(options.atlases, scan)
    if options.nearest is not None and options.nearest > len(atlases):
        raise OptionError("nearest", options.nearest, f"there are only {len(atlases)} atlases")
    warnings = check_numbering(labels := read_labels(atlases))
    names = _names(options, labels)
    _check_free(folder)
    with folders_of(folder / RECORD), alone_in(folder, "another maxca label"):
        run = _Run(scan, folder, options, registration, replace(where, save="warped,labels"), progress, warn)
        run.warn_all(warnings)
        run.register(atlases)
        fused = run.fuse(image)
        write_outputs(fused, image, folder, names)
        record = run.finish(fused)
    found = Image(fused.labels, image.grid, form=image.form)
    return LabelledByAtlases(found, Image(fused.confidence, image.grid, form=image.form), record)


def _names(options: LabellingOptions, labels: Mapping[str, frozenset[int]]) -> dict[int, str]:
    if options.label_table is None:
        return {}
    table = read_label_table(options.label_table)
    return {label: table[label].name for label in frozenset().union(*labels.values()) if label in table}


def _check_free(folder: Path) -> None:
    """Raise an error for a folder with anything but an earlier labelling."""
    if folder.exists() and not folder.is_dir():
        raise MaxcaError(f"{folder} is a file; choose a folder for the output")
    if os.path.lexists(folder / RECORD):
        read_record(folder)
    elif folder.is_dir() and any(not name.startswith(".") for name in os.listdir(folder)):
        raise MaxcaError(f"{folder} exists and contains no {RECORD} of a labelling; choose another folder")


class _Run:
    """Registers atlases, fuses their labels, and keeps the record."""

    def __init__(
        self,
        scan: Path,
        folder: Path,
        options: LabellingOptions,
        registration: RegistrationOptions,
        where: CohortOptions,
        progress: Progress,
        warn: Warn,
    ) -> None:
        self.scan, self.folder, self.options, self.registration = scan, folder, options, registration
        self.where, self.progress, self.warn = where, progress, warn
        given = _plain(asdict(replace(options, atlases=None))) | {"atlases": _named(options.atlases)}
        plain = _plain({each.name: getattr(registration, each.name) for each in fields(registration)})
        self.record = LabellingRecord(installed_version(), InputFile(str(scan)), given, plain)

    def warn_all(self, lines: Sequence[str]) -> None:
        """Say the warnings, and record them."""
        for line in lines:
            self.warn(line)
        self.record = replace(self.record, warnings=[*self.record.warnings, *lines])

    def register(self, atlases: Sequence[Scan]) -> None:
        """Register the atlases, or the nearest of them, and record what became of each."""
        begin = time.perf_counter()
        self.record.write(self.folder)
        affine: dict[str, float] = {}
        pairs: dict[str, PlannedPair] = {}
        chosen = list(atlases)
        if self.options.nearest is not None and self.options.nearest < len(atlases):
            plan = self._cohort(AFFINES, atlases)
            affine, pairs = self._similarities(plan, AFFINES), _by_atlas(plan)
            ranked = sorted((a for a in atlases if _path(a) in affine), key=lambda a: -affine[_path(a)])
            chosen = ranked[: self.options.nearest]
        if not chosen:
            raise MaxcaError(f"no atlas could be registered to {self.scan}, the first for: {plan.pairs[0].error}")
        plan = self._cohort(REGISTRATIONS, chosen)
        similarity, pairs = self._similarities(plan, REGISTRATIONS), pairs | _by_atlas(plan)
        records = [_recorded(pairs[_path(atlas)], similarity, affine) for atlas in atlases]
        self.record = replace(self.record, atlases=records, scan=plan.pairs[0].inputs["fixed"])
        self._seconds("registrations", begin)
        if not any(atlas.used for atlas in records):
            raise MaxcaError(f"no atlas could be registered to {self.scan}, the first for: {plan.pairs[0].error}")
        failed = [f"{atlas.image.path}: {atlas.error}" for atlas in records if atlas.error]
        self.warn_all([f"an atlas could not be registered: {line}" for line in failed])

    def fuse(self, image: Image) -> Fused:
        """Fuse the labels of the registered atlases, the most similar first."""
        begin = time.perf_counter()
        used = sorted((a for a in self.record.atlases if a.used), key=lambda a: -(a.similarity or 0.0))
        warped = ((self._read(atlas, WARPED), self._read(atlas, LABELS)) for atlas in used)
        with tuned(self.registration.threads), torch.no_grad():
            stack = stacked(image.data, warped)
            fused = fuse(stack, self.options.fusion, None, self.options.wanted, self.progress)
        self._seconds("fusion", begin)
        return fused

    def finish(self, fused: Fused) -> LabellingRecord:
        """Complete and write the record."""
        inside = fused.labels != 0
        self.record = replace(
            self.record,
            labels=len(np.unique(fused.labels[inside])),
            mean_confidence=float(fused.confidence[inside].mean()) if inside.any() else 0.0,
        )
        write_atlases(self.record.atlases, self.folder)
        self.record.write(self.folder)
        return self.record

    def _cohort(self, name: str, atlases: Sequence[Scan]) -> Plan:
        pairs = [Pair(self.scan, Path(_path(atlas)), moving_labels=atlas.labels) for atlas in atlases]
        where = self.where if name == REGISTRATIONS else replace(self.where, save="none")
        options = (
            self.registration
            if name == REGISTRATIONS
            else RegistrationOptions(
                transform="affine", effort="fast", model="none", similarity=self.registration.similarity
            )
        )
        return cohort(pairs, self.folder / name, options, where, progress=self.progress, warn=self.warn)

    def _similarities(self, plan: Plan, name: str) -> dict[str, float]:
        done = [pair for pair in plan.pairs if pair.state == "done"]
        return {
            pair.inputs["moving"].path: read_registration(self.folder / name / pair.name).metrics.similarity.after
            for pair in done
        }

    def _read(self, atlas: AtlasRecord, file: str) -> np.ndarray:
        return read(self.folder / REGISTRATIONS / atlas.name / file).data

    def _seconds(self, name: str, begin: float) -> None:
        taken = {name: round(time.perf_counter() - begin, 3)}
        self.record = replace(self.record, seconds=self.record.seconds | taken)


def _by_atlas(plan: Plan) -> dict[str, PlannedPair]:
    return {pair.inputs["moving"].path: pair for pair in plan.pairs}


def _recorded(pair: PlannedPair, similarity: Mapping[str, float], affine: Mapping[str, float]) -> AtlasRecord:
    image = pair.inputs["moving"]
    return AtlasRecord(
        pair.name,
        image,
        pair.inputs["moving_labels"],
        similarity.get(image.path),
        affine.get(image.path),
        image.path in similarity,
        pair.error,
    )


def _path(atlas: Scan) -> str:
    return os.path.abspath(atlas.image)


def _named(source: object) -> str:
    return str(source) if isinstance(source, str | Path) else "a list of scans"


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for a record: files and objects by name."""
    kept = (str, int, float, list, type(None))
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    return {name: value if isinstance(value, kept) else str(value) for name, value in values.items()}
