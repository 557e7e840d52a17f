"""The deformation of every frame of a series, smooth over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from maxca.engine.deformable import optimise
from maxca.engine.over_time import smoothing_over_time
from maxca.engine.settings import Settings, level_steps, refining, settings_for
from maxca.engine.volume import Volume, content_box, crop, foreground, margin_of, normalise
from maxca.fields import OptionError
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.geometry.repair import Invertible, finer_steps, invertible, unfolded
from maxca.io.images import Image
from maxca.models.load import Model
from maxca.models.predict import network_field
from maxca.models.segmentation import Segmenter
from maxca.models.select import Predictor
from maxca.registration.inputs import read_side
from maxca.registration.pair import moved_onto, prepared_volume
from maxca.registration.register import device_of
from maxca.workflows.series.checkpoint import Checkpoint
from maxca.workflows.series.estimate import reference_image, rigidly
from maxca.workflows.series.frames import Frames, Progress, standardised
from maxca.workflows.series.options import SeriesOptions
from maxca.workflows.series.organ.fields import StoredFields

PASSES = 3  # most passes over the frames for a mean
STEADY = 0.1  # voxels: the passes end when the mean position moves less, root mean square over the content
MEAN_OF_MEDIAN = 1.183  # mean absolute value of normal noise over its median: √(2/π) / 0.6745
SAME = 1e-3  # standard deviations: a frame that differs less from the reference is the reference
TOLERANCE = 1.0  # of the inverse, see ``registration.deformation``


class Survey(NamedTuple):
    """What a first pass over the frames tells.

    Args:
        deviation: (I, J, K) standard deviation of each voxel over time.
        mean: (I, J, K) of the frames.
        apart: (T,) mean absolute difference of each frame from the reference.
        noise: what of it is noise: the least of the frames, from the median over the voxels, most of which do not move.
    """

    deviation: np.ndarray
    mean: np.ndarray
    apart: np.ndarray
    noise: float = 0.0

    @property
    def differing(self) -> np.ndarray:
        """(T,) from 0 to 1: how much each frame differs from the reference, in proportion to the one that does most."""
        above = np.clip(self.apart - self.noise, 0, None)
        if above.max() <= 0:  # more than half of the voxels move
            above = self.apart
        return above / max(float(above.max()), 1e-9)


@dataclass(frozen=True, eq=False)
class OrganEstimate:
    """The deformations of a series.

    Args:
        reference: the image that the frames were aligned to.
        fields: frame world points → frame world points before ``affine``, of each frame.
        affine: frame world points → reference world points, after a field.
        passes: over the frames.
        model: its name, or ``"none"``.
        reason: for it.
        warnings: one line each.
    """

    reference: Image
    fields: StoredFields
    affine: Affine
    passes: int
    model: str
    reason: str
    warnings: tuple[str, ...]

    def both(self, number: int) -> tuple[Chain, Chain]:
        """The map of a frame, reference world points → frame world points, and its inverse."""
        found = smooth_and_inverse(self.fields[number])
        back = self.affine.inverse()[0]
        return Chain((back, found.inverse)).simplified(), Chain((found.field, self.affine)).simplified()


def smooth_and_inverse(field: DenseField) -> Invertible:
    """A field without folds, and its inverse."""
    wide = unfolded(field.faded())
    found = invertible(wide, tolerance=TOLERANCE, finer=finer_steps(wide.grid))
    return Invertible(found.field.rounded(), found.inverse.rounded(), found.residual)


@dataclass(frozen=True, eq=False)
class _Tracker:
    """Estimates fields from frames to a reference.

    Args:
        reference: prepared.
        box: of the frames that is registered: first voxels and those after the last.
        affine: frame world points → reference world points.
        settings: of the optimisation.
        model: that predicts, or None.
        motion: where the frames differ, on the box.
    """

    # A network also predicts a motion between two equal images. Of frames that do not differ from the reference that
    # prediction is subtracted, of the frame that differs most nothing: see docs/decisions/2026-11-28-organ-motion.md.

    reference: Volume
    box: tuple[Sequence[int], Sequence[int]]
    affine: Affine
    settings: Settings
    model: Model | None
    motion: Volume

    def __call__(self, frame: Volume, differing: float) -> DenseField:
        """The field of a prepared frame.

        Args:
            frame: on the box.
            differing: how much it differs from the reference, 1 for the frame that differs most.
        """
        if self.model is None:
            return optimise(frame, self.reference, self.affine, self.settings)[0]
        flow = network_field(self.model, frame, self.reference, self.affine, self.motion)
        flow = DenseField(flow.displacement - (1 - differing) * self.unmoved.displacement, flow.grid)
        plan = refining(self.settings, self.model.refine)
        if not plan.levels:
            return flow
        prior = None if self.model.refine is None else flow
        return optimise(frame, self.reference, self.affine, plan, initial=flow, prior=prior)[0]

    @cached_property
    def unmoved(self) -> DenseField:
        """The prediction for the reference and itself."""
        assert self.model is not None
        still = moved_onto(self.reference, self.motion.grid, Chain((self.affine,)))
        return network_field(self.model, still, self.reference, self.affine, self.motion)

    @cached_property
    def lattice(self) -> Grid:
        """Of the fields."""
        if self.model is None or refining(self.settings, self.model.refine).levels:
            grid = self.motion.grid
            return grid.every(level_steps(grid, self.settings.levels[-1].factor))
        return self.unmoved.grid


def estimate_organ(
    frames: Frames, options: SeriesOptions, mask: str | Path | None, kept: Checkpoint, progress: Progress
) -> OrganEstimate:
    """Register every frame of a series to the reference by a deformation.

    Each frame is the fixed image once: its field starts where it is needed, so that labels of the reference are
    carried to the frame by one interpolation.

    Args:
        frames: of the series.
        options: the reference, the model, smoothness in space and time.
        mask: a file: where motion is estimated, on the reference.
        kept: what an interrupted run has found.
        progress: called with a stage and the completed share.

    Raises:
        MaxcaError: for a reference, a mask, a model or a frame that cannot be used.
    """
    device = device_of(options.device)
    predictor = Predictor(options.model, device, segment=False)
    if isinstance(predictor.model, Segmenter):
        raise OptionError("model", options.model, "a segmentation model; a series takes a registration model")
    reference, affine, warnings = _reference(frames, options)
    survey = _survey(frames, reference, affine, progress)
    work = _Passes(frames, options, mask, kept, progress)
    tracker, reason = work.tracker(reference, affine, survey, predictor)
    fields = work.align(tracker, survey, options.frame)
    if str(options.to) == "mean":
        while work.done < PASSES:
            reference, moved = work.to_mean(reference, fields)
            tracker = replace(tracker, reference=work.prepared(reference, cut=True))
            survey = _survey(frames, reference, affine, lambda _stage, _share: None)
            fields = work.align(tracker, survey, None)
            if moved < STEADY:
                break
    model = "none" if tracker.model is None else tracker.model.name
    return OrganEstimate(reference, fields, affine, work.done, model, reason, (*warnings, *work.warnings))


class _Passes:
    """Passes over the frames of a series, one frame in memory."""

    def __init__(
        self,
        frames: Frames,
        options: SeriesOptions,
        mask: str | Path | None,
        kept: Checkpoint,
        progress: Progress,
    ) -> None:
        self.frames, self.options, self.mask, self.kept, self.progress = frames, options, mask, kept, progress
        self.device = device_of(options.device)
        self.done = 0
        self.box: tuple[Sequence[int], Sequence[int]] = ((0, 0, 0), frames.grid.shape)
        self.warnings: list[str] = []

    def tracker(self, reference: Image, affine: Affine, survey: Survey, predictor: Predictor) -> tuple[_Tracker, str]:
        """What registers the frames, and the reason for its model: chosen on the frame that differs most."""
        mean = self._volume(Image(survey.mean, self.frames.grid))
        self.box = content_box(mean, margin_of(mean.grid))
        prepared = self.prepared(reference, cut=True)
        motion = crop(self._volume(Image(survey.deviation, self.frames.grid)), *self.box)
        settings = settings_for(motion.grid, self.options.effort, "lncc", self.options.smoothness)
        farthest = self.prepared(self.frames.numbered(int(np.argmax(survey.apart))))
        found = predictor(farthest, prepared, affine, settings)
        model = found.prediction.model if found.prediction is not None else None
        if predictor.automatic and found.prediction is not None and not found.prediction.accepted:
            model = None
        if found.prediction is not None and not found.prediction.similarity:  # the network cannot run here
            model = None
        return _Tracker(prepared, self.box, affine, settings, model, motion), found.reason

    def prepared(self, image: Image, cut: bool = False) -> Volume:
        """A frame on the box of the series; or the reference, with the mask and cut to its content."""
        side = read_side("input", image, mask=self.mask if cut else None)
        volume = self._upright(prepared_volume(side, self.device))
        if cut:
            self.warnings += [line for line in side.warnings if line not in (*image.warnings, *self.warnings)]
            return crop(volume, *content_box(volume, margin_of(volume.grid)))
        return crop(volume, *self.box)

    def align(self, tracker: _Tracker, survey: Survey, still: int | None) -> StoredFields:
        """The fields of all frames, smooth over time.

        Args:
            tracker: of this pass.
            survey: how much each frame differs from the reference.
            still: the number of the frame that is the reference.
        """
        number = self.done
        smoother = smoothing_over_time(
            self.frames.count, self.options.time_smoothness, cyclic=self.options.cyclic, still=still
        )
        grid = tracker.lattice
        found = StoredFields(self.kept.folder / f"pass-{number}", grid, self.frames.count)
        self._each(tracker, survey.differing, found, still)
        smooth = found.combined(smoother, self.kept.folder / f"smooth-{number}")
        self.done += 1
        return smooth

    def _each(self, tracker: _Tracker, differing: np.ndarray, fields: StoredFields, still: int | None) -> None:
        for number, frame in enumerate(self.frames):
            self._say("registering", number)
            if number in fields:
                continue
            if number == still:
                fields.store(number, DenseField(torch.zeros(3, *fields.grid.shape), fields.grid))
                continue
            fields.store(number, tracker(self.prepared(frame), float(differing[number])))

    def to_mean(self, reference: Image, fields: StoredFields) -> tuple[Image, float]:
        """The mean of the frames in their mean position, and how far that is, in voxels."""
        grid = reference.grid
        total = torch.zeros(3, *fields.grid.shape)
        for number in range(self.frames.count):
            self._say("averaging", number)
            total += Chain((smooth_and_inverse(fields[number]).inverse,)).field_on(fields.grid).displacement
        mean = DenseField(total / self.frames.count, fields.grid)
        back = smooth_and_inverse(mean).inverse  # mean position → reference
        values, seen = torch.zeros(2, *grid.shape)
        for number, frame in enumerate(self.frames):
            self._say("averaging", number)
            one = standardised(frame)
            there = Chain((back, smooth_and_inverse(fields[number]).inverse))
            found = there.resample(torch.stack([one, torch.ones_like(one)]), frame.grid, grid)
            values, seen = values + found[0], seen + found[1]
        average = (values / seen.clamp(min=1)).numpy()
        low = average[seen.numpy() > 0].min()
        image = replace(reference, data=np.where(seen > 0, average - low, 0), path=None, intent=0, warnings=())
        inside = torch.as_tensor(foreground(reference.data))
        moved = Chain((mean,)).field_on(grid).displacement[:, inside].square().sum(0).mean().sqrt()
        return image, float(moved) / grid.smallest_spacing

    def _volume(self, image: Image) -> Volume:
        values = normalise(torch.as_tensor(image.data.astype(np.float32)).to(self.device))
        return self._upright(Volume(values, image.grid))

    def _upright(self, volume: Volume) -> Volume:
        return moved_onto(volume, volume.grid.upright, Chain()) if volume.grid.is_sheared else volume

    def _say(self, what: str, number: int) -> None:
        passes = PASSES if str(self.options.to) == "mean" else 1
        self.progress(f"{what} frame {number}", 0.05 + 0.7 * (self.done + number / self.frames.count) / passes)


def _reference(frames: Frames, options: SeriesOptions) -> tuple[Image, Affine, tuple[str, ...]]:
    """The first reference, and the affine from the frames to it."""
    image, own = reference_image(frames, options)
    if own:
        return image, Affine.identity(), ()
    return image, rigidly(frames.numbered(0), image), image.warnings


def _survey(frames: Frames, reference: Image, affine: Affine, progress: Progress) -> Survey:
    """Read every frame once: where they differ, and which differs most from the reference."""
    there = Chain((affine,)).resample(standardised(reference)[None], reference.grid, frames.grid)[0].numpy()
    first: np.ndarray | None = None
    total, squares = np.zeros(frames.grid.shape), np.zeros(frames.grid.shape)
    apart, noise = [], []
    for number, frame in enumerate(frames):
        progress(f"reading frame {number}", 0.05 * number / frames.count)
        values = standardised(frame).numpy()
        first = values if first is None else first
        total += values - first
        squares += np.square(values - first, dtype=np.float64)
        difference = np.abs(values - there)
        apart.append(float(difference.mean()))
        noise.append(MEAN_OF_MEDIAN * float(np.median(difference)))
    assert first is not None
    mean = total / frames.count
    deviation = np.sqrt(np.maximum(squares / frames.count - np.square(mean), 0))
    least = min((part for part, whole in zip(noise, apart, strict=True) if whole > SAME), default=0.0)
    return Survey(deviation.astype(np.float32), (first + mean).astype(np.float32), np.array(apart), least)
