"""The scans of a BIDS dataset."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maxca.datasets.brain import labels_beside
from maxca.errors import MaxcaError
from maxca.io.atomic import full_suffix
from maxca.io.records import read_text

DESCRIPTION = "dataset_description.json"
NEEDED = "maxca bids needs additional packages: pip install 'maxca[bids]'"


@dataclass(frozen=True)
class BidsScan:
    """An image of a BIDS dataset.

    Args:
        image: the file.
        folder: that of the image, relative to the dataset: ``sub-01/ses-a/anat``.
        prefix: its name up to the suffix: ``sub-01_ses-a_run-1``.
        suffix: ``"T1w"``, ….
        subject: its label, without ``sub-``.
        labels: a label map (``_dseg``) of the image among the derivatives of the dataset.
    """

    image: Path
    folder: str
    prefix: str
    suffix: str
    subject: str
    labels: Path | None = None


def find_scans(
    dataset: Path, suffix: str, participants: Sequence[str] = (), sessions: Sequence[str] = ()
) -> list[BidsScan]:
    """The images of a dataset with one suffix, by subject, session and run.

    Args:
        dataset: the root of a BIDS dataset.
        suffix: such as ``"T1w"``.
        participants: their labels, all if empty.
        sessions: their labels, all if empty.

    Raises:
        MaxcaError: for another folder, a missing participant or session, or if there are no such images.
    """
    name_of(dataset)
    try:
        from bids.layout import BIDSLayout
    except ImportError as error:
        raise MaxcaError(NEEDED) from error
    layout = BIDSLayout(dataset, validate=False, derivatives=False)
    files = layout.get(suffix=suffix, extension=[".nii", ".nii.gz"])
    scans, found_sessions = [], set()
    known = {str(file.get_entities().get("subject")) for file in files}
    if missing := sorted(set(participants) - known):
        raise MaxcaError(f"{dataset}: no sub-{missing[0]} with {suffix} images; there are {_some(known, 'sub-')}")
    for file in sorted(files, key=lambda each: str(each.path)):
        entities = file.get_entities()
        subject, session = str(entities.get("subject")), str(entities.get("session", ""))
        found_sessions.add(session)
        if (participants and subject not in participants) or (sessions and session not in sessions):
            continue
        image = Path(file.path)
        prefix = image.name[: -len(full_suffix(image))].removesuffix(f"_{suffix}")
        folder = Path(os.path.relpath(image.parent, dataset)).as_posix()  # not resolved: DataLad's files are links
        labels = labels_beside(dataset, image, suffix)
        scans.append(BidsScan(image, folder, prefix, suffix, subject, labels[0] if labels else None))
    if not scans:
        asked = f" of the sessions {', '.join(sessions)}; there are {_some(found_sessions, 'ses-')}" if sessions else ""
        raise MaxcaError(f"{dataset}: no images named *_{suffix}.nii.gz{asked}")
    return scans


def name_of(dataset: Path) -> str:
    """The name of a BIDS dataset.

    Raises:
        MaxcaError: for a folder without ``dataset_description.json``.
    """
    path = dataset / DESCRIPTION
    if not path.is_file():
        raise MaxcaError(f"{dataset}: contains no {DESCRIPTION}; pass the root of a BIDS dataset")
    try:
        name = json.loads(read_text(path)).get("Name")
    except (ValueError, AttributeError) as error:
        raise MaxcaError(f"{path}: is not a JSON object; correct it") from error
    return name if isinstance(name, str) and name else dataset.resolve().name


def _some(labels: set[str], prefix: str) -> str:
    named = [prefix + label for label in sorted(labels) if label]
    return ", ".join(named[:5]) + (", …" if len(named) > 5 else "") if named else "none"
