"""Voxel types, and limits on the size of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil

from maxca.errors import MaxcaError

DEFLATE_LIMIT = 1032  # largest expansion of a gzip stream: https://zlib.net/zlib_tech.html
# Images that compress better than this consist almost entirely of one value; small ones are accepted.
LIKELY_GROWTH, HARMLESS = 500, 1 << 30
LARGEST_EXACT = 2**53  # integers up to here are exact in float64
SLAB = 1 << 20


def plain(data: np.ndarray, slope: float = 1.0, inter: float = 0.0) -> np.ndarray:
    """Native byte order; bool as uint8; floats as float32, except integers that float32 would merge.

    Args:
        data: values as stored.
        slope: scale factor of the file.
        inter: offset of the file; scaled integers become floats.

    Raises:
        ValueError: for integers beyond float64, or values beyond the range of float32.
    """
    scaled = (slope, inter) != (1.0, 0.0)
    if data.dtype.kind == "b" and not scaled:
        return data.astype(np.uint8)
    if data.dtype.kind in "iu" and not scaled:
        return data.astype(data.dtype.newbyteorder("="), copy=False)
    if data.dtype.kind == "f" and data.dtype.itemsize <= 4 and not scaled:
        return data.astype(np.float32, copy=False)
    if data.dtype.kind in "iu" and _largest(data) > LARGEST_EXACT and slope.is_integer() and inter.is_integer():
        raise ValueError("scaled integers that do not fit into float64; store them without a scale")
    narrow = np.empty_like(data, dtype=np.float32)
    changed, lost, whole = False, False, True
    for place in _slabs(data):
        wide = data[place].astype(np.float64) * slope + inter
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            narrow[place] = wide
        finite = np.isfinite(wide)
        wide = wide if finite.all() else np.where(finite, wide, 0)
        kept = narrow[place] if finite.all() else np.where(finite, narrow[place], 0)
        _check_range(wide, kept)
        whole = whole and bool((np.rint(wide) == wide).all())
        changed = changed or bool((kept != wide).any())
        lost = lost or (data.dtype.itemsize > 8 and not scaled and bool((data[place] != wide)[finite].any()))
    if whole and lost:
        raise ValueError("integers that do not fit into float64; store them as integers")
    if not (whole and changed):
        return narrow
    exact = np.empty_like(data, dtype=np.float64)
    for place in _slabs(data):
        exact[place] = data[place].astype(np.float64) * slope + inter
    return exact


def _largest(data: np.ndarray) -> int:
    """The largest magnitude among integers."""
    return max(abs(int(data.min(initial=0))), int(data.max(initial=0)))


def _slabs(data: np.ndarray) -> Iterator[tuple[slice, ...]]:
    """Blocks of an array along its last long axis, to limit temporary memory."""
    axis = max((axis for axis, n in enumerate(data.shape) if n > 1), default=0)
    step = max(1, SLAB * data.shape[axis] // max(1, data.size))
    for first in range(0, data.shape[axis], step):
        yield (*[slice(None)] * axis, slice(first, first + step))


def _check_range(wide: np.ndarray, narrow: np.ndarray) -> None:
    """Reject finite values that are infinite in float32."""
    if not np.isfinite(narrow).all():
        largest = np.abs(wide).max()
        raise ValueError(f"values up to {largest:.3g}, beyond the range of float32; divide them by a constant")


def cast(data: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Voxels converted to a supported type, integers rounded and clipped."""
    stored: dict[str, type] = {"?": np.uint8, "e": np.float32}
    dtype = np.dtype(stored.get(dtype.char, dtype))
    if dtype.kind not in "iu" or data.dtype == dtype:
        return data.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    if data.dtype.kind in "iub":
        own = np.iinfo(np.uint8 if data.dtype.kind == "b" else data.dtype)
        return np.clip(data.astype(own.dtype), max(limits.min, own.min), min(limits.max, own.max)).astype(dtype)
    # In float64, the largest int64 rounds up to a number beyond int64.
    highest = float(limits.max) if int(float(limits.max)) <= limits.max else np.nextafter(float(limits.max), 0)
    return np.clip(np.rint(np.nan_to_num(data.astype(np.float64))), float(limits.min), highest).astype(dtype)


def check_size(path: Path, claimed: int, stored: int, growth: int, packed: bool = False) -> None:
    """Reject, before allocation, a header that claims more bytes than the file can contain or than fit into memory.

    Args and errors as ``check_stored``, and:

    Raises:
        MaxcaError: for an image larger than the free memory.
    """
    check_stored(path, claimed, stored, growth, packed)
    check_memory(path, claimed)


def check_stored(path: Path, claimed: int, stored: int, growth: int, packed: bool = False) -> None:
    """Reject, before allocation, a header that claims more bytes than the file can contain.

    Args:
        path: the file.
        claimed: bytes of the voxels according to the header.
        stored: bytes of the file.
        growth: largest expansion of a byte of the file.
        packed: whether the file is compressed and must not expand to gigabytes of a single value.

    Raises:
        MaxcaError: for a truncated file, or one that expands to gigabytes of a single value.
    """
    if claimed > stored * growth:
        raise MaxcaError(
            f"{path}: truncated or damaged: the header claims {amount(claimed)}, the file has {amount(stored)}; "
            "copy or convert it again"
        )
    if packed and claimed > HARMLESS and claimed > stored * LIKELY_GROWTH:
        raise MaxcaError(
            f"{path}: {amount(stored)} that expand to {amount(claimed)}, so almost entirely one value; crop it, "
            "store it in a smaller type, or unpack it first"
        )


def check_memory(path: Path, needed: int) -> None:
    """Reject an image that does not fit into the free memory.

    Raises:
        MaxcaError: with the memory that it needs.
    """
    free = psutil.virtual_memory().available
    if needed > free:
        raise MaxcaError(f"{path}: needs {amount(needed)} of memory, {amount(free)} are free; crop or downsample it")


def check_kind(path: Path | None, size: Sequence[int], components: int, kind: str) -> None:
    """Reject images other than one real number per voxel in two or three dimensions, as described by ITK.

    Raises:
        MaxcaError: for more dimensions, colours, vectors or complex numbers.
    """
    name = path or "the image"
    if len(size) not in (2, 3):
        shape = tuple(size)
        raise MaxcaError(f"{name}: {len(size)}-D, shape {shape}, but a 3-D image is expected; extract one volume first")
    if components != 1 or "complex" in kind:
        raise MaxcaError(f"{name}: voxels are {kind} ({components} numbers each); convert it to one grey value")


def amount(size: int) -> str:
    """A number of bytes as text."""
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
