"""The scans of a template: files, or a list with their further channels, labels and masks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from maxca.errors import MaxcaError
from maxca.io.pairs import read_table

COLUMNS = ("image", "image_2", "labels", "mask")
CHANNEL = re.compile(r"image_([2-9]|[1-9][0-9])")  # a column of a further channel


class TemplateScan(NamedTuple):
    """A scan.

    Args:
        image: the file.
        further: files of its further channels, such as T2.
        labels: on its grid, whose overlap in template space is measured.
        mask: non-zero where the similarity is computed.
    """

    image: Path
    further: tuple[Path, ...] = ()
    labels: Path | None = None
    mask: Path | None = None

    @property
    def channels(self) -> tuple[Path, ...]:
        """The files of all channels."""
        return (self.image, *self.further)

    @property
    def files(self) -> Iterator[Path]:
        """All files."""
        return (path for path in (*self.channels, self.labels, self.mask) if path is not None)


def read_scans(sources: Sequence[str | Path]) -> list[TemplateScan]:
    """Scans from files, or from one CSV file with the columns image and, optionally, image_2, …, labels and mask.

    Raises:
        MaxcaError: for fewer than two, one that is listed twice, a missing file, or labels or channels of some scans
            only; it names the file or row.
    """
    if len(sources) == 1 and Path(sources[0]).suffix.lower() == ".csv":
        found = _listed(Path(sources[0]))
    else:
        found = [TemplateScan(Path(os.path.abspath(source))) for source in sources]
    for path in (path for scan in found for path in scan.files):
        if not path.exists():
            raise MaxcaError(f"{path}: no such file; check the path")
    if len(found) < 2:
        raise MaxcaError(f"{len(found)} scan; a template needs at least two scans, or a .csv list of them")
    images = [scan.image for scan in found]
    if twice := next((path for path in images if images.count(path) > 1), None):
        raise MaxcaError(f"{twice}: given twice; give every scan once")
    if len({scan.labels is None for scan in found}) == 2:
        raise MaxcaError("some scans have labels and others do not; give those of all, or of none")
    if len({len(scan.further) for scan in found}) > 1:
        raise MaxcaError("some scans have more channels than others; give image_2, … of all scans, or of none")
    return found


def _listed(path: Path) -> list[TemplateScan]:
    if not path.exists():
        raise MaxcaError(f"{path}: no such list of scans")
    return [_scan(path, number, row) for number, row in enumerate(read_table(path), start=1)]


def _scan(path: Path, number: int, row: Mapping[str, str]) -> TemplateScan:
    if unknown := sorted(name for name in row if name not in COLUMNS and not CHANNEL.fullmatch(name)):
        raise MaxcaError(f"{path}: unknown column {unknown[0]!r}; the columns are {', '.join(COLUMNS)}, …")
    if not row.get("image"):
        raise MaxcaError(f"{path}, row {number}: no image; the columns are {', '.join(COLUMNS)}, …")
    files = {name: Path(os.path.abspath(path.parent / cell)) for name, cell in row.items() if cell}
    given = {name for name in files if CHANNEL.fullmatch(name)}
    further = tuple(f"image_{n}" for n in range(2, 2 + len(given)))
    if missing := next((name for name in further if name not in given), None):
        raise MaxcaError(f"{path}, row {number}: no {missing}; channels are numbered from 2, without gaps")
    return TemplateScan(files["image"], tuple(files[name] for name in further), files.get("labels"), files.get("mask"))
