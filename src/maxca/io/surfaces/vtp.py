"""VTK's XML poly data (``.vtp``): numbers as text, base64 or appended bytes, compressed by zlib or not."""

from __future__ import annotations

import base64
import math
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from maxca.io.surfaces.mesh import Mesh, Unreadable, as_text, numbers_of, spliced
from maxca.io.surfaces.xml import Element, from_base64, inflated, parse

TYPES = {"Float32": "f4", "Float64": "f8"}
ORDERS = {"LittleEndian": "<", "BigEndian": ">"}
COUNTS = {"UInt32": "u4", "UInt64": "u8"}
APPENDED = re.compile(rb"<AppendedData\s+encoding\s*=\s*[\"'](raw|base64)[\"']\s*>\s*_")
RANGES = re.compile(rb"\s*<InformationKey name=\"L2_NORM(?:_FINITE)?_RANGE\".*?</InformationKey>", re.DOTALL)
LONGEST_NAME = 64  # bytes of the name of a coordinate system
BLOCK = 1 << 15  # bytes of a compressed block, as VTK writes them


@dataclass(frozen=True, eq=False)
class _File:
    """A file and how its numbers are stored.

    Args:
        content: the file.
        order: byte order.
        count: type of the counts before numbers.
        packed: whether they are compressed.
        appended: start of the appended data; its encoding.
    """

    content: bytes
    order: str
    count: np.dtype
    packed: bool
    appended: tuple[int, bytes] | None


@dataclass(frozen=True, eq=False)
class _Array:
    """Numbers in a file: their element, their place, their values (N, 3) and how others are encoded."""

    element: Element
    start: int
    end: int
    values: np.ndarray
    encoded: Callable[[np.ndarray], bytes]


def read_vtp(content: bytes) -> tuple[Mesh, bytes]:
    """The vertices and their normals, and the comment in which 3D Slicer declares the coordinate system.

    Raises:
        Unreadable: for other XML, several pieces, or a compressor other than zlib.
    """
    found = APPENDED.search(content)
    root = parse(content[: found.end()], b"</AppendedData></VTKFile>") if found else parse(content)
    if root.tag != "VTKFile" or root.attributes.get("type") != "PolyData":
        raise Unreadable("not VTK poly data; save it as .vtp again")
    compressor = root.attributes.get("compressor", "")
    if compressor not in ("", "vtkZLibDataCompressor"):
        raise Unreadable(f"compressed by {compressor[:40]}, which is not supported; save it with zlib or uncompressed")
    order = ORDERS[root.attributes["byte_order"]]
    counts = np.dtype(order + COUNTS[root.attributes.get("header_type", "UInt32")])
    file = _File(content, order, counts, bool(compressor), (found.end(), found[1]) if found else None)
    pieces = [each for each in root.walk() if each.tag == "Piece"]
    if len(pieces) != 1:
        raise Unreadable(f"{len(pieces)} pieces, but one is expected; append them in VTK first")
    points = [each for block in pieces[0].named("Points") for each in block.named("DataArray")]
    if len(points) != 1:
        raise Unreadable("it has no points; save it again")
    count = int(pieces[0].attributes["NumberOfPoints"])
    elements = [*points, *_normals(pieces[0])]
    arrays = [_array(file, each, count) for each in elements]

    def written(vertices: np.ndarray, normals: np.ndarray | None) -> bytes:
        new = [vertices] if normals is None else [vertices, normals]
        return spliced(content, _edits(file, root, list(zip(arrays, new, strict=True))))

    values = [each.values for each in arrays]
    return Mesh(values[0], written, values[1] if values[1:] else None, warnings=_kept(pieces[0])), _declaration(
        file, root
    )


def _normals(piece: Element) -> list[Element]:
    for block in piece.named("PointData"):
        if name := block.attributes.get("Normals"):
            return [each for each in block.named("DataArray") if each.attributes.get("Name") == name][:1]
    return []


def _kept(piece: Element) -> tuple[str, ...]:
    """A warning for vectors and tensors, which would have to be rotated."""
    names = [
        block.attributes[kind][:40]
        for block in (*piece.named("PointData"), *piece.named("CellData"))
        for kind in ("Vectors", "Tensors")
        if kind in block.attributes
    ]
    return (f"{' and '.join(names)}: vectors are kept as stored, not rotated",) if names else ()


def _declaration(file: _File, root: Element) -> bytes:
    """``SPACE=…`` from the field data, where text is the numbers of its characters, or bytes."""
    for each in root.walk():
        if each.tag != "Array" or each.attributes.get("Name") != "SPACE":
            continue
        if each.attributes.get("format") == "ascii":
            return b"SPACE=" + bytes(int(word) for word in each.text.split()[:LONGEST_NAME]).strip(b"\0")
        start, text = _stored_at(file, each)
        size = _claimed(file, start, text)
        if size <= LONGEST_NAME:
            return b"SPACE=" + _numbers(file, start, size, text)[0].strip(b"\0")
    return b""


