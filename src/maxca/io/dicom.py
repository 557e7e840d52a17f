"""DICOM series: a folder with one orthogonal, evenly spaced stack of slices."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom import Dataset

from maxca.errors import MaxcaError
from maxca.geometry import Grid
from maxca.io.dicomfile import SHARED, Slice, is_dicom, read_header, slice_of
from maxca.io.gdcm import decode
from maxca.io.itk import grid_from_patient
from maxca.io.stack import stacked
from maxca.io.voxels import DEFLATE_LIMIT, check_memory, check_size, plain

SUFFIXES = (".dcm", ".ima", ".dicom")
WHOLE_TYPES = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32)
LISTED = 4


def read_series(folder: Path) -> tuple[np.ndarray, Grid, tuple[str, ...]]:
    """Voxels (I, J, K), grid and warnings of the one DICOM series in a folder.

    Raises:
        MaxcaError: for no series or several, for damaged slices, and for slices that do not form an orthogonal, evenly
            spaced stack.
    """
    slices = _only_series(folder)
    _check_shared(slices, folder)
    stack = stacked(slices, folder)
    ordered, first = [slices[index] for index in stack.order], slices[stack.order[0]]
    direction = np.stack([*first.rows, stack.normal], axis=1).ravel()
    spacing = (*first.spacing, stack.gap)
    size = (*first.size, len(slices))
    grid = grid_from_patient(size, spacing, first.position.tolist(), direction.tolist())
    warnings = stack.warnings
    if first.header.get("PhotometricInterpretation") == "MONOCHROME1":
        warnings += (f"{folder}: small values are shown bright (MONOCHROME1); the values are used as stored",)
    return _values(ordered, folder), grid, warnings


def refuse_file(path: Path) -> None:
    """Reject a single DICOM file.

    Raises:
        MaxcaError: always; it says what to pass instead.
    """
    header = read_header(path)
    if header is None:
        raise MaxcaError(f"{path}: a DICOM file without an image; pass the folder of a series of slices")
    slice_of(path, header)
    raise MaxcaError(f"{path}: a single DICOM file; pass the folder that holds its series: {path.parent}")


def _only_series(folder: Path) -> list[Slice]:
    """The slices of the one DICOM series in a folder."""
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
    return [slice_of(file, header) for file, header in images.items()]


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
            data = decode([each.path for each in slices], 8 * count).T
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


def _type(slices: Sequence[Slice]) -> np.dtype:
    """The smallest integer type that represents all values, float64 if one is not an integer."""
    if not all(number.is_integer() for each in slices for number in each.scale):
        return np.dtype(np.float64)
    low, high = (
        pick(end) for pick, end in zip((min, max), zip(*(each.range for each in slices), strict=True), strict=True)
    )
    fitting = (kind for kind in WHOLE_TYPES if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return np.dtype(next(fitting, np.float64))
