"""What a multi-atlas labelling writes: labels, confidence, probabilities, tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maxca.io.atomic import atomic_path
from maxca.io.images import Image, write
from maxca.workflows.cohort.table import write_table
from maxca.workflows.labelling.fusion.fuse import Fused
from maxca.workflows.labelling.record import AtlasRecord

LABELS, CONFIDENCE = "labels.nii.gz", "confidence.nii.gz"
PROBABILITIES = "probabilities"
VOLUMES, ATLASES = "volumes.tsv", "atlases.tsv"
VOLUME_COLUMNS = ("index", "name", "volume_mm3", "confidence")
ATLAS_COLUMNS = ("name", "image", "labels", "similarity_affine", "similarity", "used", "error")


def write_outputs(fused: Fused, scan: Image, folder: Path, names: Mapping[int, str]) -> None:
    """Write the fused labels of a scan with their maps and volumes.

    Args:
        fused: on the grid of the scan.
        scan: whose header fields are kept.
        folder: of the output.
        names: of the labels, as far as known.
    """
    _image(fused.labels, scan, folder / LABELS)
    _image(fused.confidence, scan, folder / CONFIDENCE)
    for label, probability in fused.probabilities.items():
        _image(probability, scan, folder / PROBABILITIES / f"{label}.nii.gz")
    write_table(folder / VOLUMES, VOLUME_COLUMNS, volumes(fused, scan.grid.voxel_volume, names))


def write_atlases(atlases: list[AtlasRecord], folder: Path) -> None:
    """Write what became of each atlas."""
    rows = [
        {name: getattr(atlas, name) for name in ATLAS_COLUMNS}
        | {"image": atlas.image.path, "labels": atlas.labels.path, "used": "yes" if atlas.used else "no"}
        for atlas in atlases
    ]
    write_table(folder / ATLASES, ATLAS_COLUMNS, rows)


def volumes(fused: Fused, voxel_volume: float, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """A row for each label that occurs: its number, name, volume in mm³ and mean confidence."""
    present, inverse, counts = np.unique(fused.labels, return_inverse=True, return_counts=True)
    sums = np.bincount(inverse.ravel(), weights=fused.confidence.ravel())
    return [
        {
            "index": int(label),
            "name": names.get(int(label)),
            "volume_mm3": float(count * voxel_volume),
            "confidence": float(total / count),
        }
        for label, count, total in zip(present, counts, sums, strict=True)
        if label != 0
    ]


def _image(data: np.ndarray, scan: Image, path: Path) -> None:
    with atomic_path(path) as unfinished:
        write(data, scan.grid, unfinished, form=scan.form)
