"""Labels and points of one frame, carried to every frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from maxca.errors import MaxcaError
from maxca.geometry import Chain, Grid
from maxca.io.images import Image, read
from maxca.io.label_table import read_label_table
from maxca.io.points import Points, read_points
from maxca.registration.labels import labels_of
from maxca.registration.placement import placed
from maxca.registration.resampling import resample
from maxca.workflows.series.frames import Frames
from maxca.workflows.series.options import SeriesInputs, SeriesOptions
from maxca.workflows.series.organ.strain import LabelRegion, StrainMeter

MOST_LABELS = 500
AT_ONCE = 8  # labels whose volumes are measured at once
BEYOND = 3  # voxels around where the labels are in a frame


@dataclass(frozen=True, eq=False)
class Followed:
    """What is carried to every frame.

    Args:
        image: the frame, or the reference, that it belongs to.
        labels: on their own grid, or None.
        points: in world space, or None.
        names: of the labels, as far as known.
        meter: of the strain of the labels, or None.
        warnings: one line each.
    """

    image: Image
    labels: Image | None
    points: Points | None
    names: dict[int, str]
    meter: StrainMeter | None
    warnings: tuple[str, ...]

    def on_frame(self, there: Chain, here: Chain, frame: Image) -> tuple[np.ndarray, dict[int, float]] | None:
        """The labels on the grid of a frame, and the volume in mm³ of each.

        Volumes count the parts of voxels at the borders, by linear interpolation.

        Args:
            there: world points of the labels → frame world points.
            here: frame world points → world points of the labels.
            frame: to carry them to.
        """
        if self.labels is None or self.meter is None:
            return None
        region = self.meter.region
        inside = there.map_points(region.grid.to_world(np.argwhere(region.labels != 0)))
        index = frame.grid.to_voxel(inside)
        low = np.clip(np.floor(index.min(axis=0)) - BEYOND, 0, frame.grid.shape).astype(int)
        high = np.clip(np.ceil(index.max(axis=0)) + BEYOND + 1, low, frame.grid.shape).astype(int)
        carried = np.zeros(frame.grid.shape, self.labels.data.dtype)
        if (low >= high).any():  # outside the field of view
            return carried, dict.fromkeys(region.names, 0.0)
        box, part = frame.grid.box(low.tolist(), high.tolist()), tuple(map(slice, low, high))
        carried[part] = resample(self.labels, box, here, "labels", 0.0).data
        return carried, self._volumes(here, box)

    def _volumes(self, here: Chain, box: Grid) -> dict[int, float]:
        assert self.labels is not None and self.meter is not None
        found: dict[int, float] = {}
        data = torch.as_tensor(self.labels.data.astype(np.int64))
        for start in range(0, len(self.meter.region.names), AT_ONCE):
            names = self.meter.region.names[start : start + AT_ONCE]
            each = torch.stack([(data == label).float() for label in names])
            parts = here.resample(each, self.labels.grid, box).sum(dim=(1, 2, 3), dtype=torch.float64)
            found |= dict(zip(names, (parts * box.voxel_volume).tolist(), strict=True))
        return found


def read_followed(frames: Frames, options: SeriesOptions, inputs: SeriesInputs) -> Followed | None:
    """Read the labels and points of a series; None if there are none.

    Raises:
        MaxcaError: for files that cannot be used, or a frame that the series does not have.
    """
    if inputs.labels is None and inputs.points is None:
        return None
    image = _belonging(frames, options)
    warnings: list[str] = []
    labels = meter = None
    if inputs.labels is not None:
        found = read(inputs.labels)
        placed("labels", found, image)
        labels = replace(found, data=labels_of(found))
        warnings += found.warnings
        names = np.unique(labels.data)
        if not names.any():
            raise MaxcaError(f"{found.name}: no labels, every voxel is 0; pass the labels of this frame")
        if len(names) > MOST_LABELS:
            raise MaxcaError(f"{found.name}: {len(names)} labels; at most {MOST_LABELS} are carried; select some")
        meter = StrainMeter(LabelRegion.of(labels.data, labels.grid))
    points = None if inputs.points is None else read_points(inputs.points)
    if points is not None and not len(points.coordinates):
        raise MaxcaError(f"{inputs.points}: no points; add some")
    table = {} if inputs.label_table is None else read_label_table(Path(inputs.label_table))
    return Followed(image, labels, points, {n: entry.name for n, entry in table.items()}, meter, tuple(warnings))


def _belonging(frames: Frames, options: SeriesOptions) -> Image:
    """The image that labels and points belong to."""
    if options.labels_frame is not None:
        return frames.numbered(options.labels_frame, "labels_frame")
    return read(options.to) if options.frame is None else frames.numbered(options.frame)
