"""The motion of every frame of a series to its reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from maxca.engine.affine import AffineSettings, align
from maxca.engine.affine_problem import BENT
from maxca.engine.frames import FrameAligner, FrameFit
from maxca.engine.volume import Volume, normalise
from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain
from maxca.io.images import Image, check_contrast, read
from maxca.registration.masks import mask_of
from maxca.registration.placement import placed
from maxca.workflows.series.checkpoint import Checkpoint
from maxca.workflows.series.frames import Frames, Progress, standardised
from maxca.workflows.series.motion import mean_of
from maxca.workflows.series.options import SeriesOptions

PASSES = 5  # most passes over the frames for a mean
STEADY = 0.02  # voxels: the passes end when half of the frames move less, root mean square over the field of view
UNLIKE = 3.0  # robust standard deviations: less similar frames are left out of the mean


class Estimate(NamedTuple):
    """The motion of a series.

    Args:
        reference: the image that the frames were aligned to.
        affines: reference world points → frame world points, of each frame.
        similarity: (T,) correlation of each frame with what the reference explains of it.
        contrasts: (T,) bool: frames of another contrast than the reference.
        passes: over the frames.
        mask: (I, J, K) bool on the reference, or None.
        warnings: one line each.
    """

    reference: Image
    affines: list[Affine]
    similarity: np.ndarray
    contrasts: np.ndarray
    passes: int
    mask: np.ndarray | None
    warnings: tuple[str, ...]


def estimate(
    frames: Frames, options: SeriesOptions, mask: str | Path | None, kept: Checkpoint, progress: Progress
) -> Estimate:
    """Register the frames of a series.

    Args:
        frames: of the series.
        options: the reference and the transform.
        mask: a file: where motion is estimated.
        kept: what an interrupted run has found.
        progress: called with a stage and the completed share.

    Raises:
        MaxcaError: for a reference, a mask or a frame that cannot be used, before any is aligned.
    """
    reference, start, warnings = _reference(frames, options)
    inside, doubts = _mask(mask, reference)
    frames.check(progress)
    steps = _Passes(frames, options, inside, kept, progress)
    fits = steps.align(reference, [start] * frames.count)
    if str(options.to) == "mean":
        reference, fits = steps.to_mean(reference, fits)
    contrasts = np.array([fit.contrast for fit in fits])
    similarity = np.array([fit.similarity for fit in fits])
    affines = [fit.affine for fit in fits]
    return Estimate(reference, affines, similarity, contrasts, steps.done, inside, (*warnings, *doubts))


class _Fit(NamedTuple):
    affine: Affine
    similarity: float
    contrast: bool


@dataclass(frozen=True, eq=False)
class _Tracker:
    """The reference as prepared for frames of its contrast, and for others when the first one occurs."""

    reference: Volume
    frames: Frames
    options: SeriesOptions

    @cached_property
    def linear(self) -> FrameAligner:
        return self._aligner("ncc")

    @cached_property
    def curved(self) -> FrameAligner:
        return self._aligner("cr")

    def __call__(self, frame: Tensor, starts: Sequence[Affine]) -> _Fit:
        wanted = self.options.similarity
        if wanted == "cr":
            return _fit(self.curved(frame, starts), True)
        fit = self.linear(frame, starts)
        # A curve cannot explain more of a frame than what a line has left.
        if wanted == "ncc" or 1 - fit.similarity**2 < BENT:
            return _fit(fit, False)
        other = self.curved(frame, starts)
        return _fit(other, True) if other.similarity**2 - fit.similarity**2 > BENT else _fit(fit, False)

    def _aligner(self, similarity: str) -> FrameAligner:
        rigid = self.options.transform == "rigid"
        return FrameAligner(
            self.reference, self.frames.grid, rigid=rigid, similarity="ncc" if similarity == "ncc" else "cr"
        )


class _Passes:
    """Passes over the frames of a series, one frame in memory."""

    def __init__(
        self,
        frames: Frames,
        options: SeriesOptions,
        mask: np.ndarray | None,
        kept: Checkpoint,
        progress: Progress,
    ) -> None:
        self.frames, self.options, self.mask, self.kept, self.progress = frames, options, mask, kept, progress
        self.done = 0
        self.covered: np.ndarray | None = None

    def align(self, reference: Image, starts: Sequence[Affine]) -> list[_Fit]:
        """Align every frame, from its start and from the motion of the frames before."""
        known = [each for each in (self.mask, self.covered) if each is not None]
        mask = torch.as_tensor(np.all(known, axis=0), dtype=torch.float32) if known else None
        values = normalise(torch.as_tensor(reference.data.astype(np.float32)))
        tracker = _Tracker(Volume(values, reference.grid, mask), self.frames, self.options)
        table = f"pass-{self.done}.jsonl"
        fits = [_Fit(Affine(np.array(matrix)), *scores) for matrix, *scores in self.kept.rows(table)]
        before = len(fits)
        for number, frame in enumerate(self.frames):
            self._say("aligning", number)
            if number >= before:
                fits.append(tracker(standardised(frame), _starts(starts[number], fits)))
                self.kept.add(table, [fits[-1].affine.matrix.tolist(), fits[-1].similarity, fits[-1].contrast])
        self.done += 1
        return fits

    def to_mean(self, reference: Image, fits: list[_Fit]) -> tuple[Image, list[_Fit]]:
        """Align to the mean of the aligned frames in their mean position, until most frames do not move."""
        corners = reference.grid.corners
        while self.done < PASSES:
            middle = mean_of([fit.affine for fit in fits], reference.grid.center).inverse()[0]
            before = [fit.affine @ middle for fit in fits]
            reference = self._mean(reference, fits, before)
            fits = self.align(reference, before)
            now, then = ([each.map_points(corners) for each in ones] for ones in ([fit.affine for fit in fits], before))
            moved = np.subtract(now, then)
            if np.median(np.sqrt(np.square(moved).sum(-1).mean(-1))) < STEADY * reference.grid.smallest_spacing:
                break
        return reference, fits

    def _mean(self, reference: Image, fits: Sequence[_Fit], affines: Sequence[Affine]) -> Image:
        """The mean of the frames that are as similar to the reference as most."""
        similarity = np.array([fit.similarity for fit in fits])
        spread = 1.4826 * np.median(np.abs(similarity - np.median(similarity)))
        kept = similarity >= np.median(similarity) - UNLIKE * spread
        total, seen = torch.zeros(2, *reference.grid.shape)  # of values, and of frames that see a voxel
        for number, frame in enumerate(self.frames):
            self._say("averaging", number)
            if kept[number]:
                values = standardised(frame)
                both = torch.stack([values, torch.ones_like(values)])
                there = Chain((affines[number],)).resample(both, frame.grid, reference.grid)
                total, seen = total + there[0], seen + there[1]
        self.covered = (seen >= kept.sum() / 2).numpy()  # what few frames see is as noisy as they are
        mean = (total / seen.clamp(min=1)).numpy()
        low = mean[self.covered].min()
        return replace(reference, data=np.where(seen > 0, mean - low, 0), path=None, intent=0, warnings=())

    def _say(self, what: str, number: int) -> None:
        # How many passes a mean needs is not known: each takes half of the rest.
        share = number / self.frames.count
        passes = self.done if str(self.options.to) == "mean" else 0
        done = (1 - 0.5**passes) + 0.5 ** (passes + 1) * share if str(self.options.to) == "mean" else share
        self.progress(f"{what} frame {number}", 0.7 * done)


def _fit(found: FrameFit, contrast: bool) -> _Fit:
    return _Fit(found.affine, found.similarity, contrast)


def _starts(given: Affine, fits: Sequence[_Fit]) -> list[Affine]:
    """Where the search for the motion of a frame begins: its start, that of the last frame, and its continuation."""
    if not fits:
        return [given]
    last = fits[-1].affine
    starts = [last, given]
    if len(fits) > 1:
        starts.append(last @ fits[-2].affine.inverse()[0] @ last)
    return starts


def reference_image(frames: Frames, options: SeriesOptions) -> tuple[Image, bool]:
    """The first reference, and whether it is a frame of the series.

    Raises:
        MaxcaError: for another image that cannot be one.
    """
    if str(options.to) == "mean":
        return frames.numbered(frames.count // 2), True
    if options.frame is not None:
        return frames.numbered(options.frame), True
    image = read(options.to)
    check_contrast(image)
    if len(image.grid.thin_axes) != len(frames.grid.thin_axes):
        raise MaxcaError(f"{image.name}: one of a slice and a volume, but {frames.series.path} is the other")
    return image, False


def rigidly(fixed: Image, moving: Image) -> Affine:
    """The rigid alignment of two images, fixed world points → moving world points."""
    first, second = (Volume(normalise(torch.as_tensor(i.data.astype(np.float32))), i.grid) for i in (fixed, moving))
    return align(first, second, AffineSettings(kind="rigid", thorough=False)).affine


def _reference(frames: Frames, options: SeriesOptions) -> tuple[Image, Affine, tuple[str, ...]]:
    """The first reference, and the affine from it to the first frame."""
    image, own = reference_image(frames, options)
    if own:
        return image, Affine.identity(), ()
    return image, rigidly(image, frames.numbered(0)), image.warnings


def _mask(path: str | Path | None, reference: Image) -> tuple[np.ndarray | None, tuple[str, ...]]:
    if path is None:
        return None, ()
    found = placed("mask", read(path), reference)
    inside, doubts = mask_of(found, "reference", reference)
    return inside, (*found.warnings, *doubts)
