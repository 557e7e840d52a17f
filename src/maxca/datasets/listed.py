"""Scans of any organ from a list."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

from maxca.errors import MaxcaError
from maxca.io.atomic import full_suffix
from maxca.io.pairs import Scan, read_table

COLUMNS = ("image", "labels", "subject", "split", "group")
SPLITS = ("train", "val")
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


def read_list(path: Path) -> list[Scan]:
    """The scans of a CSV file with the columns image and, optionally, labels, subject, split and group.

    Relative paths are relative to the file. Without a subject, every scan is a separate subject; without a split,
    subjects are split randomly.

    Raises:
        MaxcaError: for an invalid list or missing files; it names the row.
    """
    if not os.path.lexists(path):
        raise MaxcaError(f"{path}: no such list of scans")
    rows = read_table(path)
    if not rows:
        raise MaxcaError(f"{path}: contains no scans")
    if unknown := sorted(set(rows[0]) - set(COLUMNS)):
        raise MaxcaError(f"{path}: unknown column {unknown[0]!r}; the columns are {', '.join(COLUMNS)}")
    scans = [_scan(path, number, row) for number, row in enumerate(rows, start=1)]
    if len({bool(scan.split) for scan in scans}) == 2:
        raise MaxcaError(f"{path}: some scans have a split and others do not; specify it for all or for none")
    splits: dict[str, str | None] = {}
    for scan in scans:
        if splits.setdefault(scan.subject, scan.split) != scan.split:
            raise MaxcaError(f"{path}: the subject {scan.subject} is in both splits; put all its scans into one")
    return _with_different_names(scans)


def _scan(path: Path, number: int, row: dict[str, str]) -> Scan:
    if not row.get("image"):
        raise MaxcaError(f"{path}, row {number}: no image; the columns are {', '.join(COLUMNS)}")
    files = {name: path.parent / row[name] for name in ("image", "labels") if row.get(name)}
    for name, file in files.items():
        if not os.path.exists(file):
            raise MaxcaError(f"{path}, row {number}: {name} is {row[name]}, which does not exist")
    split = row.get("split") or None
    if split not in (None, *SPLITS):
        raise MaxcaError(f"{path}, row {number}: split is {split}; it must be {' or '.join(SPLITS)}")
    image = files["image"]
    name = NOT_IN_NAMES.sub("-", image.name[: len(image.name) - len(full_suffix(image))]).strip("-.") or "scan"
    subject = row.get("subject") or str(image)
    return Scan(name, subject, image, files.get("labels"), split, row.get("group", ""))


def _with_different_names(scans: list[Scan]) -> list[Scan]:
    """Number scans whose files have the same name."""
    counts = Counter(scan.name for scan in scans)
    seen: Counter[str] = Counter()
    named = []
    for scan in scans:
        seen[scan.name] += 1
        name = scan.name if counts[scan.name] == 1 else f"{scan.name}-{seen[scan.name]}"
        while name != scan.name and name in counts:
            name += "-"
        named.append(Scan(name, scan.subject, scan.image, scan.labels, scan.split, scan.group))
    return named
