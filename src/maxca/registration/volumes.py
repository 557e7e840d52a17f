"""Application of transforms to 4-D images, a volume at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from maxca.errors import MaxcaError
from maxca.geometry import Chain, Interpolation
from maxca.io.atomic import full_suffix
from maxca.io.images import Image, ImageLike, read
from maxca.io.regular import check_regular, read_bytes
from maxca.io.series import Series, open_series, write_series
from maxca.io.transforms.afni import count_1d
from maxca.io.transforms.parts import read_dimension, steps_of
from maxca.io.transforms.text import FIRST_LINE, parse_text
from maxca.options import MatrixConvention
from maxca.registration.interpolation import InterpolationChoice, choose
from maxca.registration.resampling import OneTransform, Transforms, check_fill, fill_of, join, resample

Seen = Callable[[int, Image, Image], None]


@dataclass(frozen=True, eq=False)
class Motion:
    """Transforms of a 4-D image, each fixed world points → moving world points.

    Args:
        common: to all volumes; a point of the reference passes through them first.
        each: one per volume, after ``common``; or none.
        matrix_convention: of a bare 4x4 matrix.
    """

    common: Transforms = ()
    each: tuple[OneTransform, ...] = ()
    matrix_convention: MatrixConvention | None = None


@dataclass(frozen=True, eq=False)
class WarpedSeries:
    """A 4-D image on a reference grid; its volumes are resampled when they are asked for.

    Args:
        series: in moving space.
        reference: an image in fixed space, whose grid and header fields the result has.
        motion: the transforms.
        interpolation: see ``maxca.apply``.
        fill: the value outside the field of view.
        modulate: see ``maxca.apply``.
    """

    series: Series
    reference: Image
    motion: Motion
    interpolation: Interpolation
    fill: float
    modulate: bool = False

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the file and its first volume."""
        return (*self.series.warnings, *self._resampled(self.series.first, 0).warnings)

    def volumes(self) -> Iterator[Image]:
        """The volumes on the reference grid, each in its own data type."""
        for number, volume in enumerate(self.series.volumes()):
            yield self._resampled(volume, number)

    def save(self, path: str | Path, seen: Seen = lambda _number, _source, _warped: None) -> tuple[str, ...]:
        """Write the volumes to a NIfTI file, with the repetition time, units and intent of the source.

        Args:
            path: of the file.
            seen: called with the number of each volume, and with it before and after resampling.

        Returns:
            Warnings about the file and about volumes, one line for each kind.

        Raises:
            MaxcaError: for a file that is damaged or cannot be written.
        """
        noticed: dict[str, list[int]] = {}

        def values() -> Iterator[np.ndarray]:
            for number, source in enumerate(self.series.volumes()):
                volume = self._resampled(source, number)
                seen(number, source, volume)
                for line in volume.warnings:
                    noticed.setdefault(re.sub(r"\d+ voxels", "voxels", line), []).append(number + 1)
                yield volume.data

        write_series(self.series, values(), self.reference.grid, self.reference.form, path)
        lines = (f"{line} ({_listed(numbers)})" for line, numbers in noticed.items())
        return (*self.series.warnings, *lines)

    def _resampled(self, volume: Image, number: int) -> Image:
        chain, motion = self._common, self.motion
        if motion.each:
            # After a common transform, a point is in the space of the series, where motion was estimated.
            images = (volume.grid if chain.steps else self.reference.grid, volume.grid)
            chain = (join(motion.each[number], motion.matrix_convention, images) @ chain).simplified()
        target, how = self.reference, (self.interpolation, self.fill)
        warped = resample(volume, target.grid, chain, *how, target.form, modulate=self.modulate)
        return replace(warped, warnings=(*volume.warnings, *warped.warnings))

    @cached_property
    def _common(self) -> Chain:
        images = None if self.motion.each else (self.reference.grid, self.series.grid)
        return join(self.motion.common, self.motion.matrix_convention, images)


