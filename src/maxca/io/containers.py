"""Voxels of MetaImage and NRRD files, read without ITK and with all checksums verified."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from maxca.errors import MaxcaError
from maxca.geometry import Grid
from maxca.io.itk import grid_from_patient
from maxca.io.layout import Layout, Piece
from maxca.io.metaimage import read_metaimage
from maxca.io.nrrd import read_nrrd
from maxca.io.stored import BLOCK, GZIP
from maxca.io.voxels import DEFLATE_LIMIT, amount, check_kind, check_size

READERS = {".mha": read_metaimage, ".mhd": read_metaimage, ".nrrd": read_nrrd, ".nhdr": read_nrrd}
LONGEST_LINE = 1 << 16


@dataclass(frozen=True, eq=False)
class Container:
    """The content of a MetaImage or NRRD file.

    Args:
        data: (I, J, K), as stored; (C, I, J, K) where a voxel holds several numbers.
        grid: voxel to world, RAS+ mm.
        layout: the content of the header.
    """

    data: np.ndarray
    grid: Grid
    layout: Layout

    @property
    def dimension(self) -> int:
        """2 or 3, as in the file; 3 for a single volume on a fourth axis."""
        return min(3, len(self.layout.size))


def read_layout(path: Path) -> Layout:
    """The header of a MetaImage or NRRD file, by its suffix.

    Raises:
        MaxcaError: for a header that is damaged or refers to files outside its folder.
    """
    return READERS[path.suffix.lower()](path)


def read_container(path: Path, vectors: bool = False) -> Container:
    """Read a MetaImage or NRRD file of two or three dimensions; its header is checked before its voxels.

    Args:
        path: the file.
        vectors: whether a voxel may hold several numbers.

    Raises:
        MaxcaError: for a file that is damaged, too large, or of another kind.
    """
    layout = read_layout(path)
    kind = f"vectors of {layout.dtype.name}" if layout.components > 1 else layout.dtype.name
    size = layout.size[:3] if len(layout.size) == 4 and layout.size[3] == 1 else layout.size
    check_kind(path, size, 1 if vectors else layout.components, kind)
    n = len(size)
    try:
        grid = grid_from_patient(size, [1.0] * n, layout.origin[:n].tolist(), layout.axes[:n, :n].ravel().tolist())
    except ValueError as error:
        raise MaxcaError(f"{path}: {error}; repair the header or convert the image again") from error
    shape = (layout.components, *grid.shape) if layout.components > 1 else grid.shape
    data = np.frombuffer(_content(layout, path), dtype=layout.dtype).reshape(shape, order="F")
    return Container(data, grid, layout)


def _content(layout: Layout, path: Path) -> np.ndarray:
    """The bytes of all voxels, in the order of the file.

    Raises:
        MaxcaError: for files that hold less, or more, than the header claims, or whose checksums are wrong.
    """
    claimed = math.prod(layout.size) * layout.components * layout.dtype.itemsize
    packed = layout.packing != "raw"
    try:
        held = sum(piece.path.stat().st_size for piece in layout.pieces)
        check_size(path, claimed, held, DEFLATE_LIMIT if packed else 1, packed)
        # Memory is allocated as it is filled, so that a false claim costs nothing.
        content = np.empty(claimed, dtype=np.uint8)
        parts = np.split(content, len(layout.pieces))
        for piece, part in zip(layout.pieces, parts, strict=True):
            with piece.path.open("rb") as file:
                _skip_lines(file, piece)
                (_unpack if packed else _copy)(file, piece, part.data, layout.packing)
    except _Unfit as error:
        raise MaxcaError(f"{path}: truncated or damaged: {error}; copy or convert it again") from error
    except (zlib.error, OSError, EOFError) as error:
        raise MaxcaError(
            f"{path}: truncated or damaged: its voxels cannot be read; copy or convert it again"
        ) from error
    except MemoryError as error:
        raise MaxcaError(f"{path}: needs {amount(claimed)} of memory; crop or downsample it") from error
    return content


class _Unfit(ValueError):
    """Raised when the content does not match the header."""


def _skip_lines(file: BinaryIO, piece: Piece) -> None:
    for _ in range(piece.lines):
        if not file.readline(LONGEST_LINE).endswith(b"\n"):
            raise _Unfit(f"fewer lines before its voxels than the {piece.lines} of the header")


def _copy(file: BinaryIO, piece: Piece, into: memoryview, _: str) -> None:
    """Fill ``into`` with the rest of a file, which must have exactly this size."""
    size = piece.path.stat().st_size
    start = size - len(into) if piece.start == -1 else file.tell() + piece.start
    if start < 0 or size - start != len(into):
        held, claimed = amount(max(0, size - start)), amount(len(into))
        raise _Unfit(f"the header claims {claimed} ({len(into)}) of voxels, the file holds {held} ({size - start})")
    file.seek(start)
    if file.readinto(into) != len(into):  # type: ignore[attr-defined]
        raise EOFError


def _unpack(file: BinaryIO, piece: Piece, into: memoryview, packing: str) -> None:
    """Fill ``into`` with the content of deflate streams, which must have exactly this size, to the end of the file."""
    file.seek(file.tell() + piece.start)
    at, skip = 0, piece.inner
    for block in _inflated(file, packing):
        rest = block[min(skip, len(block)) :]
        skip -= len(block) - len(rest)
        if at + len(rest) > len(into):
            raise _Unfit(f"more voxels than the {len(into)} bytes of the header")
        into[at : at + len(rest)] = rest
        at += len(rest)
    if at != len(into):
        raise _Unfit(f"the header claims {len(into)} bytes of voxels, {at} are stored")


def _inflated(file: BinaryIO, packing: str) -> Iterator[bytes]:
    """The content of a zlib or gzip stream in blocks; Adler-32 or CRC-32 and the length are verified at its end.

    MetaIO accepts both kinds; a gzip stream may have several members. Data after the last one is an error.
    """
    stream, ended = zlib.decompressobj(wbits=47), False
    source = b""
    while True:
        source = source or file.read(BLOCK)
        if not source:
            break
        if ended:
            if packing != "gzip" or not source.startswith(GZIP):
                raise _Unfit("there is data after its voxels")
            stream, ended = zlib.decompressobj(wbits=47), False
        if block := stream.decompress(source, BLOCK):
            yield block
        ended, source = stream.eof, stream.unused_data or stream.unconsumed_tail
    while not ended and (block := stream.decompress(b"", BLOCK)):
        yield block
    if not (ended or stream.eof):
        raise _Unfit("its compressed voxels end too early")
