"""Names and weights of labels: BIDS look-up tables, and the color tables of FreeSurfer, 3D Slicer and ITK-SNAP."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NamedTuple

from maxca.errors import MaxcaError
from maxca.io.pairs import read_table
from maxca.io.records import read_text

DELIMITED = {".tsv": True, ".csv": False}  # whether with tabs
# FreeSurfer, 3D Slicer: number name R G B [A]. ITK-SNAP: number R G B A, two visibilities, "name".
COLORS = re.compile(r"(?P<index>\d+)\s+(?P<name>\S+)(?:\s+\d+){3,4}(?:\s+.*)?", re.ASCII)
SNAP = re.compile(r'(?P<index>\d+)(?:\s+[\d.]+){6}\s+"(?P<name>[^"]*)"', re.ASCII)
LAYOUTS = (
    "a table of labels is .tsv or .csv with the columns index and name, and optionally weight, or a color table of "
    "FreeSurfer, 3D Slicer or ITK-SNAP"
)


class LabelEntry(NamedTuple):
    """A label in a table.

    Args:
        name: of the structure.
        weight: relative to other labels, at least 0.
    """

    name: str
    weight: float = 1.0


def read_label_table(path: str | Path) -> dict[int, LabelEntry]:
    """The labels of a table by their number.

    Args:
        path: a BIDS look-up table (.tsv) or a .csv file, with the columns index and name, and optionally weight; or a
            color table: ``FreeSurferColorLUT.txt``, ``.ctab``, ``.ctbl``, or label descriptions of ITK-SNAP.

    Raises:
        MaxcaError: for another file, or a label with two names; it names the row or line.
    """
    path = Path(path)
    delimited = path.suffix.lower() in DELIMITED
    entries = _rows(path) if delimited else _lines(path)
    if not entries:
        raise MaxcaError(f"{path}: no labels; {LAYOUTS}")
    found: dict[int, LabelEntry] = {}
    for place, index, entry in entries:
        if found.setdefault(index, entry) != entry:
            raise MaxcaError(f"{path}, {place}: a second entry of the label {index}; remove one of them")
    return found


def _rows(path: Path) -> list[tuple[str, int, LabelEntry]]:
    """The rows of a table with a header."""
    entries = []
    for number, row in enumerate(read_table(path, tabs=DELIMITED[path.suffix.lower()]), start=1):
        place, index, name = f"row {number}", row.get("index", ""), row.get("name", "")
        if not (index.isascii() and index.isdecimal()) or not name:
            raise MaxcaError(f"{path}, {place}: no index or no name; the columns are index and name")
        entries.append((place, int(index), LabelEntry(name, _weight(path, place, row.get("weight", "")))))
    return entries


def _weight(path: Path, place: str, text: str) -> float:
    try:
        weight = float(text or 1)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight >= 0):
        raise MaxcaError(f"{path}, {place}: the weight {text[:40]!r} is not a number from 0 up")
    return weight


def _lines(path: Path) -> list[tuple[str, int, LabelEntry]]:
    """The lines of a color table; lines that begin with # are comments."""
    try:
        text = read_text(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MaxcaError(f"{path}: not a text file; {LAYOUTS}") from error
    entries = []
    for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
        if not line or line.startswith("#"):
            continue
        found = SNAP.fullmatch(line) or COLORS.fullmatch(line)
        if found is None:
            raise MaxcaError(f"{path}, line {number}: not a number, a name and a color; {LAYOUTS}")
        entries.append((f"line {number}", int(found["index"]), LabelEntry(found["name"])))
    return entries
