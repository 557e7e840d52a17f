"""NRRD headers (``.nrrd``, ``.nhdr``), strictly: https://teem.sourceforge.net/nrrd/format.html.

Teem's reader in ITK crashes on text encodings and long names, reads files at any path, and ignores units.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from maxca.io.datafiles import named_files, sibling
from maxca.io.layout import (
    MOST_AXES,
    Damaged,
    Fields,
    Layout,
    Piece,
    header_line,
    one_of,
    read_header,
    real_numbers,
    sizes,
)
from maxca.io.stored import foreign

ONE_FILE = ".nrrd"
MAGIC = re.compile(r"NRRD000[1-5]")
# Field names without spaces, because some may be written either way.
PLACES = {"space", "spacedimension", "spaceunits", "spaceorigin", "spacedirections", "measurementframe"}
SILENT = {
    *("content", "number", "min", "max", "oldmin", "oldmax", "sampleunits", "spacings", "thicknesses", "axismins"),
    *("axismaxs", "centers", "centerings", "labels", "kinds", "blocksize"),
}
STORED = {"dimension", "type", "sizes", "encoding", "endian", "datafile", "lineskip", "byteskip", "units"}
TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
DTYPES = {name: stored for stored, names in TYPES.items() for name in names}
PACKINGS = {"raw": "raw", "gz": "gzip", "gzip": "gzip"}
TO_LPS = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1.0, -1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1.0, -1.0, 1.0)),
    **dict.fromkeys(("left-posterior-superior", "lps"), (1.0, 1.0, 1.0)),
}
TIMED = {f"{name}-time" if "-" in name else f"{name}t": signs for name, signs in TO_LPS.items()}
ELSEWHERE = ("scanner-xyz", "scanner-xyz-time", "3d-right-handed", "3d-left-handed")
UNIT_MM = {
    **dict.fromkeys(("", "mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1000.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 10.0),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 1e-6),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns"), 0.001),
    **dict.fromkeys(("micrometer", "micrometers", "micrometre", "micrometres"), 0.001),
}
VECTORS = re.compile(r"(\s*(none|\([^()]*\)))+\s*")
QUOTED = re.compile(r'(\s*"[^"]*")+\s*')


def read_nrrd(path: Path) -> Layout:
    """The validated header of a NRRD file.

    Raises:
        MaxcaError: see ``read_header``.
    """
    return read_header(path, lambda file: _layout(path, _fields(file), file))


def _fields(file: BinaryIO) -> Fields:
    fields = Fields()
    beginning = file.read(512)
    file.seek(0)
    if not MAGIC.fullmatch(beginning[:8].decode("latin-1")):
        what = "another version of it, or damaged" if beginning[:4] == b"NRRD" else foreign(beginning)
        raise Damaged(f"not a NRRD file but {what or 'something else'}; copy or convert it again")
    header_line(file)
    while line := header_line(file):
        name, colon, value = line.partition(":")
        if line.startswith("#") or value.startswith("="):
            continue
        key = name.lower().replace(" ", "")
        if not colon or key not in PLACES | SILENT | STORED:
            raise Damaged(f"damaged: a line of its header is {line[:40]!r}; copy or convert it again")
        fields.say(key, value.strip())
        if key == "datafile" and value.split()[:1] == ["LIST"]:
            break
    return fields


def _layout(path: Path, fields: Fields, file: BinaryIO) -> Layout:
    count = one_of(fields.need("dimension"), range(1, MOST_AXES + 1), "dimension")
    size = sizes(fields.need("sizes"), "sizes", count)
    encoding = fields.need("encoding").lower()
    if encoding not in PACKINGS:
        raise Damaged(
            f"its encoding is {encoding[:30]!r}, which is not supported; write it as raw or gzip (unu save -e gzip)"
        )
    axes, origin, spatial = _place(fields, count)
    others = [n for n in range(count) if n not in spatial and size[n] > 1]
    if others not in ([], [0]):
        raise Damaged(f"{count}-D, sizes {size}, with non-spatial axes; extract one volume first")
    return Layout(
        size=tuple(size[n] for n in spatial),
        dtype=_dtype(fields),
        components=size[0] if others else 1,
        axes=axes,
        origin=origin,
        pieces=_pieces(path, fields, file, size),
        packing=PACKINGS[encoding],
        fields=fields,
    )


def _place(fields: Fields, count: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Axes and origin in mm, and the spatial axes of the file."""
    origin, directions = fields.get("spaceorigin"), fields.get("spacedirections")
    space = (fields.first("space") or "").lower()
    missing = [name for name, value in (("space origin", origin), ("space directions", directions)) if not value]
    if not space and not fields.get("spacedimension"):
        missing = ["space", *missing]
    if missing or origin is None or directions is None:
        raise Damaged(
            f"the header does not define the position of the image (no {' and no '.join(missing)}); convert the "
            "original again, or add the line once you know its value"
        )
    signs = _signs(space, fields)
    if not VECTORS.fullmatch(directions):
        raise Damaged(f"damaged: its space directions are {directions[:60]!r}; repair the header or convert it again")
    vectors = [_vector(found, len(signs)) for found in re.findall(r"none|\([^()]*\)", directions)]
    spatial = [n for n, vector in enumerate(vectors) if vector is not None]
    if len(vectors) != count or len(spatial) != len(signs):
        raise Damaged(
            f"{len(spatial)} of its {count} axes have a direction in a space of {len(signs)} dimensions; add the axis "
            "that is missing, or convert it again"
        )
    start = _vector(origin, len(signs))
    if start is None:
        raise Damaged(f"damaged: its space origin is {origin[:60]!r}; repair the header or convert it again")
    scale = signs * _units(fields, len(signs))
    axes = np.array([vector for vector in vectors if vector is not None]).T
    return axes * scale[:, None], start * scale, spatial


