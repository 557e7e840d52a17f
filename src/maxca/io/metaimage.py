"""MetaImage headers (``.mha``, ``.mhd``), strictly: https://docs.itk.org/en/latest/learn/metaio.html.

MetaIO trusts the file: it crashes on invalid numbers of dimensions and uses names as format strings, so it is not used.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from maxca.io.datafiles import named_files, sibling
from maxca.io.layout import Damaged, Fields, Layout, Piece, header_line, one_of, read_header, real_numbers, sizes
from maxca.io.stored import foreign

ONE_FILE = ".mha"
TYPES = {
    **{"CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4"},
    # MetaIO's LONG has four bytes on all platforms.
    **{"LONG": "i4", "ULONG": "u4", "LONG_LONG": "i8", "ULONG_LONG": "u8", "FLOAT": "f4", "DOUBLE": "f8"},
}
UNIT_MM = {"?": 1.0, "mm": 1.0, "um": 0.001, "cm": 10.0}
TRUTHS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
MOST_COMPONENTS = 10_000
ORTHONORMAL = 0.01  # headers may round directions to three digits
POSITION = ("Offset", "Position", "Origin")
SPACING = ("ElementSpacing", "ElementSize")
DIRECTION = ("TransformMatrix", "Rotation", "Orientation")
BYTE_ORDER = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
SCALE = {"ElementToIntensityFunctionSlope": "1", "ElementToIntensityFunctionOffset": "0"}  # and values without effect
LAST = "ElementDataFile"
KNOWN = {
    *("ObjectType", "NDims", "DimSize", "HeaderSize", "ElementType", "ElementNumberOfChannels", "BinaryData"),
    *("CompressedData", "CompressedDataSize", "DistanceUnits"),
    *(*POSITION, *SPACING, *DIRECTION, *BYTE_ORDER, *SCALE, LAST),
}


def read_metaimage(path: Path) -> Layout:
    """The validated header of a MetaImage.

    Raises:
        MaxcaError: see ``read_header``.
    """
    return read_header(path, lambda file: _layout(path, _fields(file), file))


def _fields(file: BinaryIO) -> Fields:
    """The fields up to the one that names the voxels; unknown fields are ignored."""
    fields = Fields()
    beginning = file.read(512)
    file.seek(0)
    what = foreign(beginning)
    if b"=" not in beginning or (what and "MetaImage" not in what):
        raise Damaged(f"not a MetaImage but {what or 'something else'}; copy or convert it again")
    while LAST not in fields:
        line = header_line(file)
        if line is None:
            raise Damaged(f"truncated or damaged: its header has no {LAST}; copy or convert it again")
        name, _, value = (part.strip() for part in line.partition("="))
        if name in KNOWN:
            fields.say(name, value)
    return fields


def _layout(path: Path, fields: Fields, file: BinaryIO) -> Layout:
    if fields.get("ObjectType", "Image") != "Image":
        raise Damaged(f"a MetaIO object of type {fields['ObjectType'][:30]!r}, not an image; pass the file of an image")
    count = one_of(fields.need("NDims"), range(1, 11), "NDims")
    size = sizes(fields.need("DimSize"), "DimSize", count)
    components = one_of(fields.get("ElementNumberOfChannels", "1"), range(1, MOST_COMPONENTS), "number of channels")
    if not _truth(fields, "BinaryData", True):
        raise Damaged("its voxels are text (BinaryData = False), which is not supported; write it as binary")
    axes, origin, warnings = _place(fields, count, path)
    packed = _truth(fields, "CompressedData", False)
    if any(real_numbers(fields.get(name) or usual, name, 1) != [float(usual)] for name, usual in SCALE.items()):
        warnings += (f"{path}: its header scales the values (ElementToIntensityFunction); as in ITK, this is ignored",)
    return Layout(
        size=size,
        dtype=_dtype(fields, packed),
        components=components,
        axes=axes,
        origin=origin,
        pieces=_pieces(path, fields, file, size, packed),
        packing="zlib" if packed else "raw",
        warnings=warnings,
        fields=fields,
    )


def _place(fields: Fields, count: int, path: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Axes and origin in mm; a MetaImage stores one direction per row."""
    position, directions = fields.first(*POSITION), fields.first(*DIRECTION)
    spacing = fields.get("ElementSpacing") or fields.get("ElementSize")  # the voxel size may differ from the spacing
    missing = [name for name, value in (("Offset", position), ("ElementSpacing", spacing)) if value is None]
    if position is None or spacing is None:
        raise Damaged(
            f"the header does not define the position of the image (no {' and no '.join(missing)}); convert the "
            "original again, or add the line once you know its value"
        )
    warnings: tuple[str, ...] = ()
    if directions is None:
        warnings = (
            f"{path}: the header has no TransformMatrix; its axes are assumed to run left, posterior, superior",
        )
        directions = " ".join(map(str, np.eye(count).ravel()))
    unit = fields.get("DistanceUnits", "mm") or "?"
    if unit.lower() not in UNIT_MM:
        raise Damaged(f"its DistanceUnits are {unit[:20]!r}, not one of um, mm, cm; repair the header")
    steps = np.array(real_numbers(spacing, "ElementSpacing", count))
    if (steps <= 0).any():
        raise Damaged(f"a voxel size of {spacing[:60]} mm; repair the header or convert it again")
    rows = np.reshape(real_numbers(directions, "TransformMatrix", count * count), (count, count))
    if np.abs(rows @ rows.T - np.eye(count)).max() > ORTHONORMAL:
        raise Damaged(
            f"its TransformMatrix ({directions[:60]}) does not contain orthonormal vectors; repair the header or "
            "convert it again"
        )
    scale = UNIT_MM[unit.lower()]
    return rows.T * steps * scale, np.array(real_numbers(position, "Offset", count)) * scale, warnings


