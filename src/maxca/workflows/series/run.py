"""``maxca.series``: motion correction of a 4-D image."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maxca.fields import OptionError
from maxca.geometry import Affine, Chain, Grid
from maxca.io.atomic import RESULT_FILE
from maxca.io.images import Image, write
from maxca.io.records import encode
from maxca.io.transforms import write_transform
from maxca.registration.provenance import peak_memory_mb, versions
from maxca.runtime import tuned
from maxca.version import installed_version
from maxca.workflows.series.checkpoint import fingerprint, resumable
from maxca.workflows.series.corrected import CORRECTED, Corrected, Target, write_corrected
from maxca.workflows.series.estimate import Estimate, estimate
from maxca.workflows.series.frames import Frames, Progress, open_frames
from maxca.workflows.series.gradients import read_gradients, turned, write_gradients
from maxca.workflows.series.motion import motion_table, outliers
from maxca.workflows.series.options import SeriesInputs, SeriesOptions
from maxca.workflows.series.record import (
    FrameMeasures,
    SeriesRecord,
    settings_of,
    sources_of,
    summary,
    write_table,
)

TRANSFORMS = "transforms"
REFERENCE, MEAN = "reference.nii.gz", "mean.nii.gz"
GRADIENTS = "corrected.bvec"


@dataclass(frozen=True, eq=False)
class SeriesResult:
    """The motion of a series.

    Args:
        folder: of the output.
        affines: of each frame, reference world points → frame world points.
        measures: of each frame.
        corrected: statistics over time before and after.
        reference: the image that the frames were aligned to.
        frame_grid: of the frames as they were.
        record: content of ``result.json``.
    """

    folder: Path
    affines: list[Affine]
    measures: FrameMeasures
    corrected: Corrected
    reference: Image
    frame_grid: Grid
    record: SeriesRecord


def series(
    image: str | Path,
    folder: str | Path,
    options: SeriesOptions | None = None,
    *,
    inputs: SeriesInputs | None = None,
    overwrite: bool = False,
    progress: Progress = lambda _stage, _share: None,
    command: str | None = None,
    finish: Callable[[SeriesResult, Path], object] | None = None,
) -> SeriesResult:
    """Correct the motion of the frames of a 4-D image, one frame in memory.

    Args:
        image: the series: NIfTI or MGH.
        folder: of the output: ``corrected.nii.gz``, ``motion.tsv``, ``transforms/`` with a file for each frame,
            ``reference.nii.gz``, ``mean.nii.gz`` and ``result.json``. It appears when it is complete.
        options: the reference, the transform and what counts as an outlier.
        inputs: a mask and gradient directions.
        overwrite: replace an earlier output.
        progress: called with a stage and the completed share.
        command: that repeats the run, for ``result.json``.
        finish: called with the result and the folder before it appears, such as ``maxca.report.series.write_page``.

    Returns:
        The motion and its measures.

    Raises:
        MaxcaError: for input that cannot be used, in one line that says what to do.
    """
    options, inputs = options or SeriesOptions(), inputs or SeriesInputs()
    if options.transform == "deformable":
        raise OptionError("transform", "deformable", "is the motion of an organ; use maxca.organ_motion")
    options.check_inputs(inputs)
    begin = time.perf_counter()
    frames = open_frames(image)
    directions = None if inputs.bvec is None else read_gradients(inputs.bvec, frames.count)
    sources, settings = sources_of(image, inputs, options), settings_of(options)
    with (
        resumable(folder, overwrite, fingerprint(sources, settings)) as (place, kept),
        tuned(options.threads),
    ):
        found = estimate(frames, options, inputs.mask, kept, progress)
        target = Target(found.reference, found.mask)
        corrected = write_corrected(frames, target, found.affines, options.interpolation, place / CORRECTED, progress)
        progress("writing", 0.96)
        measures = _measures(found, corrected, options)
        if directions is not None:
            moved = turned(directions, found.affines, frames.grid, found.reference.grid)
            write_gradients(moved, place / GRADIENTS)
        _write_images(found, corrected, place)
        _write_transforms(found, frames, place / TRANSFORMS)
        record = SeriesRecord(
            maxca=installed_version(),
            inputs=sources,
            settings=settings,
            center=found.reference.grid.center.tolist(),
            motion=summary(measures, found.passes, int(found.contrasts.sum())),
            warnings=[*found.warnings, *corrected.warnings],
            versions=versions(),
            seconds=round(time.perf_counter() - begin, 3),
            peak_memory_mb=peak_memory_mb(),
            command=command,
        )
        write_table(measures, record, place)
        (place / RESULT_FILE).write_text(encode(record), encoding="utf-8")
        result = SeriesResult(Path(folder), found.affines, measures, corrected, found.reference, frames.grid, record)
        if finish is not None:
            progress("reporting", 0.98)
            finish(result, place)
    return result


def _measures(found: Estimate, corrected: Corrected, options: SeriesOptions) -> FrameMeasures:
    motion = motion_table(found.affines, found.reference.grid.center, options.radius)
    relative = corrected.after.relative_dvars
    # Where the contrast changes from frame to frame, intensities change without an artefact.
    counted = None if found.contrasts.any() else relative
    outlying = outliers(motion.displacement, counted, (options.fd_threshold, options.dvars_threshold))
    return FrameMeasures(motion, np.array(corrected.after.dvars), relative, found.similarity, outlying)


def _write_images(found: Estimate, corrected: Corrected, place: Path) -> None:
    reference = found.reference
    write(reference.data, reference.grid, place / REFERENCE, form=reference.form)
    write(corrected.after.mean, reference.grid, place / MEAN, form=reference.form)


def _write_transforms(found: Estimate, frames: Frames, place: Path) -> None:
    """A file for each frame, numbered from 0, as ``maxca apply --volume-transforms`` takes them."""
    place.mkdir()
    digits = max(4, len(str(frames.count - 1)))
    dimension = 2 if frames.grid.thin_axes and found.reference.dimension == 2 else 3
    for number, affine in enumerate(found.affines):
        write_transform(Chain((affine,), dimension), place / f"{number:0{digits}}.tfm")
