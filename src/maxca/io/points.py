"""Points (landmarks): CSV, and 3D Slicer's ``.fcsv`` and ``.mrk.json``; world RAS+ mm inside."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from maxca.errors import MaxcaError
from maxca.io.atomic import atomic_path, full_suffix
from maxca.io.regular import read_bytes
from maxca.io.space import SIGNS, known_space

SUFFIXES = (".csv", ".fcsv", ".mrk.json")
SLICER_NUMBERS = {"0": "RAS", "1": "LPS"}
SPACE = re.compile(r"#\s*(?:space|CoordinateSystem)\s*[:=]\s*(\w+)\s*$", re.IGNORECASE)
SAY_SPACE = "unless the first line is # space: LPS"  # ... the coordinates of a CSV file are RAS
LARGEST = 1e300  # JSON allows numbers beyond float64
ANTS_COLUMN = "t"
STATUS, DEFINED = "positionStatus", "2"  # of Slicer 5's .fcsv, which has two more cells than column names
FCSV_COLUMNS = ["id", *"xyz", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label", "desc", "associatedNodeID"]
SLICER_3_COLUMNS = ["label", *"xyz", "sel", "vis"]
FCSV_COLUMNS += [STATUS, "autoCreated"]
LABEL_COLUMNS = ("label", "name")


@dataclass(frozen=True, eq=False)
class Points:
    """Points in world space.

    Args:
        coordinates: (N, 3) float64, RAS+ mm.
        labels: a name for each, or no names.
        columns: other columns of a CSV file, by name, N cells each; copied to the output.
        undefined: index and label of points without a position (Slicer), counting all points of the file from 0. They
            are not included in N.

    Raises:
        ValueError: for another shape, numbers that are not finite, or labels or columns of another length.
    """

    coordinates: np.ndarray
    labels: tuple[str, ...] = ()
    columns: tuple[tuple[str, tuple[str, ...]], ...] = ()
    undefined: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        coordinates = np.array(self.coordinates, dtype=np.float64)
        if coordinates.ndim != 2 or coordinates.shape[1] != 3 or not np.isfinite(coordinates).all():
            raise ValueError(f"points are (N, 3) finite numbers, received shape {coordinates.shape}")
        lengths = {len(cells) for _, cells in self.columns} | ({len(self.labels)} if self.labels else set())
        if lengths - {len(coordinates)}:
            raise ValueError(f"{len(coordinates)} points with columns of {sorted(lengths)} cells")
        object.__setattr__(self, "coordinates", coordinates)

    def moved_to(self, coordinates: np.ndarray) -> Points:
        """The same points, with labels and columns, at other coordinates (N, 3), RAS+ mm."""
        return replace(self, coordinates=coordinates)


def read_points(path: str | Path) -> Points:
    """Read points: ``.csv``, ``.fcsv`` or ``.mrk.json``.

    A CSV file has the columns x, y, z in world RAS+ mm, as nibabel and Slicer show them; other columns are
    copied, and ``label`` names the points. Points for ANTs are LPS: declare it in a line ``# space: LPS`` (or Slicer's
    ``# CoordinateSystem = LPS``) above the header; with ANTs' column t this line is required, LPS or RAS. Slicer's
    files declare it; points that are not placed yet are kept as ``undefined``.

    Raises:
        MaxcaError: for a missing file, a bad header, a cell that is not a number, with its line, or a coordinate system
            or unit that is not known.
    """
    path = Path(path)
    suffix = _known_suffix(path)
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MaxcaError(f"{path}: not a readable text file; export the points again") from error
    if "\0" in text:
        raise MaxcaError(f"{path}: not a text file, it contains zero bytes; export the points again")
    return _parse_json(text, path) if suffix == ".mrk.json" else _parse_table(text, path, slicer=suffix == ".fcsv")


def write_points(points: Points, path: str | Path) -> None:
    """Write points; the suffix chooses the format. CSV is RAS, Slicer's formats are LPS and declare it.

    Raises:
        MaxcaError: for an unknown suffix, or a path that cannot be written.
    """
    path = Path(path)
    write = {".csv": _write_csv, ".fcsv": _write_fcsv, ".mrk.json": _write_json}[_known_suffix(path)]
    with atomic_path(path) as temporary:
        write(points, temporary)


def _known_suffix(path: Path) -> str:
    suffix = full_suffix(path)
    if suffix not in SUFFIXES:
        raise MaxcaError(f"{path}: points end in one of {', '.join(SUFFIXES)}; convert or rename them")
    return suffix


def _parse_table(text: str, path: Path, slicer: bool) -> Points:
    """CSV, and Slicer's ``.fcsv``, whose header is a comment and whose older versions are RAS by default."""
    space = None
    header = SLICER_3_COLUMNS if slicer else None  # until a line gives a version
    rows: list[tuple[int, dict[str, str]]] = []
    for number, line in enumerate(_lines(text, slicer), start=1):
        if line.lstrip().startswith("#"):
            space = _space(line, path, number) or space
            if slicer and line.lstrip("# ").startswith("Markups"):
                header = FCSV_COLUMNS
            continue
        cells = _cells(line, path, number, strict=not slicer)
        if not any(cells):
            continue
        if header is None:
            header = _header(cells, path, number)
        elif len(cells) > len(header):
            raise MaxcaError(f"{path}, line {number}: {len(cells)} cells under {len(header)} columns; correct the line")
        else:
            rows.append((number, dict(zip(header, cells + [""] * (len(header) - len(cells)), strict=True))))
    if header is None:
        raise MaxcaError(f"{path}: empty; a points file starts with a header x,y,z")
    if space is None and ANTS_COLUMN in header:
        raise MaxcaError(
            f"{path}: has the column t of ANTs, whose points are LPS, while other files are RAS; add a first line: "
            "# space: LPS (as ANTs writes them) or # space: RAS"
        )
    named = next((name for name in LABEL_COLUMNS if name in header), None)
    names = [row[named] if named else "" for _, row in rows]
    placed = [row.get(STATUS, "") in ("", DEFINED) for _, row in rows]
    undefined = tuple((n, name) for n, (name, there) in enumerate(zip(names, placed, strict=True)) if not there)
    rows = [row for row, there in zip(rows, placed, strict=True) if there]
    coordinates = [[_number(row[axis], path, number, axis) for axis in "xyz"] for number, row in rows]
    labels = tuple(row[named] for _, row in rows) if named else ()
    others = [] if slicer else [name for name in header if name not in ("x", "y", "z", named)]
    columns = tuple((name, tuple(row[name] for _, row in rows)) for name in others)
    return Points(np.array(coordinates).reshape(-1, 3) * SIGNS[space or "RAS"], labels, columns, undefined)


