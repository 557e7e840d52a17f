"""Legacy VTK files, text or binary: poly data, unstructured and structured grids."""

from __future__ import annotations

import re

import numpy as np

from maxca.io.surfaces.mesh import Mesh, Unreadable, as_text, binary, numbers_of, spliced

HEAD = re.compile(rb"# vtk DataFile Version [^\n]{1,20}\n([^\n]{0,256})\n\s*(ASCII|BINARY)\s*\n\s*DATASET\s+(\w+)\s*\n")
DATASETS = (b"POLYDATA", b"UNSTRUCTURED_GRID", b"STRUCTURED_GRID")
POINTS = re.compile(rb"^POINTS[ \t]+(\d{1,12})[ \t]+(float|double)[ \t]*\r?\n", re.MULTILINE)
NORMALS = re.compile(rb"^NORMALS[ \t]+\S+[ \t]+(float|double)[ \t]*\r?\n", re.MULTILINE)
SECTION = re.compile(rb"^(POINT|CELL)_DATA[ \t]+(\d{1,12})[ \t]*\r?\n", re.MULTILINE)
VECTORS = re.compile(rb"^(VECTORS|TENSORS6?)[ \t]+(\S{1,80})", re.MULTILINE)
KEYWORD = re.compile(rb"\n[ \t]*[A-Z]")
TYPES: dict[bytes, np.dtype] = {b"float": np.dtype(">f4"), b"double": np.dtype(">f8")}


def read_vtk(content: bytes) -> tuple[Mesh, bytes]:
    """The vertices and their normals, and the title, in which 3D Slicer declares the coordinate system.

    Raises:
        Unreadable: for another dataset, or one without points.
    """
    head = HEAD.match(content.replace(b"\r\n", b"\n", 8)[:1024])
    if head is None or head[3] not in DATASETS:
        what = head[3].decode("ascii", errors="replace")[:40] if head else "no"
        raise Unreadable(f"a VTK file with {what} dataset, not a mesh; save it as poly data")
    found = POINTS.search(content)
    if found is None:
        raise Unreadable("a VTK file without points of type float or double; save it again")
    places = [_place(content, found, int(found[1]), head[2])]
    for normals in NORMALS.finditer(content, places[0][1]):
        section = [each for each in SECTION.finditer(content, places[0][1], normals.start())][-1:]
        if section and section[0][1] == b"POINT" and int(section[0][2]) == int(found[1]):
            places.append(_place(content, normals, int(found[1]), head[2]))
            break
    values = [rows for _, _, rows, _ in places]

    def written(vertices: np.ndarray, normals: np.ndarray | None) -> bytes:
        new = [vertices] if normals is None else [vertices, normals]
        edits = []
        for (start, end, _, dtype), rows in zip(places, new, strict=True):
            edits.append((start, end, rows.astype(dtype).tobytes() if head[2] == b"BINARY" else as_text(rows, dtype)))
        return spliced(content, edits)

    kept = VECTORS.search(content, places[0][1])
    warnings = (f"{_shown(kept[2])}: {kept[1].decode().lower()} are kept as stored, not rotated",) if kept else ()
    return Mesh(values[0], written, values[1] if values[1:] else None, warnings=warnings), head[1]


def _place(content: bytes, found: re.Match[bytes], count: int, form: bytes) -> tuple[int, int, np.ndarray, np.dtype]:
    """Start, end, values (N, 3) and type of the numbers after a keyword."""
    dtype, start = TYPES[found.groups()[-1]], found.end()
    if form == b"BINARY":
        rows = binary(content, dtype, count, start)
        return start, start + rows.nbytes, rows.astype(np.float64), dtype
    stop = KEYWORD.search(content, start - 1)
    end = start + len(content[start : stop.start() if stop else len(content)].rstrip())
    return start, end, numbers_of(content[start:end], 3 * count).reshape(-1, 3), dtype


def _shown(name: bytes) -> str:
    return name.decode("ascii", errors="replace")
