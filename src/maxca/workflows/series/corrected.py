"""The corrected series: every frame resampled once, and statistics over time as it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maxca.engine.volume import foreground
from maxca.io.images import Image
from maxca.registration.resampling import OneTransform
from maxca.registration.volumes import Motion, apply_series
from maxca.workflows.series.frames import Frames, Progress
from maxca.workflows.series.options import SeriesInterpolation

CORRECTED = "corrected.nii.gz"


class OverTime:
    """Mean, standard deviation and DVARS of frames as they come, and a line of voxels in each.

    Args:
        mask: (I, J, K) bool: where DVARS is computed.
    """

    def __init__(self, mask: np.ndarray) -> None:
        self.mask = mask
        self.count = 0
        self.total = np.zeros(mask.shape)
        self.squares = np.zeros(mask.shape)
        self.dvars: list[float] = []
        self.lines: list[np.ndarray] = []
        self._last: np.ndarray | None = None
        self._first: np.ndarray | None = None
        inside = np.argwhere(mask)
        self._at = tuple(int(n) for n in np.round(inside.mean(axis=0)))

    def add(self, frame: np.ndarray) -> None:
        """Count the next frame."""
        values = frame.astype(np.float32)
        seen = values[self.mask]
        # Root mean square of the change, Power et al., NeuroImage 59(3), 2012.
        self.dvars.append(np.nan if self._last is None else float(np.sqrt(np.square(seen - self._last).mean())))
        self._last = seen
        # Relative to the first frame: squares of large values would lose the small differences.
        self._first = values if self._first is None else self._first
        apart = values - self._first
        self.total += apart
        self.squares += np.square(apart, dtype=np.float64)
        self.count += 1
        i, j, _ = self._at
        line = values[i, j, :] if values.shape[2] > 1 else values[i, :, 0]
        self.lines.append(line.copy())  # a view would keep the frame

    @property
    def mean(self) -> np.ndarray:
        """(I, J, K) float32."""
        assert self._first is not None
        return np.asarray(self._first + self.total / self.count, dtype=np.float32)

    @property
    def deviation(self) -> np.ndarray:
        """(I, J, K) float32: the standard deviation over time."""
        variance = self.squares / self.count - np.square(self.total / self.count)
        return np.sqrt(np.maximum(variance, 0)).astype(np.float32)

    @property
    def relative_dvars(self) -> np.ndarray:
        """(T,) over their median; NaN for the first frame."""
        found = np.array(self.dvars)
        usual = float(np.nanmedian(found))
        return found / usual if usual > 0 else found


class Target(NamedTuple):
    """What frames are resampled onto.

    Args:
        reference: the image.
        mask: (I, J, K) bool on it, where changes over time are measured; None for its content.
        begin: completed share before.
    """

    reference: Image
    mask: np.ndarray | None = None
    begin: float = 0.7


@dataclass(frozen=True, eq=False)
class Corrected:
    """What was learned while the corrected series was written.

    Args:
        before: of the frames as they were, on their grid.
        after: of the corrected frames, on the grid of the reference.
        warnings: of resampling, one line each.
    """

    before: OverTime
    after: OverTime
    warnings: tuple[str, ...]


def write_corrected(
    frames: Frames,
    target: Target,
    transforms: Sequence[OneTransform],
    interpolation: SeriesInterpolation,
    path: Path,
    progress: Progress,
) -> Corrected:
    """Resample every frame onto the reference and write the series, one frame in memory.

    Args:
        frames: of the series.
        target: what they are resampled onto.
        transforms: reference world points → frame world points, of each frame; files are read when they are needed.
        interpolation: of the frames.
        path: of the file.
        progress: called with a stage and the completed share.
    """
    reference = target.reference
    warped = apply_series(frames.series, reference, Motion(each=tuple(transforms)), interpolation)
    region = foreground(reference.data) if target.mask is None else target.mask
    same = frames.grid.shape == region.shape
    before = OverTime(region if same else foreground(frames.series.first.data))
    after = OverTime(region)

    def seen(number: int, source: Image, corrected: Image) -> None:
        progress(f"writing frame {number}", target.begin + (0.95 - target.begin) * number / frames.count)
        before.add(source.data)
        after.add(corrected.data)

    return Corrected(before, after, warped.save(path, seen))
