"""Correspondence of the landmarks of two images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maxca.errors import MaxcaError
from maxca.io.points import Points

SHOWN = 3  # most names in a message

Entry = tuple[str, int | None]  # the label of a point, and its row in the coordinates, if it has a position


class Paired(NamedTuple):
    """Corresponding landmarks of both images, and warnings about skipped ones, one line each."""

    fixed: Points
    moving: Points
    warnings: tuple[str, ...] = ()


def paired(fixed: Points, moving: Points, files: tuple[str | Path, str | Path]) -> Paired:
    """Corresponding landmarks of both images: row n of one corresponds to row n of the other.

    If both files name their points, they are paired by name, in any order; otherwise by their order. Landmarks that are
    undefined in either file are skipped, and so are those named in one file only, with a warning.

    Args:
        fixed: landmarks of the fixed image.
        moving: landmarks of the moving image.
        files: their names in messages.

    Raises:
        MaxcaError: for a duplicate name, files of different length without names, or if no landmark is left.
    """
    ours, theirs = _entries(fixed), _entries(moving)
    warnings: tuple[str, ...] = ()
    if _has_names(ours) and _has_names(theirs):
        rows, warnings = _by_name(ours, theirs, files)
    elif len(ours) == len(theirs):
        rows = [(a, b) for (_, a), (_, b) in zip(ours, theirs, strict=True)]
    else:
        raise MaxcaError(
            f"{files[0]} and {files[1]}: {len(ours)} fixed and {len(theirs)} moving points; row n of one must be row "
            "n of the other, or both need a column label that names the points"
        )
    both = [(a, b) for a, b in rows if a is not None and b is not None]
    if ours and not both:
        raise MaxcaError(f"{files[0]} and {files[1]}: no landmark has a position in both files; place them first")
    return Paired(_chosen(fixed, [a for a, _ in both]), _chosen(moving, [b for _, b in both]), warnings)


def _entries(points: Points) -> list[Entry]:
    """All points of a file in order, including those without a position."""
    undefined = dict(points.undefined)
    labels = iter(points.labels or [""] * len(points.coordinates))
    rows = iter(range(len(points.coordinates)))
    total = len(points.coordinates) + len(undefined)
    return [(undefined[n], None) if n in undefined else (next(labels), next(rows)) for n in range(total)]


def _has_names(entries: Sequence[Entry]) -> bool:
    return any(label for label, _ in entries)


def _by_name(
    ours: Sequence[Entry], theirs: Sequence[Entry], files: tuple[str | Path, str | Path]
) -> tuple[list[tuple[int | None, int | None]], tuple[str, ...]]:
    for file, entries in zip(files, (ours, theirs), strict=True):
        names = [label for label, _ in entries]
        if "" in names:
            raise MaxcaError(
                f"{file}: point {names.index('') + 1} has no name, but others have one; name all of them or none"
            )
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise MaxcaError(f"{file}: more than one point is named {_listed(twice)}; use unique names")
    places, known = dict(theirs), dict(ours)
    absent = {
        files[1]: [name for name, _ in ours if name not in places],
        files[0]: [name for name, _ in theirs if name not in known],
    }
    if not places.keys() & known.keys():
        raise MaxcaError(
            f"{files[1]}: no point has the name of one in {files[0]} ({_listed(absent[files[1]])}); use the same names "
            "in both files, or remove the column label to pair them row by row"
        )
    warnings = tuple(
        f"{file}: no point is named {_listed(names)}, as in the other file; skipped"
        for file, names in absent.items()
        if names
    )
    return [(row, places[name]) for name, row in ours if name in places], warnings


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(repr(name[:40]) for name in names[:SHOWN]) + more


def _chosen(points: Points, rows: list[int]) -> Points:
    return Points(
        points.coordinates[np.array(rows, dtype=int)],
        tuple(points.labels[row] for row in rows) if points.labels else (),
        tuple((name, tuple(cells[row] for row in rows)) for name, cells in points.columns),
    )
