"""Both levels of the BIDS App."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maxca.errors import MaxcaError
from maxca.io.atomic import RESULT_FILE
from maxca.io.pairs import Pair
from maxca.options import RegistrationOptions
from maxca.registration.record import read_record
from maxca.workflows.bids.derivatives import (
    SPEC,
    Naming,
    export,
    export_quality,
    is_exported,
    metadata,
    note_exported,
    prepare_output,
)
from maxca.workflows.bids.layout import BidsScan, find_scans
from maxca.workflows.bids.options import BidsOptions
from maxca.workflows.bids.repeated import AVERAGE, Progress, averages, derive
from maxca.workflows.bids.template import Template, find_template
from maxca.workflows.cohort.options import CohortOptions
from maxca.workflows.cohort.plan import Plan
from maxca.workflows.cohort.run import cohort
from maxca.workflows.cohort.table import MEASURED, measures, write_table

MB = 2**20
GONE = "no longer in the list"  # of a run of other participants: their results stay
MISSING = "has no result; run the level participant"
DESC = "_desc-average"
AVERAGED = "Mean of the scans in a space equally far from all of them; intensities are normalised"


@dataclass(frozen=True)
class Job:
    """One registration to the template.

    Args:
        image: a scan, or the average of several.
        naming: of its outputs.
        scans: those of which it is the average; otherwise the scan itself.
    """

    image: Path
    naming: Naming
    scans: tuple[BidsScan, ...]

    @property
    def averaged(self) -> bool:
        """Whether the image is an average."""
        return len(self.scans) > 1


def participant_level(
    dataset: Path,
    out: Path,
    options: RegistrationOptions | None = None,
    bids: BidsOptions | None = None,
    *,
    progress: Progress = lambda _stage, _share: None,
    warn: Callable[[str], None] = lambda _line: None,
    finish: Callable[[Path], object] | None = None,
) -> dict[str, str]:
    """Register the scans of a BIDS dataset to a template, and write derivatives; the same call resumes.

    Several scans of a participant (sessions or runs) are first averaged in a space equally far from all of them; the
    average is registered to the template, and each scan gets the composition of both transforms.

    Args:
        dataset: the root of a BIDS dataset.
        out: the root of the derivatives, a new folder or an earlier output.
        options: of the registrations; ``threads`` is 1 unless given.
        bids: which scans, which template, and where.
        progress: called with a stage and its completed fraction.
        warn: called with one line for each notice.
        finish: see ``maxca.cohort``: writes the page of each registration.

    Returns:
        The error of each image that could not be registered, by its name.

    Raises:
        MaxcaError: for an invalid dataset, template or option, before anything is written.
    """
    bids, dataset, out = bids or BidsOptions(), Path(dataset), Path(out)
    template = find_template(bids)
    scans = find_scans(dataset, bids.suffix, bids.participants, bids.sessions)
    work = bids.work_dir or out.with_name(f"{out.resolve().name}_work")
    if out.resolve() in (work.resolve(), *work.resolve().parents):
        raise MaxcaError(f"{work}: is within the output; choose another folder for -w")
    prepare_output(out, dataset)
    memory_gb = None if bids.mem_mb is None else bids.mem_mb * MB / 1e9
    where = CohortOptions(workers=bids.n_cpus, memory_gb=memory_gb, scheduler=bids.scheduler)
    by_subject: dict[str, list[BidsScan]] = defaultdict(list)
    for scan in scans:
        by_subject[scan.subject].append(scan)
    several = {name: each for name, each in by_subject.items() if len(each) > 1}
    failed = {f"sub-{name}": why for name, why in averages(several, work / "averages", where, progress, warn).items()}
    jobs = _jobs(by_subject, work / "averages", template)
    jobs = [job for job in jobs if job.naming.prefix not in failed]
    if not jobs:
        return failed
    plan = _registered(jobs, template, work / template.label, options, where, progress, warn, finish)
    for number, (job, pair) in enumerate(zip(jobs, plan.pairs, strict=True), start=1):
        if pair.state == "done":
            _export(job, work / template.label / pair.name, template, out, work / "averages", bids)
        else:
            failed[job.naming.prefix] = pair.error or "not registered"
        progress("writing derivatives", number / len(jobs))
    return failed


def _jobs(by_subject: dict[str, list[BidsScan]], averages_in: Path, template: Template) -> list[Job]:
    jobs = []
    for name, scans in by_subject.items():
        first = scans[0]
        if len(scans) == 1:
            naming = Naming(first.folder, first.prefix, first.suffix, template.label)
            jobs.append(Job(first.image, naming, (first,)))
        else:
            folder = f"sub-{name}/{first.folder.split('/')[-1]}"
            naming = Naming(folder, f"sub-{name}", first.suffix, template.label, DESC)
            jobs.append(Job(averages_in / f"sub-{name}" / AVERAGE, naming, tuple(scans)))
    return jobs


def _registered(
    jobs: Sequence[Job],
    template: Template,
    folder: Path,
    options: RegistrationOptions | None,
    where: CohortOptions,
    progress: Progress,
    warn: Callable[[str], None],
    finish: Callable[[Path], object] | None,
) -> Plan:
    pairs = [
        Pair(template.image, job.image, moving_labels=None if job.averaged else job.scans[0].labels) for job in jobs
    ]
    return cohort(
        pairs,
        folder,
        options,
        where,
        progress=progress,
        warn=lambda line: None if GONE in line else warn(line),
        finish=finish,
    )


def _export(job: Job, registered: Path, template: Template, out: Path, averages_in: Path, bids: BidsOptions) -> None:
    """Write the outputs of one registration, unless they are there."""
    if is_exported(registered, out):
        return
    sources = [f"{scan.folder}/{scan.image.name}" for scan in job.scans]
    sidecar = metadata(sources, template, out, skull_stripped=bids.skull_stripped)
    written = [
        *export("registered", registered, out, job.naming, sidecar),
        *export_quality(registered, out, job.naming),
    ]
    if job.averaged:
        average = averages_in / f"sub-{job.scans[0].subject}"
        about = {"Description": AVERAGED, **{k: sidecar[k] for k in ("Sources", "SkullStripped")}}
        written += export("average", average, out, job.naming, about)
        for scan, source in zip(job.scans, sources, strict=True):
            naming = replace(job.naming, folder=scan.folder, prefix=scan.prefix, desc="")
            with tempfile.TemporaryDirectory(dir=registered.parent, prefix=".scan-") as place:
                derive(registered, average, scan, template.image, Path(place))
                written += export("registered", Path(place), out, naming, sidecar | {"Sources": [f"bids:raw:{source}"]})
                written += export("scan_of_average", Path(place), out, naming, {})
    note_exported(registered, out, written)


def group_level(dataset: Path, out: Path, bids: BidsOptions | None = None) -> dict[str, str]:
    """Write the table of all registrations of an output, ``group_T1w.tsv``.

    Args:
        dataset: the root of the BIDS dataset.
        out: the output of the level participant.
        bids: the suffix, the participants and the sessions.

    Returns:
        The images of the dataset that have no result, and why.

    Raises:
        MaxcaError: if there is no result at all.
    """
    bids = bids or BidsOptions()
    scans = find_scans(dataset, bids.suffix, bids.participants, bids.sessions)
    rows, missing = [], {}
    for subject in sorted({scan.subject for scan in scans}):
        own = [scan for scan in scans if scan.subject == subject]
        naming = _jobs({subject: own}, Path(), Template("", Path()))[0].naming
        record = out / naming.quality / RESULT_FILE
        row: dict[str, Any] = {"participant_id": f"sub-{subject}", "scans": len(own)}
        if record.is_file():
            rows.append(row | {"state": "done"} | measures(read_record(record.parent)))
        else:
            missing[naming.prefix] = MISSING
            rows.append(row | {"state": "missing"})
    if len(missing) == len(rows):
        raise MaxcaError(f"{out}: contains no result for {dataset}; run maxca bids {dataset} {out} participant first")
    table = out / SPEC["group"]["table"].format(suffix=bids.suffix)
    write_table(table, ("participant_id", "scans", "state", *MEASURED), rows)
    return missing
