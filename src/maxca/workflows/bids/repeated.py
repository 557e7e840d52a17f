"""Subjects with several scans: the average, computed by a worker, and the transforms of the scans through it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maxca.errors import MaxcaError, one_line
from maxca.geometry import Affine, Chain
from maxca.io.atomic import output_folder
from maxca.io.digest import sha256
from maxca.io.images import Image, write
from maxca.io.records import read_text
from maxca.version import installed_version
from maxca.workflows.bids.layout import BidsScan
from maxca.workflows.cohort.options import CohortOptions

STAMP, AVERAGE = "result.json", "average.nii.gz"
MEMORY_GB = 2.0  # of an average of brains at 1 mm, with reserve
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class AverageTask:
    """An average to compute.

    Args:
        name: of the subject.
        folder: of the output, absolute.
        scans: prefixes of the scans, and their files.
    """

    name: str
    folder: str
    scans: tuple[tuple[str, str], ...]


def average_task(task: AverageTask) -> str:
    """Write the average of a subject's scans and the transform to each, unless it is there; why not, or nothing."""
    folder = Path(task.folder)
    try:
        stamp = _stamp(task)
        if (folder / STAMP).is_file() and json.loads(read_text(folder / STAMP)).get("stamp") == stamp:
            return ""
        from maxca.io.transforms import write_transform
        from maxca.workflows.bids.average import average_of

        found = average_of([Path(path) for _, path in task.scans])
        with output_folder(folder, overwrite=True) as place:
            _write(found.image, place / AVERAGE)
            for (prefix, _), rigid in zip(task.scans, found.transforms, strict=True):
                write_transform(Chain((rigid,)), place / f"{prefix}.tfm")
            (place / STAMP).write_text(json.dumps({"stamp": stamp, "scans": dict(task.scans)}), encoding="utf-8")
    except (MaxcaError, OSError, ValueError) as error:
        return one_line(str(error), 300)
    return ""


def _stamp(task: AverageTask) -> str:
    content = [(prefix, sha256(Path(path))) for prefix, path in task.scans]
    return hashlib.sha256(json.dumps([installed_version(), content]).encode()).hexdigest()


def averages(
    subjects: Mapping[str, Sequence[BidsScan]],
    work: Path,
    where: CohortOptions,
    progress: Progress,
    warn: Callable[[str], None],
) -> dict[str, str]:
    """The averages of subjects with several scans, on workers.

    Returns:
        Why the average of a subject failed, for those that did.
    """
    from maxca.workflows.cohort.cluster import Needed, connected
    from maxca.workflows.cohort.stream import stream

    tasks = [
        AverageTask(name, str((work / f"sub-{name}").resolve()), tuple((s.prefix, str(s.image)) for s in scans))
        for name, scans in subjects.items()
    ]
    failed: dict[str, str] = {}
    if not tasks:
        return failed
    with connected(where, Needed(1, MEMORY_GB, len(tasks)), work, warn) as client:
        for number, ended in enumerate(stream(client, average_task, tasks), start=1):
            progress(f"average of sub-{ended.task.name}", number / len(tasks))
            if said := ended.result or ended.killed:
                failed[ended.task.name] = said
    return failed


def derive(registered: Path, average: Path, scan: BidsScan, template: Path, place: Path) -> None:
    """From the registration of an average to that of one of its scans, with every image interpolated once.

    Args:
        registered: output folder of the average's registration.
        average: folder of the average.
        scan: one of its scans.
        template: the fixed image.
        place: an empty folder, for ``transform.h5``, ``inverse_transform.h5``, ``warped.nii.gz``,
            ``warped_labels.nii.gz`` and ``rigid.tfm``.
    """
    from maxca.io.transforms import read_transform, write_transform
    from maxca.registration.resampling import apply

    rigid = read_transform(average / f"{scan.prefix}.tfm")
    back = rigid.inverse()[0]
    there = _joined((read_transform(registered / "transform.h5"), rigid))
    write_transform(there, place / "transform.h5")
    write_transform(
        _joined((back, read_transform(registered / "inverse_transform.h5"))), place / "inverse_transform.h5"
    )
    write_transform(rigid, place / "rigid.tfm")
    _write(apply(scan.image, template, there, "linear"), place / "warped.nii.gz")
    if scan.labels is not None:
        _write(apply(scan.labels, template, there, "labels"), place / "warped_labels.nii.gz")


def _write(image: Image, path: Path) -> None:
    write(image.data, image.grid, path, form=image.form)


def _joined(chains: Sequence[Chain]) -> Chain:
    steps = tuple(step for chain in chains for step in chain.steps)
    return Chain(steps or (Affine.identity(),)).simplified()