def _cells(line: str, path: Path, number: int, *, strict: bool) -> list[str]:
    """The cells of a line; Slicer does not quote its labels, so that a label may contain a single quote."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], strict=strict), [])]
    except csv.Error as error:
        raise MaxcaError(f"{path}, line {number}: {error}; correct the quotes or characters of the line") from error


def _lines(text: str, slicer: bool) -> list[str]:
    """The lines of a table. Some builds of Slicer put a bare carriage return into the middle of a row."""
    if slicer and "\n" in text:
        return text.replace("\r", "").split("\n")
    return re.split(r"\r\n|\r|\n", text)


def _space(line: str, path: Path, number: int) -> str | None:
    found = SPACE.match(line.strip())
    if not found:
        return None
    space = SLICER_NUMBERS.get(found[1], found[1].upper())
    return known_space(space, f"{path}, line {number}")


def _header(cells: list[str], path: Path, number: int) -> list[str]:
    header = [cell.lower() if cell.lower() in ("x", "y", "z", *LABEL_COLUMNS) else cell for cell in cells]
    if any(header.count(axis) != 1 for axis in "xyz") or len(set(header)) != len(header):
        raise MaxcaError(
            f"{path}, line {number}: the header must name x, y and z once each, it is {','.join(cells)[:80]!r}"
        )
    return header


def _number(cell: object, path: Path, line: int, what: str) -> float:
    try:
        value = float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = np.nan
    if not np.isfinite(value):
        raise MaxcaError(f"{path}, line {line}: {what} is {str(cell)[:40]!r}, not a number; correct the cell")
    return value


def _parse_json(text: str, path: Path) -> Points:
    try:
        markups: list[Any] = json.loads(text)["markups"]
        found = [each for markup in markups for each in _parse_markup(markup, path)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MaxcaError(f"{path}: not a Slicer markups file; save the points from Slicer again") from error
    coordinates = np.array([place for _, place in found if place is not None]).reshape(-1, 3)
    labels = tuple(label for label, place in found if place is not None)
    undefined = tuple((n, label) for n, (label, place) in enumerate(found) if place is None)
    return Points(coordinates, labels, undefined=undefined)


def _parse_markup(markup: Any, path: Path) -> Iterator[tuple[str, np.ndarray | None]]:
    """Labels and coordinates (3,) of one list of points; None for an unplaced point."""
    space = markup.get("coordinateSystem", "LPS")
    space = known_space(SLICER_NUMBERS.get(str(space), space), str(path))
    units = markup.get("coordinateUnits", "mm")
    if any(unit not in ("mm", ["mm"], "[mm]") for unit in (units if isinstance(units, list) else [units])):
        raise MaxcaError(f"{path}: coordinates in {str(units)[:40]!r}; save the points in mm")
    for point in markup["controlPoints"]:
        label = str(point.get("label", ""))
        if point.get("positionStatus", "defined") != "defined":
            yield label, None
            continue
        position = point["position"]
        if len(position) != 3 or not all(_is_number(n) for n in position):
            raise MaxcaError(
                f"{path}: point {label[:40]!r} has the position {str(position)[:60]}, not three numbers; correct it"
            )
        yield label, np.array(position, dtype=np.float64) * SIGNS[space]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _write_csv(points: Points, path: Path) -> None:
    labels = [("label", tuple(_one_line(label) for label in points.labels))] if points.labels else []
    cells = [*(column for _, column in labels), *(column for _, column in points.columns)]
    with path.open("w", encoding="utf-8", newline="") as file:
        if any(name == ANTS_COLUMN for name, _ in points.columns):
            file.write("# space: RAS\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["x", "y", "z", *(name for name, _ in labels), *(name for name, _ in points.columns)])
        rows = zip(points.coordinates.tolist(), *cells, strict=True)
        writer.writerows([*map(repr, xyz), *rest] for xyz, *rest in rows)


def _write_fcsv(points: Points, path: Path) -> None:
    columns = ",".join(FCSV_COLUMNS[: FCSV_COLUMNS.index(STATUS)])
    head = ["# Markups fiducial file version = 4.11", "# CoordinateSystem = LPS", f"# columns = {columns}"]
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("\n".join(head) + "\n")
        writer = csv.writer(file, lineterminator="\n")
        for number, label, xyz in _slicer_points(points):
            writer.writerow([number, *map(repr, xyz), 0, 0, 0, 1, 1, 1, 0, _one_line(label), "", ""])


def _write_json(points: Points, path: Path) -> None:
    controls = [
        {"id": str(number), "label": label, "position": xyz, "positionStatus": "defined"}
        for number, label, xyz in _slicer_points(points)
    ]
    schema = "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": controls}
    content = {"@schema": f"{schema}markups-schema-v1.0.3.json#", "markups": [markup]}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _one_line(label: str) -> str:
    return re.sub(r"[\r\n]+", " ", label)


def _slicer_points(points: Points) -> Iterable[tuple[int, str, list[float]]]:
    """Number, label and LPS coordinates of each point."""
    labels = points.labels or tuple(f"P-{number}" for number in range(1, len(points.coordinates) + 1))
    return zip(range(1, len(labels) + 1), labels, (points.coordinates * SIGNS["LPS"]).tolist(), strict=True)
