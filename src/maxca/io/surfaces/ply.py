"""PLY (Stanford): text or binary, with any properties of vertices and any other elements."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from maxca.io.surfaces.mesh import DIGITS, Mesh, Unreadable, spliced

LONGEST_HEADER = 1 << 20
TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4"},
    **{"double": "f8", "float64": "f8"},
}
ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
VERTEX, NORMAL = ("x", "y", "z"), ("nx", "ny", "nz")


@dataclass
class _Element:
    name: str
    count: int
    properties: list[tuple[str, str]] = field(default_factory=list)
    lists: bool = False


def read_ply(content: bytes) -> Mesh:
    """The vertices, and their normals if there are any.

    Raises:
        Unreadable: for another header, or vertices after elements of varying length.
    """
    ended = content.find(b"end_header", 0, LONGEST_HEADER)
    if ended < 0:
        raise Unreadable("not a PLY file, or its header does not end; export it again")
    start = content.index(b"\n", ended) + 1
    order, elements = _header(content[:ended].decode("ascii", errors="replace").splitlines())
    before = elements[: next((n for n, each in enumerate(elements) if each.name == "vertex"), len(elements))]
    if len(before) == len(elements) or any(each.lists for each in elements[: len(before) + 1]):
        raise Unreadable("it has no vertices, or elements of varying length before them; export it again")
    vertex = elements[len(before)]
    kinds = dict(vertex.properties)
    if len(kinds) != len(vertex.properties) or not all(kinds.get(axis, "")[:1] == "f" for axis in VERTEX):
        raise Unreadable("its vertices have no x, y and z of type float or double; export it again")
    named = all(kinds.get(axis, "")[:1] == "f" for axis in NORMAL)
    return (_binary if order else _text)(content, start, order, before, vertex, named)


def _header(lines: list[str]) -> tuple[str, list[_Element]]:
    """Byte order, empty for text, and the elements in the order of the file."""
    order, elements = None, list[_Element]()
    for line in lines[1:]:
        words = line.split()
        if words[:1] == ["format"] and len(words) == 3:
            order = ORDERS.get(words[1])
        elif words[:1] == ["element"] and len(words) == 3:
            elements.append(_Element(words[1], int(words[2])))
        elif words[:1] == ["property"] and len(words) == 3 and elements:
            elements[-1].properties.append((words[2], TYPES[words[1]]))
        elif words[:2] == ["property", "list"] and elements:
            elements[-1].lists = True
    if lines[:1] != ["ply"] or order is None or any(each.count < 0 for each in elements):
        raise Unreadable("not a PLY file of format 1.0; export it again")
    return order, elements


def _binary(content: bytes, start: int, order: str, before: list[_Element], vertex: _Element, named: bool) -> Mesh:
    start += sum(each.count * _row(each, order).itemsize for each in before)
    row = _row(vertex, order)
    end = start + vertex.count * row.itemsize
    if end > len(content):
        raise Unreadable(f"truncated: {vertex.count} vertices are declared, not all are stored; copy it again")
    rows = np.frombuffer(content, row, vertex.count, start)

    def written(vertices: np.ndarray, normals: np.ndarray | None) -> bytes:
        new = rows.copy()
        for names, values in ((VERTEX, vertices), (NORMAL, normals)):
            for axis, name in enumerate(names):
                if values is not None:
                    new[name] = values[:, axis]
        return spliced(content, [(start, end, new.tobytes())])

    vertices, normals = (np.stack([rows[name].astype(np.float64) for name in names], axis=1) for names in
                         (VERTEX, NORMAL if named else VERTEX))  # fmt: skip
    return Mesh(vertices, written, normals if named else None)


def _row(element: _Element, order: str) -> np.dtype:
    return np.dtype([(name, order + kind) for name, kind in element.properties])


def _text(content: bytes, start: int, _: str, before: list[_Element], vertex: _Element, named: bool) -> Mesh:
    lines = content[start:].split(b"\n")
    skipped = sum(each.count for each in before)
    rows = [line.split() for line in lines[skipped : skipped + vertex.count]]
    if len(rows) != vertex.count or any(len(row) != len(vertex.properties) for row in rows):
        raise Unreadable(f"{vertex.count} vertices are declared, not all are stored; copy or export it again")
    column = {name: number for number, (name, _) in enumerate(vertex.properties)}
    digits = {name: DIGITS[np.dtype(kind).itemsize] for name, kind in vertex.properties if kind[0] == "f"}

    def written(vertices: np.ndarray, normals: np.ndarray | None) -> bytes:
        new = [list(row) for row in rows]
        for names, values in ((VERTEX, vertices), (NORMAL, normals)):
            for axis, name in enumerate(names):
                for row, value in zip(new, () if values is None else values[:, axis].tolist(), strict=False):
                    row[column[name]] = b"%.*g" % (digits[name], value)
        whole = [*lines[:skipped], *map(b" ".join, new), *lines[skipped + vertex.count :]]
        return content[:start] + b"\n".join(whole)

    def values(names: tuple[str, ...]) -> np.ndarray:
        return np.array([[float(row[column[name]]) for name in names] for row in rows]).reshape(-1, 3)

    return Mesh(values(VERTEX), written, values(NORMAL) if named else None)
