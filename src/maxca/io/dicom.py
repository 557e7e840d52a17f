"""DICOM series: one upright, evenly spaced stack of slices in a folder, or a clear refusal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from maxca.errors import MaxcaError
from maxca.geometry import Grid
from maxca.io.itk import grid_from_patient, guarded_itk
from maxca.io.voxels import check_kind, plain

POSITION, ORIENTATION, PIXEL_SPACING, FRAMES = "0020|0032", "0020|0037", "0028|0030", "0028|0008"
DESCRIPTION, SLOPE = "0008|103e", "0028|1053"


def read_series(folder: Path) -> tuple[np.ndarray, Grid]:
    """Voxels (I, J, K) and grid of the one DICOM series in a folder.

    Raises:
        MaxcaError: for no series or several, and for slices that make no upright, even stack.
    """
    with guarded_itk():
        files = _only_series(folder)
        headers = [_dicom_header(file) for file in files]
        order, grid = _stack(headers, folder)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames([files[index] for index in order])
        if len({header.get(SLOPE, "1") for header in headers}) > 1:
            reader.SetOutputPixelType(sitk.sitkFloat32)  # ITK takes the first slice's type for all
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise MaxcaError(f"{folder}: this DICOM series cannot be read; copy or export it again") from error
    check_kind(folder, image.GetSize(), image.GetNumberOfComponentsPerPixel(), image.GetPixelIDTypeAsString())
    return plain(sitk.GetArrayFromImage(image).T), grid


def _only_series(folder: Path) -> tuple[str, ...]:
    """The files of the one DICOM series in a folder."""
    reader = sitk.ImageSeriesReader
    series = {uid: reader.GetGDCMSeriesFileNames(str(folder), uid) for uid in reader.GetGDCMSeriesIDs(str(folder))}
    if not series:
        raise MaxcaError(f"{folder}: no DICOM series in this folder; pass a folder of DICOM slices, or an image file")
    if len(series) > 1:
        listed = "; ".join(_described(uid, files) for uid, files in series.items())
        raise MaxcaError(f"{folder}: holds {len(series)} DICOM series ({listed}); move the one you mean to a folder")
    return next(iter(series.values()))


def _described(uid: str, files: Sequence[str]) -> str:
    return f"{_dicom_header(files[0]).get(DESCRIPTION, '').strip() or 'unnamed'}, {len(files)} files, {uid}"


def _dicom_header(file: str) -> dict[str, str]:
    """The tags of one slice, and its size under ``"size"``."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise MaxcaError(f"{file}: not a readable DICOM file; copy or export the series again") from error
    header = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    return header | {"size": "\\".join(map(str, reader.GetSize()))}


def _stack(headers: list[dict[str, str]], folder: Path) -> tuple[list[int], Grid]:
    """The order of the slices along their normal and the grid they make, refused unless it is an upright, even one."""
    if any(int(header.get(FRAMES, "1")) > 1 for header in headers):
        raise MaxcaError(f"{folder}: multi-frame DICOM is not read; convert it to NIfTI first, e.g. with dcm2niix")
    if any(key not in header for header in headers for key in (POSITION, ORIENTATION, PIXEL_SPACING)):
        raise MaxcaError(f"{folder}: slices do not say where they lie; export the series again with its positions")
    layouts = np.array([_numbers(h, ORIENTATION) + _numbers(h, PIXEL_SPACING) + _numbers(h, "size") for h in headers])
    if np.abs(layouts - layouts[0]).max() > 1e-3:
        raise MaxcaError(f"{folder}: slices differ in orientation, size or spacing; keep one stack in the folder")
    row, column, (high, wide) = layouts[0, :3], layouts[0, 3:6], layouts[0, 6:8]
    normal = np.cross(row, column)
    positions = np.array([_numbers(header, POSITION) for header in headers])
    order = np.argsort(positions @ normal, kind="stable")
    gap = _even_gap(positions[order], normal, folder) if len(headers) > 1 else _thickness(headers[0])
    size = (*(int(n) for n in layouts[0, 8:10]), len(headers))
    direction = np.stack([row, column, normal], axis=1).ravel()
    return order.tolist(), grid_from_patient(size, (wide, high, gap), positions[order[0]].tolist(), direction.tolist())


def _even_gap(positions: np.ndarray, normal: np.ndarray, folder: Path) -> float:
    """Distance of the slices in mm, refused when it varies or when they slide sideways on the way up."""
    depths = positions @ normal
    gaps = np.diff(depths)
    if gaps.min() < 1e-3:
        raise MaxcaError(f"{folder}: several slices at one position (time points, echoes?); keep one stack of them")
    faults = []
    gap = float((depths[-1] - depths[0]) / len(gaps))
    if np.abs(depths - depths[0] - gap * np.arange(len(depths))).max() > max(0.02, 0.01 * gap):
        faults.append(f"unevenly spaced ({gaps.min():.2f} to {gaps.max():.2f} mm apart)")
    along = positions[-1] - positions[0]
    sideways = float(np.linalg.norm(along - normal * (along @ normal)))
    if sideways > max(0.1, 0.001 * float(np.linalg.norm(along))):
        tilt = np.degrees(np.arctan2(sideways, depths[-1] - depths[0]))
        faults.append(f"tilted by {tilt:.1f} degrees against the gantry")
    if faults:
        raise MaxcaError(
            f"{folder}: the slices of this DICOM series are {' and '.join(faults)}; resample it to an even, upright "
            "stack first, for instance with dcm2niix, and pass the NIfTI file"
        )
    return gap


def _thickness(header: dict[str, Any]) -> float:
    return float(header.get("0018|0050", "").strip() or 1.0)


def _numbers(header: dict[str, str], key: str) -> list[float]:
    return [float(number) for number in header[key].split("\\")]
