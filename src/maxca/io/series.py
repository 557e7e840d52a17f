"""4-D images in NIfTI and MGH files, read and written a volume at a time."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from maxca.errors import MaxcaError
from maxca.geometry import Grid
from maxca.io.atomic import atomic_path, full_suffix
from maxca.io.form import Form
from maxca.io.images import Image, finished
from maxca.io.nifti import (
    MGH_SUFFIXES,
    NIFTI_SUFFIXES,
    READ_ERRORS,
    form_of,
    grid_and_warnings,
    intent_of,
    open_nifti,
)
from maxca.io.nifti_writing import as_nifti
from maxca.io.stored import check_written, drain, is_gzip
from maxca.io.voxels import plain

WRITTEN_SUFFIXES = (".nii", ".nii.gz")
LEVEL = 1  # of gzip, as nibabel


@dataclass(frozen=True, eq=False)
class Series:
    """A 4-D image in a file: volumes on one grid.

    Args:
        path: its file.
        nifti: its header, by nibabel.
        grid: of each volume, voxel to world, RAS+ mm.
        count: of volumes.
        form: further header fields of its position.
        intent: NIfTI's intent code, 0 for none.
        warnings: corrections made on reading, one line each.
    """

    path: Path
    nifti: Any
    grid: Grid
    count: int
    form: Form
    intent: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the image in messages."""
        return str(self.path)

    @cached_property
    def first(self) -> Image:
        """The first volume."""
        return next(self.volumes())

    def volumes(self) -> Iterator[Image]:
        """The volumes in the order of the file, each as ``maxca.read_image`` reads an image; one is in memory.

        Raises:
            MaxcaError: for a truncated or damaged file, or values that no supported type can represent.
        """
        voxels = self.nifti.dataobj
        slope, inter = float(voxels.slope), float(voxels.inter)
        size = int(np.prod(self.grid.shape)) * voxels.dtype.itemsize
        try:
            with _opened(Path(self.nifti.file_map["image"].filename or self.path), voxels.offset) as stream:
                for number in range(self.count):
                    content = stream.read(size)
                    if len(content) != size:
                        raise EOFError
                    data = np.frombuffer(content, voxels.dtype).reshape(self.grid.shape, order="F")
                    yield self._image(data, slope, inter, number)
                if isinstance(stream, gzip.GzipFile):
                    drain(stream)
        except READ_ERRORS as error:
            raise MaxcaError(f"{self.path}: truncated or damaged; copy or convert it again") from error

    def _image(self, data: np.ndarray, slope: float, inter: float, number: int) -> Image:
        try:
            voxels = plain(data, slope, inter)
        except ValueError as error:
            raise MaxcaError(f"{self.path}: volume {number + 1}: {error}") from error
        return replace(finished(voxels, self.grid, self.path, (), self.form), intent=self.intent)

    def save(self, path: str | Path) -> None:
        """Write all volumes to another NIfTI file; see ``write_series``."""
        write_series(self, (volume.data for volume in self.volumes()), self.grid, self.form, path)


def open_series(path: str | Path) -> Series | None:
    """A 4-D image of several volumes; None for any other file.

    Raises:
        MaxcaError: for a NIfTI or MGH file that is damaged, of more dimensions, or of colours or complex numbers.
    """
    path = Path(path)
    if full_suffix(path) not in NIFTI_SUFFIXES + MGH_SUFFIXES or path.is_dir():
        return None
    nifti = open_nifti(path, whole=False)
    shape = tuple(int(n) for n in nifti.shape)
    if len(shape) < 4 or shape[3] < 2:
        return None
    if any(n > 1 for n in shape[4:]):
        raise MaxcaError(f"{path}: {len(shape)}-D, shape {shape}; volumes of vectors are not supported")
    if nifti.get_data_dtype().kind not in "iufb" or min(shape) < 1:
        raise MaxcaError(f"{path}: voxels are not real numbers; convert it to one grey value")
    grid, warnings = grid_and_warnings(nifti, path)
    return Series(path, nifti, grid, shape[3], form_of(nifti), intent_of(nifti), warnings)


def write_series(like: Series, volumes: Iterable[np.ndarray], grid: Grid, form: Form, path: str | Path) -> None:
    """Write volumes as they come to a NIfTI file, with the time axis and the intent of another one.

    Args:
        like: its repetition time, time unit, start, intent and number of volumes are kept.
        volumes: (I, J, K) each, all of one type.
        grid: of each volume.
        form: dimension, unit and codes of the header; a single slice keeps the third axis.
        path: ``.nii`` or ``.nii.gz``.

    Raises:
        MaxcaError: for another suffix, volumes of several types, or a path that cannot be written.
    """
    path = Path(path)
    check_series_path(path)
    coming = iter(volumes)
    first = next(coming)
    empty = np.broadcast_to(first.dtype.type(0), (*grid.shape, like.count))
    nifti = as_nifti(empty, grid, like.intent or None, form)
    _keep_time(like.nifti, nifti)
    header = nifti.header
    header.set_data_offset(header.single_vox_offset)
    with atomic_path(path) as temporary:
        with temporary.open("wb") as raw:
            packed = gzip.GzipFile("", "wb", LEVEL, raw, mtime=0) if full_suffix(path) == ".nii.gz" else None
            stream: Any = packed or raw
            header.write_to(stream)
            stream.write(first.tobytes(order="F"))
            for volume in coming:
                if volume.dtype != first.dtype:
                    raise MaxcaError(
                        f"{like.path}: volumes need different types ({first.dtype}, {volume.dtype}) to keep their "
                        "values; convert it to float64"
                    )
                stream.write(volume.tobytes(order="F"))
            if packed:
                packed.close()
        check_written(temporary, header.single_vox_offset + empty.size * first.dtype.itemsize)


def check_series_path(path: Path) -> None:
    """Check before a computation that volumes can be written to a path.

    Raises:
        MaxcaError: for another suffix than those of NIfTI.
    """
    if full_suffix(path) not in WRITTEN_SUFFIXES:
        raise MaxcaError(
            f"{path}: 4-D images are written as {' or '.join(WRITTEN_SUFFIXES)}; use one of these suffixes"
        )


def _keep_time(source: Any, target: nib.Nifti1Image) -> None:
    """Copy the axis of the volumes: step, unit, start; and the parameters and name of the intent."""
    header, mine = source.header, target.header
    if not hasattr(header, "get_sform"):  # FreeSurfer stores the repetition time in ms
        step, unit = float(header.get_zooms()[3]), "msec"
    else:
        step, unit = float(header["pixdim"][4]), header.get_xyzt_units()[1]
        mine["toffset"] = header["toffset"]
        for name in ("intent_p1", "intent_p2", "intent_p3", "intent_name"):
            mine[name] = header[name]
    mine["pixdim"][4] = step
    mine.set_xyzt_units(mine.get_xyzt_units()[0], unit)


@contextmanager
def _opened(path: Path, offset: int) -> Iterator[Any]:
    """The content of a file, decompressed if it is a gzip stream, from an offset on."""
    packed = is_gzip(path)
    with gzip.open(path) if packed else path.open("rb") as stream:
        stream.seek(offset)
        yield stream
