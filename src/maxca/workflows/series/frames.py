"""The frames of a series, checked as they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maxca.errors import MaxcaError
from maxca.geometry import Grid
from maxca.io.atomic import full_suffix
from maxca.io.images import Image
from maxca.io.nifti import MGH_SUFFIXES, NIFTI_SUFFIXES, open_nifti
from maxca.io.regular import check_regular
from maxca.io.series import Series, open_series

Progress = Callable[[str, float], None]
INSTEAD = "maxca register aligns two images"


@dataclass(frozen=True, eq=False)
class Frames:
    """The frames of a 4-D image, read one after the other.

    Args:
        series: the file.
    """

    series: Series

    @property
    def grid(self) -> Grid:
        """Of each frame."""
        return self.series.grid

    @property
    def count(self) -> int:
        """The number of frames."""
        return self.series.count

    def __iter__(self) -> Iterator[Image]:
        """The frames in the order of the file; one is in memory.

        Raises:
            MaxcaError: for a damaged file, or a frame of a single value.
        """
        for number, frame in enumerate(self.series.volumes()):
            low = frame.data.min()
            if low == frame.data.max():
                nothing = "NaN" if frame.warnings else f"{low:g}"
                raise MaxcaError(
                    f"{self.series.path}: frame {number} (the first is 0) is empty: every voxel is {nothing}; "
                    "remove it from the series"
                )
            yield frame

    def check(self, progress: Progress) -> None:
        """Read all frames once, so that a damaged file is refused before any work.

        Raises:
            MaxcaError: see ``__iter__``.
        """
        for number, _ in enumerate(self):
            progress(f"reading frame {number}", 0.0)

    def numbered(self, wanted: int, field: str = "to") -> Image:
        """One frame.

        Args:
            wanted: its number, from 0.
            field: the option that names it, for messages.

        Raises:
            MaxcaError: for a number that the series does not have.
        """
        if not 0 <= wanted < self.count:
            raise MaxcaError(
                f"{field}={wanted}: {self.series.path} has {self.count} frames; "
                f"give a number from 0 to {self.count - 1}"
            )
        return next(frame for number, frame in enumerate(self) if number == wanted)


def open_frames(path: str | Path) -> Frames:
    """Open a series.

    Raises:
        MaxcaError: for a file that is missing or damaged, or not a series of several frames.
    """
    path = Path(path)
    if not path.is_dir():
        check_regular(path)
    series = open_series(path)
    if series is not None:
        return Frames(series)
    if full_suffix(path) not in (*NIFTI_SUFFIXES, *MGH_SUFFIXES) or path.is_dir():
        raise MaxcaError(f"{path}: a series is a 4-D image in NIfTI or MGH format; convert it, or: {INSTEAD}")
    dimensions = len(open_nifti(path, whole=False).shape)
    what = f"a {dimensions}-D image" if dimensions < 4 else "a 4-D image of a single frame"
    raise MaxcaError(f"{path}: {what}, but a series of several frames is expected; {INSTEAD}")


def standardised(frame: Image) -> Tensor:
    """(I, J, K) float32: a frame of mean 0 and standard deviation 1, whatever its unit."""
    values = torch.as_tensor(frame.data.astype(np.float32))
    return (values - values.mean()) / values.std()