def _signs(space: str, fields: Fields) -> np.ndarray:
    """Factors from a space to LPS, one per dimension."""
    if space in TO_LPS:
        return np.array(TO_LPS[space])
    if space in TIMED:
        return np.array([*TIMED[space], 1.0])
    if space:
        known = "its axes are not anatomical" if space.removesuffix("-time") in ELSEWHERE else "not known"
        raise Damaged(
            f"its space is {space[:40]!r}, {known}; write it in left-posterior-superior, right-anterior-superior or "
            "left-anterior-superior"
        )
    dimension = one_of(fields.need("spacedimension"), range(1, MOST_AXES + 1), "space dimension")
    if dimension == 3:
        raise Damaged(
            "its header has a space dimension but no space, so left and right are undefined; add the line "
            "'space: left-posterior-superior' or the correct one"
        )
    return np.ones(dimension)  # written by ITK for images of two and four dimensions, in LPS


def _vector(text: str, count: int) -> np.ndarray | None:
    if text == "none":
        return None
    text = text.strip()
    if not (text.startswith("(") and text.endswith(")")):
        raise Damaged(f"damaged: a vector of its space is {text[:60]!r}; repair the header or convert it again")
    return np.array(real_numbers(text[1:-1].replace(",", " "), "vector of space", count))


def _units(fields: Fields, count: int) -> np.ndarray:
    """Millimetres per unit of a space, one per dimension; mm without units, as in NIfTI."""
    said = fields.get("spaceunits")
    if not said:
        if any(UNIT_MM.get(word.strip('"').lower(), 1.0) != 1.0 for word in fields.get("units", "").split()):
            raise Damaged(f"its units are {fields['units'][:40]}, its space has none; give them as space units")
        return np.ones(count)
    names = [_utf8(name).strip() for name in re.findall(r'"([^"]*)"', said)]
    if not QUOTED.fullmatch(said) or len(names) != count:
        raise Damaged(f"damaged: its space units are {said[:60]!r} in {count} dimensions; repair the header")
    spatial = names[:3]
    strange = [name for name in spatial if name.lower() not in UNIT_MM]
    if strange:
        raise Damaged(f'its space units are {said[:60]!r}, and {strange[0][:20]!r} is unknown; write it in "mm"')
    if len({UNIT_MM[name.lower()] for name in spatial}) > 1:
        raise Damaged(f"its space units differ ({said[:60]}), so oblique directions have no length; write it in mm")
    return np.array([UNIT_MM[name.lower()] for name in spatial] + [1.0] * (count - len(spatial)))


def _utf8(text: str) -> str:
    """Decode a text that was decoded as Latin-1 but is UTF-8, such as a µ."""
    return text.encode("latin-1").decode("utf-8", errors="replace") if "Â" in text or "Î" in text else text


def _dtype(fields: Fields) -> np.dtype:
    name = " ".join(fields.need("type").lower().split())
    if name not in DTYPES:
        raise Damaged(f"voxels are {name[:30]!r}, not numbers of a known type; convert it again")
    dtype = np.dtype(DTYPES[name])
    if dtype.itemsize == 1:
        return dtype
    endian = fields.need("endian").lower()
    if endian not in ("little", "big"):
        raise Damaged(f"damaged: its endian is {endian[:20]!r}, neither little nor big; copy or convert it again")
    return dtype.newbyteorder("<" if endian == "little" else ">")


def _pieces(path: Path, fields: Fields, file: BinaryIO, size: tuple[int, ...]) -> tuple[Piece, ...]:
    packed = PACKINGS[fields["encoding"].lower()] != "raw"
    lines = one_of(fields.get("lineskip", "0"), range(1 << 20), "line skip")
    skipped = one_of(fields.get("byteskip", "0"), range(-1, 1 << 31), "byte skip")
    if packed and skipped == -1:
        raise Damaged("damaged: byte skip -1 of compressed voxels; convert it again")
    start, inner = (0, skipped) if packed else (skipped, 0)
    value = fields.get("datafile")
    if value is None:
        return (Piece(path, start if start == -1 else file.tell() + start, lines, inner),)
    if path.suffix.lower() == ONE_FILE:
        raise Damaged(
            f"a .nrrd file contains its voxels, but this one refers to {value[:60]!r}; rename the header to "
            ".nhdr if that is intended"
        )
    names = named_files(value, iter(partial(header_line, file), None), size)
    return tuple(Piece(sibling(path, name), start, lines, inner) for name in names)
