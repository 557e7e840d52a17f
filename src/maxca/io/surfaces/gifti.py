"""GIFTI surfaces (``.surf.gii``): one array of points, with its transforms into named spaces."""

from __future__ import annotations

import base64
import gzip
import zlib
from dataclasses import replace
from typing import Literal

import numpy as np

from maxca.io.surfaces.freesurfer import surface_to_scanner
from maxca.io.surfaces.mesh import Mesh, Unreadable, as_text, numbers_of, spliced
from maxca.io.surfaces.xml import Element, from_base64, inflated, parse
from maxca.io.voxels import HARMLESS, LIKELY_GROWTH

POINTS, VECTORS = "NIFTI_INTENT_POINTSET", "NIFTI_INTENT_VECTOR"
TYPES = {"NIFTI_TYPE_FLOAT32": "f4", "NIFTI_TYPE_FLOAT64": "f8"}
ORDERS = {"LittleEndian": "<", "BigEndian": ">"}
SCANNER = ("NIFTI_XFORM_SCANNER_ANAT", "NIFTI_XFORM_ALIGNED_ANAT")
AXES = ("X", "Y", "Z")


def read_gifti(content: bytes) -> Mesh:
    """The points of a surface.

    Coordinates are world RAS, as Workbench reads them, unless a transform into scanner space is stored, or FreeSurfer's
    volume geometry, with which they are tkregister's surface RAS.

    Raises:
        Unreadable: for no or several arrays of points, or numbers in another file.
    """
    root = parse(content)
    arrays = {kind: [a for a in root.named("DataArray") if a.attributes.get("Intent") == kind]
              for kind in (POINTS, VECTORS)}  # fmt: skip
    if root.tag != "GIFTI" or len(arrays[POINTS]) != 1:
        raise Unreadable(
            f"{len(arrays[POINTS])} arrays of points, but a GIFTI surface has one; data on a surface stay as they are"
        )
    array = arrays[POINTS][0]
    data, count = _only(array.named("Data"), "Data"), int(array.attributes["Dim0"])
    if array.attributes.get("Dim1") != "3" or array.attributes.get("Dimensionality") != "2":
        raise Unreadable("its points are not an array of three columns; export it again")
    encoding = array.attributes["Encoding"]
    order: Literal["C", "F"] = "F" if array.attributes["ArrayIndexingOrder"] == "ColumnMajorOrder" else "C"
    dtype = np.dtype(ORDERS[array.attributes["Endian"]] + TYPES[array.attributes["DataType"]])
    raw = content[data.inside : data.end]
    values = _decoded(raw, encoding, dtype, 3 * count).reshape((count, 3), order=order)

    def written(vertices: np.ndarray, normals: np.ndarray | None) -> bytes:
        flat = vertices.astype(dtype)
        return spliced(content, [(data.inside, data.end, _encoded(flat.T if order == "F" else flat, encoding))])

    frame, warnings = _frame(array, root)
    if arrays[VECTORS]:
        warnings += ("its vectors are kept as stored, not rotated",)
    return Mesh(values.astype(np.float64), written, frame=frame, warnings=warnings)


def read_packed_gifti(content: bytes) -> Mesh:
    """The points of a surface in a file compressed by gzip, as nilearn ships them; it is written like that, too.

    Raises:
        Unreadable: for a damaged stream, or one that expands to gigabytes.
    """
    limit = max(HARMLESS, LIKELY_GROWTH * len(content))
    stream = zlib.decompressobj(wbits=31)
    try:
        whole = stream.decompress(content, limit)
    except zlib.error as error:
        raise Unreadable(f"truncated or damaged: {error}; copy it again") from error
    if not stream.eof or stream.unused_data:
        raise Unreadable("truncated or damaged: its gzip stream does not end with the file; copy it again")
    mesh = read_gifti(whole)

    def written(vertices: np.ndarray, normals: np.ndarray | None) -> bytes:
        return gzip.compress(mesh.written(vertices, normals), mtime=0)

    return replace(mesh, written=written)


def _decoded(raw: bytes, encoding: str, dtype: np.dtype, count: int) -> np.ndarray:
    if encoding == "ASCII":
        return numbers_of(raw, count)
    if encoding not in ("Base64Binary", "GZipBase64Binary"):
        raise Unreadable(f"its points are stored as {encoding[:40]}, in another file; convert it with wb_command")
    numbers = from_base64(raw)
    if encoding == "GZipBase64Binary":
        numbers = inflated(numbers, count * dtype.itemsize)
    if len(numbers) != count * dtype.itemsize:
        raise Unreadable(f"{count} coordinates are declared, {len(numbers)} bytes are stored; copy it again")
    return np.frombuffer(numbers, dtype)


def _encoded(rows: np.ndarray, encoding: str) -> bytes:
    if encoding == "ASCII":
        return as_text(rows, rows.dtype)
    numbers = np.ascontiguousarray(rows).tobytes()
    return base64.b64encode(zlib.compress(numbers) if encoding == "GZipBase64Binary" else numbers)


def _frame(array: Element, root: Element) -> tuple[np.ndarray, tuple[str, ...]]:
    """From coordinates of the file to world RAS, and warnings about transforms into other spaces."""
    others: list[str] = []
    frame: np.ndarray | None = None
    placed = False  # in scanner space already
    for each in array.named("CoordinateSystemTransformMatrix"):
        source, target = (_only(each.named(tag), tag).text.strip() for tag in ("DataSpace", "TransformedSpace"))
        matrix = numbers_of(_only(each.named("MatrixData"), "MatrixData").text.encode(), 16).reshape(4, 4)
        placed = placed or source in SCANNER
        if np.array_equal(matrix, np.eye(4)):
            continue
        if target in SCANNER and source not in SCANNER and frame is None:
            frame = matrix
        else:
            others.append(target.removeprefix("NIFTI_XFORM_")[:40])
    warnings = tuple(f"its transform to {name} is kept, but belongs to the space that it left" for name in others)
    if frame is None:
        frame = np.eye(4) if placed else _volume_geometry({**_meta(root), **_meta(array)})
    if not np.isfinite(frame).all() or not np.array_equal(frame[3], (0, 0, 0, 1)) or np.linalg.det(frame[:3, :3]) == 0:
        raise Unreadable("its transform into scanner space is not an invertible affine; repair it")
    return frame, warnings


def _volume_geometry(meta: dict[str, str]) -> np.ndarray:
    """From FreeSurfer's surface RAS to scanner RAS; the identity without a volume geometry, or with one at 0."""
    centre = np.array([float(meta.get(f"VolGeomC_{axis}", 0)) for axis in "RAS"])
    names = [[f"VolGeom{axis}_{part}" for axis in AXES] for part in "RAS"]
    if not centre.any() or not all(name in meta for row in names for name in row):
        return surface_to_scanner(np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), centre)
    return surface_to_scanner(np.array([[float(meta[name]) for name in row] for row in names]), centre)


def _meta(element: Element) -> dict[str, str]:
    return {
        _only(pair.named("Name"), "Name").text.strip(): _only(pair.named("Value"), "Value").text.strip()
        for block in element.named("MetaData")
        for pair in block.named("MD")
    }


def _only(elements: list[Element], tag: str) -> Element:
    if len(elements) != 1:
        raise Unreadable(f"{len(elements)} elements {tag} where one belongs; export it again")
    return elements[0]