def apply_series(
    series: str | Path | Series,
    reference: ImageLike,
    motion: Motion,
    interpolation: InterpolationChoice = "auto",
    fill: float | None = None,
    *,
    modulate: bool = False,
) -> WarpedSeries:
    """Resample a 4-D image onto a reference grid, a volume at a time; each volume is interpolated once.

    Args:
        series: NIfTI or MGH, in moving space.
        reference: an image in fixed space that defines the grid of the result.
        motion: transforms, common to all volumes and one for each.
        interpolation: as for ``maxca.apply``; detected from the first volume.
        fill: the value outside the field of view; by default the background of the first volume.
        modulate: see ``maxca.apply``.

    Raises:
        MaxcaError: for a file that is not 4-D, or another number of transforms than of volumes.
    """
    opened = series if isinstance(series, Series) else open_series(series)
    if opened is None:
        raise MaxcaError(f"{series}: not a 4-D image in NIfTI or MGH format; use maxca.apply for other images")
    if motion.each and len(motion.each) != opened.count:
        raise MaxcaError(
            f"{opened.path}: {opened.count} volumes, but {len(motion.each)} transforms of volumes; give one for each"
        )
    chosen = choose(opened.first, interpolation).interpolation
    outside = fill_of(opened.first, chosen) if fill is None else fill
    check_fill(outside, opened.first)
    return WarpedSeries(opened, read(reference), motion, chosen, outside, modulate)


def transforms_of_volumes(place: str | Path) -> tuple[OneTransform, ...]:
    """The transforms of the volumes of a 4-D image, in the order of the volumes.

    Args:
        place: a folder with one file per volume, ordered by name, numbers by their value; a text file that lists one
            file per line, relative to its folder; or a text file with one affine per volume, of ITK, as of
            fMRIPrep (``desc-hmc_xfm.txt``), or of AFNI's 3dvolreg (``.aff12.1D``).

    Raises:
        MaxcaError: for a folder without files, or files that are missing or damaged.
    """
    place = Path(place)
    found: tuple[OneTransform, ...]
    if place.is_dir():
        files = [each for each in place.iterdir() if each.is_file() and not each.name.startswith(".")]
        files.sort(key=lambda each: _by_number(each.name))
        found = tuple(files)
    else:
        content = read_bytes(place)
        if full_suffix(place) == ".1d":
            return _rows(place, content)
        itk = content.startswith(FIRST_LINE.encode())
        found = _affines(place, content) if itk else _paths(place, content)
    if not found:
        raise MaxcaError(f"{place}: no transforms there; give one for each volume")
    return found


def _rows(place: Path, content: bytes) -> tuple[str, ...]:
    """The matrices of one file of AFNI, each for a volume, by their names there."""
    try:
        return tuple(f"{place}{{{row}}}" for row in range(count_1d(content)))
    except ValueError as error:
        raise MaxcaError(f"{place}: {error}; pass the matrices of 3dvolreg -1Dmatrix_save") from error


def _affines(place: Path, content: bytes) -> tuple[Chain, ...]:
    """Several transforms in one text file of ITK, each for a volume."""
    try:
        parts = parse_text(content)
        return tuple(Chain(steps_of([part]), read_dimension([part])) for part in parts)
    except ValueError as error:
        raise MaxcaError(f"{place}: {error}") from error


def _paths(place: Path, content: bytes) -> tuple[Path, ...]:
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise MaxcaError(f"{place}: neither a folder nor a text file that lists transforms; pass one") from error
    files = tuple(place.parent / line.strip() for line in lines if line.strip())
    for each in files:
        check_regular(each)
    return files


def _listed(numbers: list[int]) -> str:
    return (
        f"volume {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} volumes, the first of which is {numbers[0]}"
    )


def _by_number(name: str) -> list[str | int]:
    """For sorting: ``v9`` before ``v10``. Text and numbers alternate."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", name))]
