"""Brain data sets in their common folder layouts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from maxca.datasets.hippocampus import read_split
from maxca.datasets.split import MEANT, Split
from maxca.errors import MaxcaError
from maxca.io.pairs import Scan
from maxca.io.records import read_json


@dataclass(frozen=True)
class FolderLayout:
    """The folder layout of a data set.

    Args:
        images: glob patterns below the folder; the first with matches is used.
        subject: regular expression on the relative path, with the subject as its group.
        labels: names of label maps in the folder of the image, the first that exists; ``{stem}`` is that of the image.
        example: of a path, for messages.
    """

    images: tuple[str, ...]
    subject: str
    example: str
    labels: tuple[str, ...] = ()


LAYOUTS: dict[str, FolderLayout] = {
    # LONI's archive: ADNI/PTID/series/date/image id/file
    "adni": FolderLayout(
        ("**/*_S_*/**/*.nii", "**/*_S_*/**/*.nii.gz"),
        r"(?:^|/)(\d{3}_S_\d{4,5})(?:/|$)",
        "ADNI/002_S_0295/MP-RAGE/2006-04-18_08_20_30.0/I45107/ADNI_002_S_0295_MR_MP-RAGE.nii",
    ),
    # FCP/INDI: site/subject/session_1/anat_1/mprage.nii.gz
    "abide": FolderLayout(
        ("**/session_*/anat_*/mprage.nii.gz", "**/session_*/anat_*/anat.nii.gz"),
        r"(?:^|/)(\d{5,7})/session_",
        "NYU/0051006/session_1/anat_1/mprage.nii.gz",
    ),
    "adhd200": FolderLayout(
        ("**/session_*/anat_*/mprage.nii.gz", "**/session_*/anat_*/mprage_anonymized.nii.gz"),
        r"(?:^|/)(\d{5,7})/session_",
        "Peking_1/1050345/session_1/anat_1/mprage.nii.gz",
    ),
    "ixi": FolderLayout(
        ("**/IXI*-T1.nii.gz", "**/IXI*-T1.nii"), r"(?:^|/)(IXI\d{3})-[^/]*$", "IXI-T1/IXI002-Guys-0828-T1.nii.gz"
    ),
    "mindboggle": FolderLayout(
        ("**/t1weighted_brain.nii.gz", "**/t1weighted_brain.MNI152.nii.gz"),
        r"(?:^|/)([^/]+-\d+)/t1weighted_brain",
        "OASIS-TRT-20_volumes/OASIS-TRT-20-1/t1weighted_brain.nii.gz",
        (
            "labels.DKT31.manual+aseg.nii.gz",
            "labels.DKT31.manual.nii.gz",
            "labels.DKT31.manual+aseg.MNI152.nii.gz",
            "labels.DKT31.manual.MNI152.nii.gz",
        ),
    ),
    # FreeSurfer's folders
    "buckner40": FolderLayout(
        ("*/mri/norm.mgz", "*/mri/brain.mgz", "*/mri/brainmask.mgz"),
        r"([^/]+)/mri/[^/]*$",
        "buckner40/004/mri/norm.mgz",
        ("aparc+aseg.mgz", "aseg.mgz"),
    ),
    "neurite-oasis": FolderLayout(
        ("OASIS_OAS1_*/aligned_norm.nii.gz", "OASIS_OAS1_*/norm.nii.gz"),
        r"(OASIS_OAS1_\d{4})_MR\d",
        "OASIS_OAS1_0001_MR1/aligned_norm.nii.gz",
        ("aligned_seg35.nii.gz", "seg35.nii.gz"),
    ),
}


def reader(name: str) -> Callable[[Path], list[Scan]]:
    """The function that finds the scans of a layout in a folder."""
    return lambda folder: read_layout(folder, name)


def read_layout(folder: Path, name: str) -> list[Scan]:
    """The T1-weighted scans of a data set, and their labels if available.

    Args:
        folder: of the unpacked data set.
        name: a key of ``LAYOUTS``.

    Raises:
        MaxcaError: if no scan is found.
    """
    layout = LAYOUTS[name]
    found = next((files for pattern in layout.images if (files := sorted(folder.glob(pattern)))), [])
    split = read_split(folder)
    scans = []
    for image in found:
        relative = image.relative_to(folder).as_posix()
        match = re.search(layout.subject, relative)
        if match is None:
            continue
        labels = next((p for p in (image.parent / label for label in layout.labels) if p.is_file()), None)
        unique = re.sub(r"[^A-Za-z0-9_.-]+", "_", relative.split(".")[0])
        scans.append(Scan(unique, match[1], image, labels, split.get(match[1])))
    if not scans:
        raise MaxcaError(f"{folder}: no scans in a layout like {layout.example}")
    return scans


def read_bids(folder: Path, suffix: str = "T1w") -> list[Scan]:
    """The scans of a BIDS data set with one suffix, and their label maps (``*_dseg``) from its derivatives.

    A file ``split.json`` may contain ``{"train": [subjects], "val": […], "rescans": [[subject, its rescan], …]}``,
    where a rescan has a separate subject name.

    Raises:
        MaxcaError: if there are no such scans.
    """
    images = sorted(p for p in folder.glob(f"sub-*/**/anat/*_{suffix}.nii*") if "derivatives" not in p.parts)
    if not images:
        raise MaxcaError(f"{folder}: no sub-*/anat/*_{suffix}.nii.gz")
    split, same = read_split(folder), _rescans(folder)
    scans = []
    for image in images:
        stem = image.name.split(".")[0]
        subject = stem.split("_")[0].removeprefix("sub-")
        labels = labels_beside(folder, image, suffix)
        part = split.get(subject, split.get(f"sub-{subject}"))
        scans.append(Scan(stem, same.get(subject, subject), image, labels[0] if labels else None, part))
    return scans


def labels_beside(folder: Path, image: Path, suffix: str) -> list[Path]:
    """The label maps (``*_dseg``) of an image among the derivatives of a BIDS data set, by name."""
    where = Path(os.path.relpath(image.parent, folder)).as_posix()  # not resolved: DataLad's files are links
    stem = image.name.split(".")[0].removesuffix(f"_{suffix}")
    return sorted(folder.glob(f"derivatives/*/{where}/{stem}*_dseg.nii*"))


def _rescans(folder: Path) -> dict[str, str]:
    path = folder / "split.json"
    if not os.path.lexists(path):
        return {}
    held = read_json(path, Split, MEANT)
    return {str(second): str(first) for first, second in held.get("rescans", [])}
