"""Wavefront OBJ: ``v`` and ``vn`` lines change, groups, materials, textures and faces stay."""

from __future__ import annotations

import re

import numpy as np

from maxca.io.surfaces.mesh import Mesh, Unreadable, spliced

LINE = re.compile(rb"^[ \t]*(v|vn)[ \t]+(\S+)[ \t]+(\S+)[ \t]+([^\s\\]+)", re.MULTILINE)
FACE = re.compile(rb"^[ \t]*[fl][ \t]+(.*)$", re.MULTILINE)


def read_obj(content: bytes) -> Mesh:
    """The vertices, each with the first of its normals that a face names.

    Raises:
        Unreadable: for a file without vertices.
    """
    found = list(LINE.finditer(content))
    at = {kind: [line for line in found if line[1] == kind] for kind in (b"v", b"vn")}
    vertices, stored = (
        np.array([[float(word) for word in line.groups()[1:]] for line in lines]).reshape(-1, 3)
        for lines in at.values()
    )
    if not len(vertices):
        raise Unreadable("not an OBJ file, or without vertices; export it again")
    owners = _owners(content, at) if len(stored) else np.zeros(0, dtype=int)
    used = np.flatnonzero(owners >= 0)

    def written(vertices: np.ndarray, normals: np.ndarray | None) -> bytes:
        edits = [_edit(line, row) for line, row in zip(at[b"v"], vertices.tolist(), strict=True)]
        if normals is not None:
            edits += [_edit(at[b"vn"][n], row) for n, row in zip(used.tolist(), normals.tolist(), strict=True)]
        return spliced(content, edits)

    unused = f"{len(stored) - len(used)} normals that no face uses are kept as stored"
    warnings = (unused,) if len(used) < len(stored) else ()
    return Mesh(vertices, written, stored[used] if len(used) else None, owners[used], warnings=warnings)


def _owners(content: bytes, at: dict[bytes, list[re.Match[bytes]]]) -> np.ndarray:
    """For each normal, the first vertex at which a face uses it, −1 without one."""
    owners = np.full(len(at[b"vn"]), -1)
    starts = {kind: np.array([line.start() for line in lines]) for kind, lines in at.items()}
    for face in FACE.finditer(content):
        for corner in face[1].split():
            parts = corner.split(b"/")
            if len(parts) == 3 and parts[2]:
                vertex, normal = (
                    _index(int(part), starts[kind], face.start())
                    for kind, part in ((b"v", parts[0]), (b"vn", parts[2]))
                )
                if owners[normal] < 0:
                    owners[normal] = vertex
    return owners


def _index(number: int, starts: np.ndarray, place: int) -> int:
    """From 0; a negative number counts back from the place of the face."""
    index = number - 1 if number > 0 else int(np.searchsorted(starts, place)) + number
    if not 0 <= index < len(starts) or number == 0:
        raise Unreadable(f"a face refers to number {number} of {len(starts)}; copy or export it again")
    return index


def _edit(line: re.Match[bytes], row: list[float]) -> tuple[int, int, bytes]:
    return line.start(2), line.end(4), b"%.9g %.9g %.9g" % tuple(row)
