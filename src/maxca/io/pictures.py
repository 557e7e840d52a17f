"""PNG and TIFF: pictures as 2-D images, their header checked before ITK decodes them in a process with limits."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maxca.errors import MaxcaError
from maxca.geometry import Grid
from maxca.io.itk import grid_from_patient
from maxca.io.native import decode
from maxca.io.regular import read_bytes
from maxca.io.voxels import DEFLATE_LIMIT, check_memory, check_size

SUFFIXES = (".png", ".tif", ".tiff")
PNG = b"\x89PNG\r\n\x1a\n"
TIFF = {b"II*\0": "<", b"MM\0*": ">"}
BIG_TIFF = (b"II+\0", b"MM\0+")
LIBRARIES = {True: "PNGImageIO", False: "TIFFImageIO"}
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of red, green and blue: ITU-R BT.709
INDEXED = "its colours are numbers of a palette; save it in grey values"
# TIFF's tags and the sizes of its types; https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf
WIDTH, HEIGHT, BITS, PHOTOMETRIC, ORIENTATION, SAMPLES, X, Y, UNIT = 256, 257, 258, 262, 274, 277, 282, 283, 296
TYPES = {1: "B", 3: "H", 4: "I", 5: "II"}
UNIT_MM = {2: 25.4, 3: 10.0}
PALETTE = 3
MOST_TAGS = 4096


class Picture(NamedTuple):
    """What a picture holds: pixels (I, J, 1), their grid, and warnings, one line each."""

    data: np.ndarray
    grid: Grid
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Header:
    """Size in pixels, numbers per pixel, bits of each, and mm between pixels if the file says so."""

    size: tuple[int, int]
    samples: int
    bits: int
    spacing: tuple[float, float] | None


class _Unfit(ValueError):
    """Raised with the reason for which a picture cannot be used."""


def read_picture(path: Path) -> Picture:
    """A picture as a 2-D image whose first pixel is at the origin; colours become their luminance, with a warning.

    The distance of the pixels is that of the resolution in the file, otherwise 1 mm, with a warning.

    Raises:
        MaxcaError: for a file that is damaged, or has a palette or several pages.
    """
    content = read_bytes(path)
    if content[:4] in BIG_TIFF:
        raise MaxcaError(f"{path}: a BigTIFF file, which is not supported; save it as TIFF or PNG")
    is_png = content.startswith(PNG)
    if not is_png and content[:4] not in TIFF:
        raise MaxcaError(f"{path}: neither PNG nor TIFF, or truncated; export the picture again")
    try:
        header = _png(content) if is_png else _tiff(content, TIFF[content[:4]])
    except _Unfit as error:
        raise MaxcaError(f"{path}: {error}") from error
    except (struct.error, ValueError, KeyError, IndexError, ZeroDivisionError) as error:
        raise MaxcaError(f"{path}: a picture that is damaged, or of another kind; export it again") from error
    count = header.size[0] * header.size[1] * header.samples
    check_size(path, count * max(1, header.bits // 8), len(content), DEFLATE_LIMIT, packed=True)
    check_memory(path, 16 * count)
    try:
        values = decode([path], 8 * count, LIBRARIES[is_png])[0]
        data, warnings = _grey(values.reshape(*header.size[::-1], -1), header)
    except ValueError as error:
        raise MaxcaError(f"{path}: {error}; export it again") from error
    spacing = header.spacing or (1.0, 1.0)
    if header.spacing is None:
        warnings += ("does not define the size of its pixels; 1 mm is assumed",)
    try:
        grid = grid_from_patient(header.size, spacing, (0.0, 0.0), (1.0, 0, 0, 1.0))
    except ValueError as error:
        raise MaxcaError(f"{path}: {error}; export it again") from error
    return Picture(data.T[:, :, None], grid, tuple(f"{path}: {line}" for line in warnings))


def _grey(values: np.ndarray, header: _Header) -> tuple[np.ndarray, tuple[str, ...]]:
    """(J, I) one value per pixel, in the type of the picture."""
    if header.samples == 1:
        return values[..., 0], ()
    if values.shape[-1] < 3:
        raise ValueError("grey values with transparency, which are not supported; save it without transparency")
    colours = values[..., :3]
    warnings: tuple[str, ...] = ()
    if values.shape[-1] > 3 and np.ptp(values[..., 3]) > 0:
        warnings += ("its transparency is ignored",)
    if (colours == colours[..., :1]).all():
        return colours[..., 0], warnings
    grey = colours @ LUMINANCE
    grey = np.rint(grey) if values.dtype.kind in "iu" else grey
    return grey.astype(values.dtype), ("its colours are replaced by their luminance", *warnings)


def _png(content: bytes) -> _Header:
    """The header of a PNG file: IHDR, and pHYs with pixels per metre."""
    width, height, bits, colour = struct.unpack(">IIBB", content[16:26])
    if colour == PALETTE:
        raise _Unfit(INDEXED)
    at = len(PNG)
    spacing: tuple[float, float] | None = None
    while (kind := content[at + 4 : at + 8]) not in (b"IDAT", b""):
        (length,) = struct.unpack(">I", content[at : at + 4])
        if kind == b"pHYs":
            x, y, unit = struct.unpack(">IIB", content[at + 8 : at + 17])
            spacing = (1000 / x, 1000 / y) if unit == 1 and x and y else None
        at += 12 + length
    return _Header((width, height), {0: 1, 2: 3, 4: 2, 6: 4}[colour], bits, spacing)


def _tiff(content: bytes, order: str) -> _Header:
    """The header of a TIFF file of one page."""
    (at,) = struct.unpack(f"{order}I", content[4:8])
    (count,) = struct.unpack_from(f"{order}H", content, at)
    if count > MOST_TAGS:
        raise ValueError
    tags: dict[int, list[int]] = {}
    for number in range(count):
        place = at + 2 + 12 * number
        tag, kind, values = struct.unpack_from(f"{order}HHI", content, place)
        if kind in TYPES and values:
            if struct.calcsize(f"={TYPES[kind]}") * values > 4:
                (place,) = struct.unpack_from(f"{order}I", content, place + 8)
            else:
                place += 8
            tags[tag] = list(struct.unpack_from(f"{order}{TYPES[kind]}", content, place))
    (following,) = struct.unpack_from(f"{order}I", content, at + 2 + 12 * count)
    if following:
        raise _Unfit("has several pages, but one is expected; save the one that you need")
    if tags.get(PHOTOMETRIC) == [PALETTE]:
        raise _Unfit(INDEXED)
    if tags.get(ORIENTATION, [1]) != [1]:
        raise _Unfit("is to be shown rotated or mirrored (its orientation tag); save it upright")
    spacing: tuple[float, float] | None = None
    unit = UNIT_MM.get(tags.get(UNIT, [2])[0])
    if unit and all(tag in tags and all(tags[tag]) for tag in (X, Y)):
        spacing = (unit * tags[X][1] / tags[X][0], unit * tags[Y][1] / tags[Y][0])
    size = tags[WIDTH][0], tags[HEIGHT][0]
    return _Header(size, tags.get(SAMPLES, [1])[0], tags.get(BITS, [1])[0], spacing)