def _array(file: _File, element: Element, count: int) -> _Array:
    """The numbers of an element.

    Raises:
        Unreadable: for numbers that are not three floats per point.
    """
    about = element.attributes
    if about.get("type") not in TYPES or about.get("NumberOfComponents") != "3":
        raise Unreadable(f"{about.get('Name', 'points')[:40]} are not three floats each; save it again")
    dtype = np.dtype(file.order + TYPES[about["type"]])
    if about.get("format") == "ascii":
        inner = element.children[0].start if element.children else element.end
        start, end = element.inside, inner
        values = numbers_of(file.content[start:end], 3 * count)
        return _Array(element, start, end, values.reshape(-1, 3), lambda rows: b"\n" + as_text(rows, dtype) + b"\n")
    size = 3 * count * dtype.itemsize
    start, text = _stored_at(file, element)
    numbers, end = _numbers(file, start, size, text)
    values = np.frombuffer(numbers, dtype).reshape(-1, 3).astype(np.float64)

    def encoded(rows: np.ndarray) -> bytes:
        new = rows.astype(dtype).tobytes()
        parts = _deflated(new, file.count) if file.packed else [np.array(size, file.count).tobytes() + new]
        return b"".join(base64.b64encode(part) if text else part for part in parts)

    return _Array(element, start, end, values, encoded)


def _stored_at(file: _File, element: Element) -> tuple[int, bool]:
    """Start of the numbers of an element, and whether they are base64."""
    if element.attributes.get("format") == "appended":
        if file.appended is None:
            raise Unreadable("its numbers are appended, but there is no appended data; copy it again")
        return file.appended[0] + int(element.attributes["offset"]), file.appended[1] == b"base64"
    start = element.inside
    while file.content[start : start + 1].isspace():
        start += 1
    return start, True


def _numbers(file: _File, start: int, size: int, text: bool) -> tuple[bytes, int]:
    """Decoded bytes of known size, and the end of what is stored of them."""
    if (claimed := _claimed(file, start, text)) != size:
        raise Unreadable(f"{size} bytes are declared, {claimed} are stored; copy or save it again")
    width = file.count.itemsize
    if not file.packed:
        stored, end = _taken(file, start, width + size, text)
        return stored[width:], end
    blocks, each, last = np.frombuffer(_taken(file, start, 3 * width, text)[0], file.count).tolist()
    header, data = _taken(file, start, (3 + blocks) * width, text)
    sizes = np.frombuffer(header, file.count)[3:].tolist()
    stored, end = _taken(file, data, sum(sizes), text)
    parts, at = [], 0
    for number, packed in enumerate(sizes):
        parts.append(inflated(stored[at : at + packed], last if last and number == blocks - 1 else each))
        at += packed
    return b"".join(parts), end


def _claimed(file: _File, start: int, text: bool) -> int:
    """Size of decoded bytes: the number before them, or the sum of compressed blocks, of which the last may be smaller.

    Compressed numbers begin with the number of blocks, their size, that of a smaller last one or 0, and the compressed
    size of each.
    """
    numbers = 3 if file.packed else 1
    stored = _taken(file, start, numbers * file.count.itemsize, text)[0]
    counts: list[int] = np.frombuffer(stored, file.count).tolist()
    return (counts[0] - (counts[2] > 0)) * counts[1] + counts[2] if file.packed else counts[0]


def _taken(file: _File, start: int, size: int, text: bool) -> tuple[bytes, int]:
    """Stored bytes, decoded from base64, and their end."""
    length = 4 * math.ceil(size / 3) if text else size
    stored = file.content[start : start + length]
    if len(stored) < length:
        raise Unreadable("truncated: its numbers end too early; copy it again")
    return (from_base64(stored) if text else stored)[:size], start + length


def _deflated(numbers: bytes, count: np.dtype) -> list[bytes]:
    """The header and the blocks of compressed numbers."""
    blocks = [zlib.compress(numbers[at : at + BLOCK]) for at in range(0, len(numbers), BLOCK)]
    header = [len(blocks), BLOCK, len(numbers) % BLOCK, *map(len, blocks)]
    return [np.array(header, count).tobytes(), b"".join(blocks)]


def _edits(file: _File, root: Element, new: list[tuple[_Array, np.ndarray]]) -> list[tuple[int, int, bytes]]:
    """The changes of a file: numbers, the ranges stored with them, and the offsets of the appended data after them."""
    edits, tags, moves = [], dict[Element, bytes](), list[tuple[int, int]]()
    for array, rows in new:
        content, element = array.encoded(rows), array.element
        edits.append((array.start, array.end, content))
        edits += [
            (found.start(), found.end(), b"") for found in RANGES.finditer(file.content, element.inside, element.end)
        ]
        tags[element] = _ranged(file.content[element.start : element.inside], rows)
        if element.attributes.get("format") == "appended":
            moves.append((array.start, len(content) - (array.end - array.start)))
    for each in root.walk():
        if moves and file.appended and each.attributes.get("format") == "appended":
            offset = int(each.attributes["offset"])
            offset += sum(by for start, by in moves if start < file.appended[0] + offset)
            tag = tags.get(each, file.content[each.start : each.inside])
            tags[each] = re.sub(rb'\boffset="\d+"', b'offset="%d"' % offset, tag)
    return [*edits, *((each.start, each.inside, tag) for each, tag in tags.items())]


def _ranged(tag: bytes, rows: np.ndarray) -> bytes:
    """A start tag with the range of the lengths of other vectors."""
    lengths = np.linalg.norm(rows, axis=1) if len(rows) else np.zeros(1)
    for name, value in ((b"RangeMin", lengths.min()), (b"RangeMax", lengths.max())):
        tag = re.sub(rb"\b" + name + rb'="[^"]*"', name + b'="%.17g"' % value, tag)
    return tag
