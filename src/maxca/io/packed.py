"""Writers of MHA and NRRD without ITK, which support paths of any bytes and detect a full disk."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from maxca.geometry import Grid
from maxca.io.atomic import atomic_path, full_suffix
from maxca.io.itk import FLIP, is_plane, refuse_shear
from maxca.io.metaimage import TYPES
from maxca.io.nrrd import TYPES as NRRD_TYPES
from maxca.io.stored import BLOCK, check_written

LEVEL = 2  # as MetaIO: for a brain of 256³ a third of the time of level 6, and a tenth larger
META_TYPES = {stored: name for name, stored in TYPES.items() if name not in ("LONG", "ULONG")}


def write_packed(data: np.ndarray, grid: Grid, path: Path, dimension: int = 3) -> None:
    """Write a compressed ``.mha`` or ``.nrrd`` file.

    Args:
        data: (I, J, K), integers or floats of at most 64 bits.
        grid: its grid.
        path: the output file.
        dimension: 2 for a 2-D image; a slice oblique in world space is written as a 3-D one.

    Raises:
        MaxcaError: for a sheared grid, which ITK does not support, or a path that cannot be written.
    """
    refuse_shear(grid, path)
    n = 2 if dimension == 2 and is_plane(grid) else 3
    little = data.astype(data.dtype.newbyteorder("<"), copy=False)
    meta = full_suffix(path) == ".mha"
    voxels = _deflated(little, 15 if meta else 31)
    lines = _metaimage(little, grid, n, sum(map(len, voxels))) if meta else _nrrd(little, grid, n)
    pieces = ["\n".join([*lines, ""]).encode("ascii"), *voxels]
    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            file.writelines(pieces)
        check_written(temporary, sum(map(len, pieces)), packed=False)


def _metaimage(data: np.ndarray, grid: Grid, n: int, packed: int) -> Iterable[str]:
    directions = (grid.direction * FLIP[:, None])[:n, :n]
    return (
        "ObjectType = Image",
        f"NDims = {n}",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = True",
        f"CompressedDataSize = {packed}",  # without it, ITK reads uninitialised memory
        f"TransformMatrix = {_words(directions.T.ravel())}",
        f"Offset = {_words((grid.origin * FLIP)[:n])}",
        f"CenterOfRotation = {_words(np.zeros(n))}",
        f"ElementSpacing = {_words(grid.spacing[:n])}",
        f"DimSize = {' '.join(map(str, data.shape[:n]))}",
        f"ElementType = MET_{META_TYPES[data.dtype.str[1:]]}",
        "ElementDataFile = LOCAL",
    )


def _nrrd(data: np.ndarray, grid: Grid, n: int) -> Iterable[str]:
    axes = (grid.affine[:3, :3] * FLIP[:, None])[:n, :n]
    return (
        "NRRD0004",
        f"type: {NRRD_TYPES[data.dtype.str[1:]][0]}",
        f"dimension: {n}",
        "space: left-posterior-superior" if n == 3 else "space dimension: 2",
        f"sizes: {' '.join(map(str, data.shape[:n]))}",
        f"space directions: {' '.join(_vector(axis) for axis in axes.T)}",
        f"kinds: {' '.join(['domain'] * n)}",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector((grid.origin * FLIP)[:n])}",
        "",
    )


def _words(numbers: Iterable[float]) -> str:
    return " ".join(repr(float(number) + 0.0) for number in numbers)  # no negative zero


def _vector(numbers: Iterable[float]) -> str:
    return f"({_words(numbers).replace(' ', ',')})"


def _deflated(data: np.ndarray, wbits: int) -> list[bytes]:
    """The voxels, the first axis fastest, as a zlib (15) or gzip (31) stream without time and name."""
    flat = data.ravel(order="F").view(np.uint8)
    stream = zlib.compressobj(LEVEL, wbits=wbits)
    packed = [stream.compress(flat[at : at + BLOCK].data) for at in range(0, flat.size, BLOCK)]
    return [*packed, stream.flush()]
