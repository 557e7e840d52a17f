"""STL, text or binary: the normals of its facets follow from the vertices."""

from __future__ import annotations

import re

import numpy as np

from maxca.io.surfaces.mesh import Mesh, Unreadable

HEADER, FACET = 80, np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
LINE = re.compile(rb"\b(vertex|normal)[ \t]+(\S+)[ \t]+(\S+)[ \t]+(\S+)", re.IGNORECASE)


def read_stl(content: bytes) -> Mesh:
    """The three vertices of each facet.

    Raises:
        Unreadable: for a file that is neither, or truncated.
    """
    claimed = int.from_bytes(content[HEADER : HEADER + 4], "little")
    if len(content) == HEADER + 4 + claimed * FACET.itemsize:
        return _binary(content)
    if content.lstrip()[:5].lower() == b"solid" and b"facet" in content[: 1 << 16].lower():
        return _text(content)
    raise Unreadable("not an STL file, or truncated; copy or export it again")


def _binary(content: bytes) -> Mesh:
    facets = np.frombuffer(content, FACET, offset=HEADER + 4)

    def written(vertices: np.ndarray, normals: np.ndarray | None) -> bytes:
        new = facets.copy()
        new["corners"] = vertices.reshape(-1, 3, 3)
        new["normal"] = _normals(vertices.reshape(-1, 3, 3), facets["normal"])
        return content[: HEADER + 4] + new.tobytes()

    return Mesh(facets["corners"].reshape(-1, 3).astype(np.float64), written)


def _text(content: bytes) -> Mesh:
    found = [(line[1].lower(), [float(word) for word in line.groups()[1:]]) for line in LINE.finditer(content)]
    corners = np.array([xyz for kind, xyz in found if kind == b"vertex"]).reshape(-1, 3)
    given = np.array([xyz for kind, xyz in found if kind == b"normal"]).reshape(-1, 3)
    if len(corners) != 3 * len(given) or content.lower().count(b"endfacet") != len(given):
        raise Unreadable("truncated or damaged: facets need a normal and three vertices each; copy or export it again")

    def written(vertices: np.ndarray, normals: np.ndarray | None) -> bytes:
        facets = _normals(vertices.reshape(-1, 3, 3), given)
        rows = {b"vertex": iter(vertices.tolist()), b"normal": iter(facets.tolist())}
        return LINE.sub(lambda line: line[1] + b" %.9g %.9g %.9g" % tuple(next(rows[line[1].lower()])), content)

    return Mesh(corners, written)


def _normals(corners: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Unit normals of facets (N, 3, 3) by the right-hand rule; those that were zero, as some programs write, stay."""
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where((length > 0) & before.any(axis=1, keepdims=True), normals / np.where(length > 0, length, 1), 0)
