"""``maxca.organ_motion``: the motion of an organ in a 4-D image, such as the beating heart or the breathing lung."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from maxca.engine.comparison import similarity_of
from maxca.engine.volume import Volume, foreground, normalise
from maxca.fields import OptionError
from maxca.geometry import Chain
from maxca.io.atomic import RESULT_FILE
from maxca.io.images import Image, write
from maxca.io.records import encode
from maxca.io.series import write_series
from maxca.io.transforms import write_transform
from maxca.metrics import folding
from maxca.registration.provenance import peak_memory_mb, versions
from maxca.runtime import tuned
from maxca.version import installed_version
from maxca.workflows.series.checkpoint import fingerprint, resumable
from maxca.workflows.series.corrected import CORRECTED, Corrected, Target, write_corrected
from maxca.workflows.series.frames import Frames, Progress, open_frames
from maxca.workflows.series.options import SeriesInputs, SeriesOptions
from maxca.workflows.series.organ.estimate import OrganEstimate, estimate_organ
from maxca.workflows.series.organ.follow import Followed, read_followed
from maxca.workflows.series.organ.record import (
    FRAMES,
    LABELS,
    POINTS,
    FrameRow,
    LabelRow,
    OrganRecord,
    OrganSummary,
    PointRow,
    doubts,
    summaries,
    write_rows,
)
from maxca.workflows.series.record import settings_of, sources_of

TRANSFORMS, INVERSES = "transforms", "inverse_transforms"
REFERENCE, MEAN, CARRIED = "reference.nii.gz", "mean.nii.gz", "labels.nii.gz"
SAMPLED = 20_000  # points of the content whose displacement is measured


@dataclass(frozen=True, eq=False)
class Measures:
    """Measures of each frame, of the labels in it, and positions of the points."""

    frames: list[FrameRow] = field(default_factory=list)
    labels: list[LabelRow] = field(default_factory=list)
    points: list[PointRow] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class OrganResult:
    """The motion of an organ.

    Args:
        folder: of the output.
        measures: of the frames, labels and points.
        corrected: statistics over time before and after alignment.
        reference: the image that the frames were aligned to.
        frames: the series.
        record: content of ``result.json``.
    """

    folder: Path
    measures: Measures
    corrected: Corrected
    reference: Image
    frames: Frames
    record: OrganRecord


def organ_motion(
    image: str | Path,
    folder: str | Path,
    options: SeriesOptions | None = None,
    *,
    inputs: SeriesInputs | None = None,
    overwrite: bool = False,
    progress: Progress = lambda _stage, _share: None,
    command: str | None = None,
    finish: Callable[[OrganResult, Path], object] | None = None,
) -> OrganResult:
    """Estimate the motion of an organ: a deformation of every frame of a 4-D image, one frame in memory.

    The same call resumes after an interruption: the fields of registered frames are kept in a hidden folder next to the
    output, ``.NAME.unfinished``.

    Args:
        image: the series: NIfTI or MGH.
        folder: of the output: ``transforms/`` (reference world points → frame world points) and
            ``inverse_transforms/`` with a file for each frame, ``corrected.nii.gz`` (the frames on the reference),
            ``labels.nii.gz`` (carried to every frame), tables of frames, labels and points, and ``result.json``. It
            appears when it is complete.
        options: the reference, the model and smoothness; ``transform`` is ``"deformable"``.
        inputs: labels and points to carry to every frame, and a mask.
        overwrite: replace an earlier output.
        progress: called with a stage and the completed share.
        command: that repeats the run, for ``result.json``.
        finish: called with the result and the folder before it appears, such as ``maxca.report.organ.write_page``.

    Returns:
        The measures and their record.

    Raises:
        MaxcaError: for input that cannot be used, in one line that says what to do.
    """
    options, inputs = options or SeriesOptions(transform="deformable"), inputs or SeriesInputs()
    if options.transform != "deformable":
        raise OptionError("transform", options.transform, "is motion correction; use maxca.series")
    options.check_inputs(inputs)
    begin = time.perf_counter()
    frames = open_frames(image)
    sources, settings = sources_of(image, inputs, options), settings_of(options)
    with (
        resumable(folder, overwrite, fingerprint(sources, settings)) as (place, kept),
        tuned(options.threads),
        torch.no_grad(),
    ):
        followed = read_followed(frames, options, inputs)
        found = estimate_organ(frames, options, inputs.mask, kept, progress)
        measures = _Writer(frames, options, found, followed, place, progress)()
        files = sorted((place / TRANSFORMS).iterdir())
        target = Target(found.reference, None, 0.88)
        corrected = write_corrected(frames, target, files, options.interpolation, place / CORRECTED, progress)
        form = found.reference.form
        write(found.reference.data, found.reference.grid, place / REFERENCE, form=form)
        write(corrected.after.mean, found.reference.grid, place / MEAN, form=form)
        record = OrganRecord(
            maxca=installed_version(),
            inputs=sources,
            settings=settings,
            motion=_summary(found, followed, measures),
            warnings=[
                *(*found.warnings, *(followed.warnings if followed else ()), *corrected.warnings),
                *doubts(measures.frames),
            ],
            versions=versions(),
            seconds=round(time.perf_counter() - begin, 3),
            peak_memory_mb=peak_memory_mb(),
            command=command,
        )
        for name, rows in ((FRAMES, measures.frames), (LABELS, measures.labels), (POINTS, measures.points)):
            write_rows(name, rows, place)
        (place / RESULT_FILE).write_text(encode(record), encoding="utf-8")
        result = OrganResult(Path(folder), measures, corrected, found.reference, frames, record)
        if finish is not None:
            progress("reporting", 0.98)
            finish(result, place)
    return result


class _Writer:
    """Writes the maps of every frame and what is carried by them, and measures, one frame in memory."""

    def __init__(
        self,
        frames: Frames,
        options: SeriesOptions,
        found: OrganEstimate,
        followed: Followed | None,
        place: Path,
        progress: Progress,
    ) -> None:
        self.frames, self.found, self.followed, self.place, self.progress = frames, found, followed, place, progress
        self.measures = Measures()
        self.digits = max(4, len(str(frames.count - 1)))
        self.dimension = 2 if frames.grid.thin_axes and found.reference.dimension == 2 else 3
        reference = found.reference
        self.start = Chain((found.affine.inverse()[0],))
        self.volume = _volume(reference)
        self.content = foreground(reference.data)
        # Between the image that labels and points belong to and the reference.
        frame = options.labels_frame if options.labels_frame != options.frame else None
        both = (Chain(), Chain()) if frame is None else found.both(frame)
        self.to_labels, self.from_labels = both
        if followed is not None and followed.labels is not None:
            inside = followed.labels.grid.to_world(np.argwhere(followed.labels.data != 0))
            self.points = self.from_labels.map_points(inside[:: max(1, len(inside) // SAMPLED)])
        else:
            inside = reference.grid.to_world(np.argwhere(self.content))
            self.points = inside[:: max(1, len(inside) // SAMPLED)]

    def __call__(self) -> Measures:
        """Write, and return the measures."""
        (self.place / TRANSFORMS).mkdir()
        (self.place / INVERSES).mkdir()
        carried = self._carried()
        if self.followed is None or self.followed.labels is None:
            for _ in carried:
                pass
            return self.measures
        series = self.frames.series
        write_series(series, (each for each in carried if each is not None), series.grid, series.form, self._labels)
        return self.measures

    @property
    def _labels(self) -> Path:
        return self.place / CARRIED

    def _carried(self) -> Iterator[np.ndarray | None]:
        """The labels on each frame, while everything else of it is written and measured."""
        for number, frame in enumerate(self.frames):
            self.progress(f"measuring frame {number}", 0.75 + 0.13 * number / self.frames.count)
            to_frame, back = (Chain(each.steps, self.dimension) for each in self.found.both(number))
            name = f"{number:0{self.digits}}.h5"
            write_transform(to_frame, self.place / TRANSFORMS / name)
            write_transform(back, self.place / INVERSES / name)
            self.measures.frames.append(self._frame(number, frame, to_frame, back))
            yield None if self.followed is None else self._follow(number, frame, to_frame, back)

    def _frame(self, number: int, frame: Image, to_frame: Chain, back: Chain) -> FrameRow:
        here = Chain((self.found.affine,))
        chains = {"before": here, "after": back}
        scores = similarity_of(_volume(frame), self.volume, "lncc", chains)
        moved = np.linalg.norm(to_frame.map_points(self.points) - self.start.map_points(self.points), axis=-1)
        ndv = folding(to_frame, self.found.reference.grid, self.content).ndv_percent
        return FrameRow(number, scores["before"], scores["after"], float(moved.mean()), float(moved.max()), ndv)

    def _follow(self, number: int, frame: Image, to_frame: Chain, back: Chain) -> np.ndarray | None:
        """Measure the labels and points in a frame, and return the labels on its grid."""
        followed = self.followed
        assert followed is not None
        there, here = to_frame @ self.from_labels, self.to_labels @ back
        if followed.points is not None:
            moved = there.map_points(followed.points.coordinates)
            names = followed.points.labels or tuple(map(str, range(len(moved))))
            rows = zip(names, moved.tolist(), strict=True)
            self.measures.points.extend(PointRow(number, name, *place) for name, place in rows)
        carried = followed.on_frame(there, here, frame)
        if carried is None or followed.meter is None:
            return None
        labels, volumes = carried
        for label, strain in followed.meter(there).items():
            self.measures.labels.append(
                LabelRow(number, label, followed.names.get(label), volumes[label] / 1000, *strain)
            )
        return labels


def _volume(image: Image) -> Volume:
    return Volume(normalise(torch.as_tensor(image.data.astype(np.float32))), image.grid)


def _summary(found: OrganEstimate, followed: Followed | None, measures: Measures) -> OrganSummary:
    rows = measures.frames
    ventricle = followed.meter.ventricle if followed is not None and followed.meter is not None else None
    return OrganSummary(
        frames=len(rows),
        passes=found.passes,
        model=found.model,
        model_reason=found.reason,
        displacement_max_mm=max(row.displacement_max_mm for row in rows),
        ndv_percent=max(row.ndv_percent for row in rows),
        similarity_before=float(np.mean([row.similarity_before for row in rows])),
        similarity=float(np.mean([row.similarity for row in rows])),
        labels=summaries(measures.labels, None if ventricle is None else ventricle.wall),
    )
