"""Points (landmarks): CSV, and 3D Slicer's ``.fcsv`` and ``.mrk.json``; world RAS+ mm inside."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from maxca.errors import MaxcaError
from maxca.io.atomic import atomic_path, full_suffix

SUFFIXES = (".csv", ".fcsv", ".mrk.json")
SIGNS = {"RAS": np.array([1.0, 1.0, 1.0]), "LPS": np.array([-1.0, -1.0, 1.0])}
SLICER_NUMBERS = {"0": "RAS", "1": "LPS"}
SPACE = re.compile(r"#\s*(?:space|CoordinateSystem)\s*[:=]\s*(\w+)\s*$", re.IGNORECASE)
FCSV_COLUMNS = ["id", *"xyz", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label", "desc", "associatedNodeID"]
LABEL_COLUMNS = ("label", "name")


@dataclass(frozen=True, eq=False)
class Points:
    """Points in world space.

    Args:
        coordinates: (N, 3) float64, RAS+ mm.
        labels: a name for each, or none at all.
        columns: other columns of a CSV file, by name, N cells each; carried through.

    Raises:
        ValueError: for another shape, numbers that are not finite, or labels or columns of another length.
    """

    coordinates: np.ndarray
    labels: tuple[str, ...] = ()
    columns: tuple[tuple[str, tuple[str, ...]], ...] = ()

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

    A CSV file has the columns x, y, z in world RAS+ mm, as nibabel and Slicer show them; other columns are carried
    through, and ``label`` names the points. Points for ANTs are LPS: say so in a line ``# space: LPS`` (or Slicer's
    ``# CoordinateSystem = LPS``) above the header. Slicer's files say it themselves.

    Raises:
        MaxcaError: for a missing file, a bad header, or a cell that is not a number, with its line.
    """
    path = Path(path)
    suffix = _known_suffix(path)
    if not path.is_file():
        raise MaxcaError(f"{path}: no such file; check the path of the points")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MaxcaError(f"{path}: not a readable text file; export the points again") from error
    return _parse_json(text, path) if suffix == ".mrk.json" else _parse_table(text, path, slicer=suffix == ".fcsv")


def write_points(points: Points, path: str | Path) -> None:
    """Write points; the suffix chooses the format. CSV is RAS, Slicer's formats are LPS and say so.

    Raises:
        MaxcaError: for an unknown suffix, or a place that cannot be written.
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
    space = "RAS"
    header = FCSV_COLUMNS if slicer else None
    rows: list[tuple[int, dict[str, str]]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#"):
            space = _space(line, path, number) or space
            continue
        cells = [cell.strip() for cell in next(csv.reader([line]), [])]
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
    coordinates = [[_number(row[axis], path, number, axis) for axis in "xyz"] for number, row in rows]
    named = next((name for name in LABEL_COLUMNS if name in header), None)
    labels = tuple(row[named] for _, row in rows) if named else ()
    others = [] if slicer else [name for name in header if name not in ("x", "y", "z", named)]
    columns = tuple((name, tuple(row[name] for _, row in rows)) for name in others)
    return Points(np.array(coordinates).reshape(-1, 3) * SIGNS[space], labels, columns)


def _space(line: str, path: Path, number: int) -> str | None:
    found = SPACE.match(line.strip())
    if not found:
        return None
    space = SLICER_NUMBERS.get(found[1], found[1].upper())
    return _known_space(space, f"{path}, line {number}")


def _known_space(space: object, where: str) -> str:
    if space not in SIGNS:
        raise MaxcaError(f"{where}: the coordinate system {space} is not known; use RAS or LPS")
    return str(space)


def _header(cells: list[str], path: Path, number: int) -> list[str]:
    header = [cell.lower() if cell.lower() in ("x", "y", "z", *LABEL_COLUMNS) else cell for cell in cells]
    if any(header.count(axis) != 1 for axis in "xyz") or len(set(header)) != len(header):
        raise MaxcaError(f"{path}, line {number}: the header must name x, y and z once each, it is {','.join(cells)!r}")
    return header


def _number(cell: object, path: Path, line: int, what: str) -> float:
    try:
        value = float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = np.nan
    if not np.isfinite(value):
        raise MaxcaError(f"{path}, line {line}: {what} is {cell!r}, not a number; correct the cell")
    return value


def _parse_json(text: str, path: Path) -> Points:
    try:
        markups: list[Any] = json.loads(text)["markups"]
        found = [_parse_markup(markup, path) for markup in markups]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise MaxcaError(f"{path}: not a Slicer markups file; save the points from Slicer again") from error
    coordinates = np.concatenate([np.zeros((0, 3)), *(each for each, _ in found)])
    return Points(coordinates, tuple(label for _, labels in found for label in labels))


def _parse_markup(markup: Any, path: Path) -> tuple[np.ndarray, list[str]]:
    """Coordinates (N, 3) and labels of one list of points."""
    space = _known_space(markup.get("coordinateSystem", "LPS"), str(path))
    controls = [point for point in markup["controlPoints"] if point.get("positionStatus", "defined") == "defined"]
    labels = [str(point.get("label", "")) for point in controls]
    rows = []
    for label, point in zip(labels, controls, strict=True):
        position = point["position"]
        if len(position) != 3 or not all(isinstance(n, int | float) and np.isfinite(n) for n in position):
            raise MaxcaError(f"{path}: point {label!r} has the position {position}, not three numbers; correct it")
        rows.append(position)
    return np.array(rows, dtype=np.float64).reshape(-1, 3) * SIGNS[space], labels


def _write_csv(points: Points, path: Path) -> None:
    labels = [("label", points.labels)] if points.labels else []
    cells = [*(column for _, column in labels), *(column for _, column in points.columns)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["x", "y", "z", *(name for name, _ in labels), *(name for name, _ in points.columns)])
        rows = zip(points.coordinates.tolist(), *cells, strict=True)
        writer.writerows([*map(repr, xyz), *rest] for xyz, *rest in rows)


def _write_fcsv(points: Points, path: Path) -> None:
    columns = ",".join(FCSV_COLUMNS)
    head = ["# Markups fiducial file version = 4.11", "# CoordinateSystem = LPS", f"# columns = {columns}"]
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("\n".join(head) + "\n")
        writer = csv.writer(file, lineterminator="\n")
        for number, label, xyz in _slicer_points(points):
            writer.writerow([number, *map(repr, xyz), 0, 0, 0, 1, 1, 1, 0, label, "", ""])


def _write_json(points: Points, path: Path) -> None:
    controls = [
        {"id": str(number), "label": label, "position": xyz, "positionStatus": "defined"}
        for number, label, xyz in _slicer_points(points)
    ]
    schema = "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": controls}
    content = {"@schema": f"{schema}markups-schema-v1.0.3.json#", "markups": [markup]}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _slicer_points(points: Points) -> Iterable[tuple[int, str, list[float]]]:
    """Number, label and LPS coordinates of each point."""
    labels = points.labels or tuple(f"P-{number}" for number in range(1, len(points.coordinates) + 1))
    return zip(range(1, len(labels) + 1), labels, (points.coordinates * SIGNS["LPS"]).tolist(), strict=True)
