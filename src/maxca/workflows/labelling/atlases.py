"""Atlases: labelled scans in a folder or a list, and whether their labels fit together."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from maxca.datasets.brain import read_bids
from maxca.datasets.hippocampus import read_msd
from maxca.datasets.listed import read_list
from maxca.errors import MaxcaError
from maxca.io.atomic import full_suffix
from maxca.io.images import ITK_SUFFIXES, read
from maxca.io.nifti import MGH_SUFFIXES, NIFTI_SUFFIXES
from maxca.io.pairs import Scan
from maxca.registration.labels import labels_of

SUFFIXES = (*NIFTI_SUFFIXES, *MGH_SUFFIXES, *ITK_SUFFIXES)
OF_LABELS = re.compile(r"[_.-](labels?|dseg|seg)$", re.IGNORECASE)
LAYOUTS = (
    "a folder of atlases has sub-*/anat/*_T1w.nii.gz with derivatives/*/sub-*/anat/*_dseg.nii.gz (BIDS), imagesTr and "
    "labelsTr, or NAME.nii.gz with NAME_labels.nii.gz"
)
COMMON = 0.5  # least fraction of an atlas's labels that other atlases have: fewer are another numbering


def find_atlases(source: str | Path | Sequence[Scan], scan: Path) -> list[Scan]:
    """The labelled scans of a folder or a list, without the scan that is to be labelled.

    Args:
        source: a folder, a CSV file with the columns image and labels, or the scans.
        scan: the file to label; it may be one of those in the folder.

    Raises:
        MaxcaError: if there are none, or one has no labels.
    """
    if not isinstance(source, str | Path):
        found, named = list(source), "atlases"
    else:
        place, named = Path(source), str(source)
        if not os.path.lexists(place):
            raise MaxcaError(f"atlases={source}: no such folder or list; check the path")
        found = _in_folder(place) if place.is_dir() else read_list(place)
    found = [atlas for atlas in found if os.path.realpath(atlas.image) != os.path.realpath(scan)]
    if not found:
        raise MaxcaError(f"{named}: no atlas other than the scan itself; {LAYOUTS}")
    for atlas in found:
        if atlas.labels is None:
            raise MaxcaError(f"{atlas.image}: an atlas without labels; add them, or leave this atlas out")
    return found


def read_labels(atlases: Sequence[Scan]) -> dict[str, frozenset[int]]:
    """The labels of each atlas by its image.

    Raises:
        MaxcaError: for labels that are not whole numbers, or an atlas that has none.
    """
    found = {}
    for atlas in atlases:
        assert atlas.labels is not None
        present = frozenset(np.unique(labels_of(read(atlas.labels))).tolist()) - {0}
        if not present:
            raise MaxcaError(f"{atlas.labels}: contains no labels, only 0; leave this atlas out")
        found[str(atlas.image)] = present
    return found


def check_numbering(labels: Mapping[str, frozenset[int]]) -> list[str]:
    """Warnings about labels that few atlases have.

    Raises:
        MaxcaError: if an atlas has another numbering than the others.
    """
    count = Counter(label for present in labels.values() for label in present)
    for name, present in labels.items():
        shared = sum(count[label] > 1 for label in present)
        if len(labels) > 1 and shared < COMMON * len(present):
            theirs = sorted(set(count) - present) or sorted(count)
            raise MaxcaError(
                f"{name}: the numbers of its labels ({_some(sorted(present))}) differ from those of the other atlases "
                f"({_some(theirs)}); number the labels of all atlases alike"
            )
    rare = sorted(label for label, number in count.items() if number < COMMON * len(labels))
    return [f"fewer than half of the atlases have the labels {_some(rare)}"] if rare else []


def _in_folder(folder: Path) -> list[Scan]:
    if any(folder.glob("sub-*")) and any(folder.glob("derivatives/*")):
        return read_bids(folder)
    if (folder / "imagesTr").is_dir():
        return read_msd(folder)
    files = sorted(path for path in folder.iterdir() if full_suffix(path) in SUFFIXES)
    labels = {OF_LABELS.sub("", _stem(path)): path for path in files if OF_LABELS.search(_stem(path))}
    scans = [
        Scan(_stem(path), _stem(path), path, labels.get(_stem(path)))
        for path in files
        if not OF_LABELS.search(_stem(path))
    ]
    if not scans:
        raise MaxcaError(f"{folder}: no atlases; {LAYOUTS}")
    return scans


def _stem(path: Path) -> str:
    return path.name[: len(path.name) - len(full_suffix(path))]


def _some(labels: Sequence[int]) -> str:
    return ", ".join(map(str, labels[:5])) + (", …" if len(labels) > 5 else "")