def _dtype(fields: Fields, packed: bool) -> np.dtype:
    name = fields.need("ElementType")
    stored = TYPES.get(name.removeprefix("MET_").removesuffix("_ARRAY"))
    if stored is None or not name.startswith("MET_"):
        raise Damaged(f"voxels are {name[:30]}, not numbers of a known type; convert it again")
    said = fields.first(*BYTE_ORDER)
    # MetaIO always writes the byte order of compressed voxels; without it, one damaged letter would change all voxels.
    if said is None and packed and np.dtype(stored).itemsize > 1:
        raise Damaged(f"damaged: its header has no {BYTE_ORDER[0]}; copy or convert it again")
    last_first = any(_truth(fields, name, False) for name in BYTE_ORDER)
    return np.dtype(stored).newbyteorder(">" if last_first else "<")


def _pieces(path: Path, fields: Fields, file: BinaryIO, size: tuple[int, ...], packed: bool) -> tuple[Piece, ...]:
    value = fields.need(LAST)
    skipped = one_of(fields.get("HeaderSize", "0"), range(-1, 1 << 31), "HeaderSize")
    if packed and skipped == -1:
        raise Damaged("damaged: HeaderSize = -1 of compressed voxels; convert it again")
    if value.upper() == "LOCAL":
        return (Piece(path, -1 if skipped == -1 else file.tell()),)
    if path.suffix.lower() == ONE_FILE:
        raise Damaged(
            f"a .mha file contains its voxels, but this one refers to {value[:60]!r}; rename the header to "
            ".mhd if that is intended"
        )
    names = named_files(value, iter(partial(header_line, file), None), size)
    if packed and len(names) > 1:
        raise Damaged("several files of compressed voxels, which are not supported; write one with ITK or 3D Slicer")
    return tuple(Piece(sibling(path, name), skipped) for name in names)


def _truth(fields: Fields, name: str, usual: bool) -> bool:
    said = fields.get(name) or str(usual)
    if said.lower() not in TRUTHS:
        raise Damaged(f"damaged: its {name} is {said[:30]!r}, neither True nor False; copy or convert it again")
    return TRUTHS[said.lower()]
