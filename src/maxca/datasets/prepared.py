"""Scans prepared for training: a safetensors file each and a manifest, read without medical imaging libraries.

The folder contains ``manifest.json`` and ``scans/NAME.safetensors`` with ``image`` (I, J, K) uint8, 0 to 255 for
intensities 0 to 1, and, if available, ``labels`` (I, J, K) int16. The manifest has for each scan the affine from a
common world space to its voxels, so that any scan can be resampled onto the grid of another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Annotated, NamedTuple, NotRequired, TypedDict

import torch
from msgspec import Meta
from safetensors import SafetensorError, safe_open
from torch import Tensor

from maxca.errors import MaxcaError
from maxca.io.records import decode, read_text
from maxca.io.regular import check_regular

MANIFEST, SCANS, FORMAT = "manifest.json", "scans", 1
KINDS = ("inter", "intra")
MEANT = "a manifest of prepared scans; run maxca prepare again"


Size = Annotated[int, Meta(ge=1, le=100_000)] | None


class ScanRow(TypedDict):
    """A scan in the manifest."""

    name: str
    subject: str
    split: str
    group: str
    spacing: Annotated[list[Annotated[float, Meta(gt=0, le=1e9)]], Meta(min_length=3, max_length=3)]
    to_voxel: Annotated[
        list[Annotated[list[float], Meta(min_length=4, max_length=4)]], Meta(min_length=4, max_length=4)
    ]


class Manifest(TypedDict):
    """The manifest."""

    format: int
    kind: str
    scans: list[ScanRow]
    names: NotRequired[list[tuple[int, str]]]
    shape: NotRequired[tuple[Size, Size, Size]]


class Voxels(NamedTuple):
    """The content of a prepared file: image (I, J, K) uint8 and labels (I, J, K) int16 or None."""

    image: Tensor
    labels: Tensor | None


@dataclass(frozen=True)
class PreparedScan:
    """One entry of a manifest.

    Args:
        name: of its file.
        subject: its subject.
        split: ``"train"`` or ``"val"``.
        group: kind of scan.
        spacing: mm along i, j, k.
        to_voxel: (4, 4) from the common world, in mm, to voxels, as nested tuples.
    """

    name: str
    subject: str
    split: str
    group: str
    spacing: tuple[float, float, float]
    to_voxel: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Prepared:
    """A folder of prepared scans.

    Args:
        folder: its path.
        kind: ``"inter"``: pairs are of two subjects; ``"intra"``: of one.
        scans: of all splits.
        sha256: of the manifest.
        names: of the labels by number, as far as known.
        shape: voxels to which the scans were cropped or padded; None for an axis that was kept.
    """

    folder: Path
    kind: str
    scans: tuple[PreparedScan, ...]
    sha256: str
    names: Mapping[int, str] = field(default_factory=dict)
    shape: tuple[int | None, int | None, int | None] = (None, None, None)

    def pairs(self, split: str) -> list[tuple[PreparedScan, PreparedScan]]:
        """All ordered pairs of a split, in an order that depends on the names alone."""
        scans = sorted((s for s in self.scans if s.split == split), key=lambda s: s.name)
        same = self.kind == "intra"
        return [(a, b) for a, b in permutations(scans, 2) if (a.subject == b.subject) == same]

    def load(self, scan: PreparedScan) -> Voxels:
        """The voxels of a scan.

        Raises:
            MaxcaError: if the file is missing or invalid.
        """
        path = self.folder / SCANS / f"{scan.name}.safetensors"
        check_regular(path)
        try:
            with safe_open(path, framework="pt") as file:
                names = set(file.keys())
                labels = file.get_tensor("labels") if "labels" in names else None
                voxels = Voxels(file.get_tensor("image"), labels)
        except (OSError, SafetensorError) as error:
            raise MaxcaError(f"{path}: not a prepared scan: {error}; run maxca prepare again") from error
        if voxels.image.ndim != 3 or voxels.image.dtype != torch.uint8:
            raise MaxcaError(f"{path}: not a prepared scan; run maxca prepare again")
        if voxels.labels is not None and voxels.labels.shape != voxels.image.shape:
            raise MaxcaError(f"{path}: labels and image differ in shape; run maxca prepare again")
        return voxels


NOTHING = Prepared(Path("."), "inter", (), "")


def read_prepared(folder: str | Path) -> Prepared:
    """Open an output folder of ``maxca prepare``.

    Raises:
        MaxcaError: for any other folder.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise MaxcaError(f"{folder}: no {MANIFEST}; create it with: maxca prepare DATASET SRC -o {folder}")
    try:
        text = read_text(path)
        return _prepared(Path(folder), decode(text, Manifest, path, MEANT), hashlib.sha256(text).hexdigest())
    except ValueError as error:
        raise MaxcaError(f"{path}: not a manifest of prepared scans: {error}") from error


def _prepared(folder: Path, about: Manifest, sha256: str) -> Prepared:
    if about["format"] != FORMAT or about["kind"] not in KINDS:
        raise ValueError(f"format {about['format']!r} of kind {about['kind']!r}")
    scans, names = tuple(_scan(row) for row in about["scans"]), dict(about.get("names", ()))
    return Prepared(folder, str(about["kind"]), scans, sha256, names, about.get("shape", (None, None, None)))


def _scan(row: ScanRow) -> PreparedScan:
    i, j, k = (float(mm) for mm in row["spacing"])
    matrix = tuple(tuple(float(x) for x in line) for line in row["to_voxel"])
    return PreparedScan(_file_name(row["name"]), row["subject"], row["split"], row["group"], (i, j, k), matrix)


def _file_name(name: str) -> str:
    """A name without path separators."""
    if not name or name.startswith(".") or set(name) & set("/\\\0"):
        raise ValueError(f"invalid name of a scan: {name!r}")
    return name
