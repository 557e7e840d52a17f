"""The vertices of a mesh file, and how the file is written with others in their place.

Surfaces are rewritten in place: only the bytes of the vertices and of their normals change, so that faces, scalars,
names, comments and whatever else a program stored remain as they are, whether this package knows them or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

DIGITS = {4: 9, 8: 17}  # decimal digits that identify a float of this size


class Unreadable(ValueError):
    """Raised with the reason for which a surface cannot be read, and what to do."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """The vertices in a file.

    Args:
        vertices: (N, 3), in the coordinates of the file.
        written: from other vertices and normals to the content of a file that is the same otherwise.
        normals: (M, 3) at vertices, if the file holds any. Those of facets are left to ``written``.
        owners: (M,) the vertex of each normal; by default, normal n is at vertex n.
        frame: (4, 4), from coordinates of the file to world RAS+ mm; None if the file does not declare it.
        warnings: what is kept as stored although it may not suit other vertices, one line each.
    """

    vertices: np.ndarray
    written: Callable[[np.ndarray, np.ndarray | None], bytes]
    normals: np.ndarray | None = None
    owners: np.ndarray | None = None
    frame: np.ndarray | None = None
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not np.isfinite(self.vertices).all():
            raise Unreadable("a coordinate of a vertex is not a finite number; export the surface again")


def spliced(content: bytes, edits: Iterable[tuple[int, int, bytes]]) -> bytes:
    """Content with parts replaced, each given by its start, its end and what takes its place."""
    parts, at = [], 0
    for start, end, new in sorted(edits):
        parts += [content[at:start], new]
        at = end
    return b"".join([*parts, content[at:]])


def numbers_of(text: bytes, count: int) -> np.ndarray:
    """Numbers separated by white space.

    Raises:
        Unreadable: for another count than expected.
        ValueError: for a word that is not a number.
    """
    words = text.split()
    if len(words) != count:
        raise Unreadable(f"{count} numbers are declared, {len(words)} are stored; copy or export it again")
    return np.array([float(word) for word in words])


def as_text(rows: np.ndarray, dtype: np.dtype) -> bytes:
    """One line for each row, with the digits that identify a float of a type."""
    number = f"%.{DIGITS[dtype.itemsize]}g"
    line = " ".join([number] * rows.shape[1])
    return "\n".join(line % tuple(row) for row in rows.tolist()).encode("ascii")


def binary(content: bytes, dtype: np.dtype, count: int, start: int) -> np.ndarray:
    """Rows of three numbers at a place of a file.

    Raises:
        Unreadable: if the file ends before.
    """
    needed = count * 3 * dtype.itemsize
    if count < 0 or start + needed > len(content):
        held = max(0, len(content) - start)
        raise Unreadable(f"{needed} bytes of vertices are declared, {held} are stored; copy or export it again")
    return np.frombuffer(content, dtype, count * 3, start).reshape(count, 3)
