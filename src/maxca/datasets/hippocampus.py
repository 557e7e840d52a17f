"""Hippocampi of the Medical Segmentation Decathlon."""

from __future__ import annotations

import os
from pathlib import Path

from maxca.datasets.split import MEANT, Split
from maxca.errors import MaxcaError
from maxca.io.pairs import Scan
from maxca.io.records import read_json

SPLIT = "split.json"


def read_msd(folder: Path) -> list[Scan]:
    """The labelled scans of a task of the Decathlon: ``imagesTr/NAME.nii.gz`` and ``labelsTr/NAME.nii.gz``.

    An optional file ``split.json`` contains ``{"train": [file names], "val": […]}``.

    Raises:
        MaxcaError: for another folder layout.
    """
    images = sorted(p for p in (folder / "imagesTr").glob("*.nii.gz") if not p.name.startswith("."))
    if not images:
        raise MaxcaError(f"{folder}: no imagesTr/*.nii.gz; unpack a task of the Medical Segmentation Decathlon there")
    split = read_split(folder)
    scans = []
    for image in images:
        labels = folder / "labelsTr" / image.name
        if not labels.is_file():
            raise MaxcaError(f"{image}: no labels at {labels}")
        name = image.name.removesuffix(".nii.gz")
        scans.append(Scan(name, name, image, labels, split.get(name)))
    return scans


def read_split(folder: Path) -> dict[str, str]:
    """Name → ``"train"`` or ``"val"`` from ``split.json``, empty if there is none."""
    path = folder / SPLIT
    if not os.path.lexists(path):
        return {}
    split = read_json(path, Split, MEANT)
    parts = {"train": split["train"], "val": split["val"]}
    return {str(name).removesuffix(".nii.gz"): part for part, names in parts.items() for name in names}
