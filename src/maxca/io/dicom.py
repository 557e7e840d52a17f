"""DICOM: a folder with one orthogonal, evenly spaced stack of slices, or a file with one or several frames."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydicom import Dataset

from maxca.errors import MaxcaError
from maxca.geometry import Grid
from maxca.io.dicomfile import (
    PLACE,
    SHARED,
    Frame,
    Header,
    Slice,
    described,
    is_dicom,
    is_multiframe,
    read_header,
    real,
    slice_of,
)
from maxca.io.itk import grid_from_patient
from maxca.io.multiframe import frames_of
from maxca.io.native import decode
from maxca.io.stack import stacked
from maxca.io.voxels import DEFLATE_LIMIT, check_memory, check_size, plain

SUFFIXES = (".dcm", ".ima", ".dicom")
WHOLE_TYPES = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32)
LISTED = 4
MOST_SISTERS = 1000  # files of a folder that are searched for the series of a slice
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


class Stored(NamedTuple):
    """What DICOM files hold.

    Args:
        data: (I, J, K).
        grid: voxel to world, RAS+ mm.
        warnings: assumptions, one line each.
        dimension: 2 for an image without a position in the patient, such as a radiograph.
    """

    data: np.ndarray
    grid: Grid
    warnings: tuple[str, ...]
    dimension: int = 3


def read_series(folder: Path) -> Stored:
    """Voxels (I, J, K), grid and warnings of the one DICOM series, or the one multi-frame file, in a folder.

    Raises:
        MaxcaError: for no series or several, for damaged slices, and for slices that do not form an orthogonal, evenly
            spaced stack.
    """
    images = _only_series(folder)
    if len(images) == 1 and is_multiframe(next(iter(images.values()))):
        return read_file(*images)
    slices = [slice_of(file, header) for file, header in images.items()]
    _check_shared(slices, folder)
    return _volume(slices, folder)


def read_file(path: Path) -> Stored:
    """Voxels, grid and warnings of a single DICOM file: all frames of a multi-frame file, a slice, or a radiograph.

    Raises:
        MaxcaError: for a file that is damaged, without an image, or one slice of a series in its folder.
    """
    header = read_header(path)
    if header is None:
        raise MaxcaError(f"{path}: a DICOM file without an image; pass the folder of a series of slices")
    if is_multiframe(header):
        return _volume(frames_of(path, header), path)
    if all(header.tags.get(name) for name in PLACE):
        only = slice_of(path, header)
        if _has_sisters(path, header):
            raise MaxcaError(
                f"{path}: one slice of a DICOM series; pass the folder that holds the series: {path.parent}"
            )
        return _volume([only], path)
    return _plane(path, header)


def _volume(slices: list[Slice], path: Path) -> Stored:
    stack = stacked(slices, path)
    ordered, first = [slices[index] for index in stack.order], slices[stack.order[0]]
    direction = np.stack([*first.rows, stack.normal], axis=1).ravel()
    spacing = (*first.spacing, stack.gap)
    size = (*first.size, len(slices))
    grid = grid_from_patient(size, spacing, first.position.tolist(), direction.tolist())
    return Stored(_values(ordered, path), grid, stack.warnings + _inverted(first, path))


def _plane(path: Path, header: Header) -> Stored:
    """An image without a position in the patient, as a 2-D image with its first pixel at the origin."""
    named = next((name for name in SPACINGS if header.tags.get(name)), None)
    spacing = header.tags[named].value if named else (1.0, 1.0)
    scale = real(header.tags.get("RescaleSlope"), 1.0), real(header.tags.get("RescaleIntercept"), 0.0)
    (only,) = described(path, header, [Frame((0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0), spacing, scale)])
    grid = grid_from_patient(only.size, only.spacing, (0.0, 0.0), (1.0, 0, 0, 1.0))
    scales = "its pixel size is unknown, 1 mm is assumed" if named is None else f"its pixel size is that of {named}"
    warnings = (f"{path}: has no position in the patient, so it is a 2-D image; {scales}", *_inverted(only, path))
    return Stored(_values([only], path), grid, warnings, 2)


def _inverted(first: Slice, path: Path) -> tuple[str, ...]:
    if first.header.get("PhotometricInterpretation") != "MONOCHROME1":
        return ()
    return (f"{path}: small values are shown bright (MONOCHROME1); the values are used as stored",)


def _has_sisters(path: Path, header: Header) -> bool:
    """Whether the folder of a slice holds another slice of its series."""
    uid = str(header.tags.get("SeriesInstanceUID", ""))
    others = (each for each in sorted(path.parent.iterdir()) if each.is_file() and each.name != path.name)
    for other in itertools.islice(others, MOST_SISTERS):
        try:
            found = read_header(other) if is_dicom(other) else None
        except MaxcaError:  # not the file that was asked for
            continue
        if found is not None and str(found.tags.get("SeriesInstanceUID", "")) == uid:
            return True
    return False


def _only_series(folder: Path) -> dict[Path, Header]:
    """The files of the one DICOM series in a folder, and their headers."""
    try:
        entries = sorted(entry.name for entry in os.scandir(folder) if not entry.is_dir())
    except OSError as error:
        raise MaxcaError(f"{folder}: cannot be read; check its permissions") from error
    files = [folder / name for name in entries if not name.startswith(".")]
    found = {file: is_dicom(file) for file in files if file.is_file()}
    headers = {file: read_header(file) for file, known in found.items() if known}
    images = {file: header for file, header in headers.items() if header is not None}
    _refuse_fragments([file for file in files if not found.get(file)], list(images))
    if not images:
        raise MaxcaError(f"{folder}: no DICOM series in this folder; pass a folder of DICOM slices, or an image file")
    series: dict[str, list[Path]] = {}
    for file, header in images.items():
        series.setdefault(str(header.tags.get("SeriesInstanceUID", "")), []).append(file)
    if len(series) > 1:
        listed = [_described(images[files[0]].tags, len(files), uid) for uid, files in series.items()]
        more = f"; {len(listed) - LISTED} more" if len(listed) > LISTED else ""
        raise MaxcaError(
            f"{folder}: holds {len(series)} DICOM series ({'; '.join(listed[:LISTED])}{more}); move the one you "
            "mean to a folder of its own"
        )
    return images


def _refuse_fragments(others: list[Path], slices: list[Path]) -> None:
    """Reject files that are named like slices but are not: they may be truncated."""
    patterns = {_pattern(file) for file in slices}
    for file in others:
        if file.suffix.lower() in SUFFIXES or _pattern(file) in patterns:
            raise MaxcaError(
                f"{file}: named like a slice of the DICOM series, but not a DICOM file, or truncated; copy or "
                "export the series again, or remove it"
            )


def _pattern(file: Path) -> str:
    return re.sub(r"\d+", "#", file.name.lower())


def _described(header: Dataset, files: int, uid: str) -> str:
    return f"{str(header.get('SeriesDescription') or 'unnamed').strip()[:40]}, {files} files, {uid[:64]}"


def _check_shared(slices: list[Slice], folder: Path) -> None:
    """Reject slices of another scan."""
    for name, what in SHARED.items():
        values = [str(each.header.get(name, "")) for each in slices]
        usual = max(values, key=values.count)
        strange = [each.path.name for each, value in zip(slices, values, strict=True) if value != usual]
        if strange:
            raise MaxcaError(
                f"{folder}: {len(strange)} of {len(slices)} slices have another {what} than the others, such as "
                f"{strange[0][:80]}; keep one stack in the folder"
            )


def _values(slices: Sequence[Slice], folder: Path) -> np.ndarray:
    """(I, J, K), of a type that can represent all slices: integers if they share one scaling."""
    count = sum(each.size[0] * each.size[1] for each in slices)
    packed = [each.packed for each in slices]
    if any(packed):
        held = sum(each.path.stat().st_size for each in slices)
        check_size(folder, 2 * count, held, DEFLATE_LIMIT, packed=True)
    check_memory(folder, 16 * count)
    try:
        if any(packed):
            data = _decoded(slices, 8 * count)
        else:
            data = np.empty((*slices[0].size, len(slices)), dtype=_type(slices), order="F")
            for number, each in enumerate(slices):
                data[:, :, number] = each.values()
        if data.shape != (*slices[0].size, len(slices)):
            raise ValueError("damaged: decoded slices do not have the size in their headers")
        return plain(data)
    except (OSError, EOFError) as error:
        raise MaxcaError(f"{folder}: its slices changed while they were read; try again") from error
    except ValueError as error:
        raise MaxcaError(f"{folder}: {error}; copy or export the series again") from error


def _decoded(slices: Sequence[Slice], unpacked: int) -> np.ndarray:
    """(I, J, K) of compressed slices, or of the frames of a compressed file.

    Raises:
        ValueError: for frames that cannot be decoded, or that are scaled each in its own way.
    """
    paths = list(dict.fromkeys(each.path for each in slices))
    if len(paths) > 1 or len(slices) == 1:
        values = decode(paths, unpacked)
        return values.reshape(len(slices), *values.shape[-2:]).T
    if len({each.scale for each in slices}) > 1:
        raise ValueError("its compressed frames are scaled each in its own way, which is not supported; decompress it")
    frames = decode(paths, unpacked)[0]
    starts = [each.number for each in slices]
    return frames[starts].T


def _type(slices: Sequence[Slice]) -> np.dtype:
    """The smallest integer type that represents all values, float64 if one is not an integer."""
    if not all(number.is_integer() for each in slices for number in each.scale):
        return np.dtype(np.float64)
    low, high = (
        pick(end) for pick, end in zip((min, max), zip(*(each.range for each in slices), strict=True), strict=True)
    )
    fitting = (kind for kind in WHOLE_TYPES if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return np.dtype(next(fitting, np.float64))
