"""What the voxels of an image may be: their type, their number, and how much of them fits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil

from maxca.errors import MaxcaError

DEFLATE_LIMIT = 1032  # no gzip stream grows more than this: https://zlib.net/zlib_tech.html


def plain(data: np.ndarray) -> np.ndarray:
    """Native byte order; bool as uint8; any float as float32, but for whole numbers that would merge."""
    if data.dtype.kind == "b":
        return data.astype(np.uint8)
    if data.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            narrow = data.astype(np.float32, copy=False)
        return narrow if data.dtype.itemsize <= 4 or not _merges(data, narrow) else data.astype(np.float64, copy=False)
    return data.astype(data.dtype.newbyteorder("="), copy=False)


def _merges(data: np.ndarray, narrow: np.ndarray) -> bool:
    """Whether all values are whole numbers, such as labels, and some of them are others in float32."""
    finite = np.isfinite(data)
    changed = finite & (narrow != data)
    return bool(changed.any()) and bool((np.rint(data[finite]) == data[finite]).all())


def cast(data: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Voxels in a type that the formats know, integers rounded and clipped."""
    stored: dict[str, type] = {"?": np.uint8, "e": np.float32}
    dtype = np.dtype(stored.get(dtype.char, dtype))
    if dtype.kind not in "iu" or data.dtype == dtype:
        return data.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    if data.dtype.kind in "iub":
        own = np.iinfo(np.uint8 if data.dtype.kind == "b" else data.dtype)
        return np.clip(data.astype(own.dtype), max(limits.min, own.min), min(limits.max, own.max)).astype(dtype)
    # In float64, the largest int64 rounds up to a number that no int64 holds.
    highest = float(limits.max) if int(float(limits.max)) <= limits.max else np.nextafter(float(limits.max), 0)
    return np.clip(np.rint(np.nan_to_num(data.astype(np.float64))), float(limits.min), highest).astype(dtype)


def check_size(path: Path, claimed: int, stored: int, growth: int) -> None:
    """Refuse before allocating: a header that claims more bytes than the file can hold, or than fit into memory.

    Args:
        path: the file.
        claimed: bytes of the voxels by the header.
        stored: bytes of the file.
        growth: how many bytes one byte of the file can unpack to.

    Raises:
        MaxcaError: for a truncated file, or an image larger than the free memory.
    """
    if claimed > stored * growth:
        raise MaxcaError(
            f"{path}: truncated or damaged: the header claims {_amount(claimed)}, the file holds {_amount(stored)}; "
            "copy or convert it again"
        )
    free = psutil.virtual_memory().available
    if claimed > free:
        raise MaxcaError(f"{path}: needs {_amount(claimed)} of memory, {_amount(free)} are free; crop or downsample it")


def check_kind(path: Path | None, size: Sequence[int], components: int, kind: str) -> None:
    """Refuse what is not one real number a voxel, in two or three dimensions, as ITK describes an image.

    Raises:
        MaxcaError: for more dimensions, colours, vectors or complex numbers.
    """
    name = path or "the image"
    if len(size) not in (2, 3):
        shape = tuple(size)
        raise MaxcaError(f"{name}: {len(size)}-D, shape {shape}, where a 3-D image is meant; extract one volume first")
    if components != 1 or "complex" in kind:
        raise MaxcaError(f"{name}: voxels are {kind} ({components} numbers each); convert it to one grey value")


def _amount(size: int) -> str:
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
