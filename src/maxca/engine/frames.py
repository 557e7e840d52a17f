"""Rigid and affine motion of the frames of a series: Gauss-Newton steps on a reference that is prepared once.

The update is inverse compositional (Baker and Matthews, IJCV 56(3), 2004): the derivatives are those of the reference,
so that a step costs one interpolation of the frame and one linear regression. The regression also explains the
intensities of the frame by those of the reference: by a straight line, whose residual is that of the correlation
coefficient, or by a curve, whose residual is that of the correlation ratio (Roche et al., MICCAI 1998).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from maxca.engine.affine_problem import plane_of, spacing_of
from maxca.engine.motion import Motion
from maxca.engine.volume import Steps, Volume, steps_to
from maxca.geometry import Affine, Grid
from maxca.geometry.separable import Separable, gaussian, per_axis
from maxca.geometry.warp import sample

FrameSimilarity = Literal["ncc", "cr"]

COUNTS = (1_000, 8_000, 250_000)  # nodes of the reference at each level
BLURS = (0.5, 0.5, 0.4)  # σ in nodes at each level: interpolation smooths an image with less differently at each motion
MOST_STEPS = (8, 8, 10)  # Gauss-Newton steps at each level
BAND = 2.0  # σ in nodes: what is smoother is removed for the second solution at the finest level
BAND_STEPS = 4
MORE = 4  # times as many steps between contrasts, where the curve is only found with the motion
TRIED = 2  # steps from each start, of which the best is continued
SETTLED = (0.05, 0.05, 0.004)  # voxels: a smaller step ends a level
SAMPLES = 60_000  # of the reference, those with the largest gradients
KNOTS = 9  # of the piecewise linear curve of the correlation ratio
OUTLYING = 3.0  # robust standard deviations of the residual: samples beyond have hardly any weight
WORSE = 0.02  # of the similarity, in which artefacts count, but not in the steps: a larger loss is no alignment
LEAST = 0.25  # of the samples within the field of view of a frame


class FrameFit(NamedTuple):
    """The motion of a frame.

    Args:
        affine: reference world points → frame world points.
        similarity: correlation of the frame and the intensities explained by the reference, from 0 to 1.
        error: standard error of the motion in voxels, if the residual were white noise.
    """

    affine: Affine
    similarity: float
    error: float = np.inf


@dataclass(frozen=True, eq=False)
class _Level:
    """Samples of the reference at one scale, and how frames are brought to it.

    Args:
        offsets: (3, N) from the centre, in units.
        values: (N,) of the reference.
        columns: (N, P) derivatives of the reference by the parameters of the motion.
        curve: (N, B) the reference and 1, or hat functions of it: what intensities are explained by.
        shrink: smooths and subsamples a frame.
        grid: of the subsampled frame.
        margin: nodes at its border that are not compared.
        most: Gauss-Newton steps.
        settled: voxels: a smaller step is the last.
    """

    offsets: Tensor
    values: Tensor
    columns: Tensor
    curve: Tensor
    shrink: Callable[[Tensor], Tensor]
    grid: Grid
    margin: float
    most: int
    settled: float


class FrameAligner:
    """A reference to which frames are aligned one after the other.

    Args:
        reference: prepared; its mask says where frames are compared.
        frames: the grid of the frames.
        rigid: a rotation and a shift, otherwise an affine.
        similarity: ``"ncc"`` if the intensities of frames are a linear function of those of the reference, ``"cr"`` if
            their contrast differs.
    """

    def __init__(self, reference: Volume, frames: Grid, *, rigid: bool, similarity: FrameSimilarity) -> None:
        grid = reference.grid
        self.similarity, self.more = similarity, MORE if similarity == "cr" else 1
        self.unit, self.center = grid.smallest_spacing, grid.center
        extent = np.array([n * s for n, s in zip(grid.shape, grid.spacing, strict=True) if n > 1])
        self.motion = Motion(float(np.sqrt((extent**2).sum() / 12)) / self.unit, rigid, plane_of(grid))
        finest = steps_to(grid, spacing_of(grid, COUNTS[-1]))
        scales = {steps_to(grid, spacing_of(grid, count)): number for number, count in enumerate(COUNTS)}
        self.levels = [self._level(reference, frames, number) for number in scales.values()]
        # A curve between intensities is none between what is left of them without their smooth part.
        self.band = self._level(reference, frames, scales[finest], band=True) if similarity == "ncc" else None

    @torch.no_grad()
    def __call__(self, frame: Tensor, starts: Sequence[Affine]) -> FrameFit:
        """Align a frame.

        The finest level is solved twice, with and without the smooth part of the images, and the solution with the
        smaller standard error is taken: artefacts such as spikes of k-space are smooth, weak images need all of their
        content.

        Args:
            frame: (I, J, K) on the grid of the frames, of mean 0 and standard deviation 1.
            starts: reference world points → frame world points; the one that leads to the most similarity counts.
        """
        scales = [(level, level.shrink(frame)) for level in self.levels]
        first, values = scales[0]
        if self.similarity == "ncc" and len(starts) > 1:
            tried = [self._ascend(first, values, start, TRIED) for start in starts]
            starts = [max(tried, key=lambda one: one.similarity).affine]
        # Between contrasts, coarse scales do not tell which start is the best.
        ends = []
        for start in starts:
            fit = FrameFit(start, 0.0)
            for level, values in scales:
                fit = self._ascend(level, values, fit.affine, level.most)
            ends.append(fit)
        fit = max(ends, key=lambda one: one.similarity)
        if self.band is None:
            return fit
        sharp = self._ascend(self.band, self.band.shrink(frame), fit.affine, BAND_STEPS)
        return fit if sharp.error > fit.error else fit._replace(affine=sharp.affine, error=sharp.error)

    def _ascend(self, level: _Level, frame: Tensor, start: Affine, most: int) -> FrameFit:
        """Gauss-Newton steps from a start, which end when they are small; the start if they lead to less similarity."""
        first, affine = FrameFit(start, 0.0), start
        last = first
        for step in range(most + 1):
            values, weight = self._sampled(level, frame, affine)
            if float(weight.mean()) < LEAST:
                return first
            found, similarity, error = _regression(level, values, weight)
            last = FrameFit(affine, similarity, error)
            first = first if step else last
            if step == most or float(np.abs(found).max()) < level.settled:
                break
            affine = self._moved(affine, *self.motion(-found))
        return last if last.similarity > first.similarity - WORSE else first

    def _moved(self, affine: Affine, linear: np.ndarray, shift: np.ndarray) -> Affine:
        """An affine after a linear map about the centre and a shift in units."""
        matrix = np.eye(4)
        matrix[:3, :3] = linear
        matrix[:3, 3] = self.center + shift * self.unit - linear @ self.center
        return affine @ Affine(matrix)

    def _sampled(self, level: _Level, frame: Tensor, affine: Affine) -> tuple[Tensor, Tensor]:
        """Values (N,) of a frame at the samples under an affine, and whether they are in its field of view."""
        to_voxel = level.grid.world_to_voxel[:3, :3]
        origin = to_voxel @ (affine.map_points(self.center) - level.grid.origin)
        linear = to_voxel @ affine.matrix[:3, :3] * self.unit
        index = torch.addmm(_float(origin)[:, None], _float(linear), level.offsets)
        found = sample(frame[None, None], index.view(1, 3, -1, 1, 1), padding="border").flatten()
        # Beyond the margins, but across an axis of one node there is none.
        low = _float(np.array([level.margin - 0.5 if n > 1 else -0.5 for n in frame.shape]))[:, None]
        high = _float(np.array(frame.shape) - 1.0)[:, None] - low
        return found, ((index >= low) & (index <= high)).all(dim=0).float()

    def _level(self, reference: Volume, frames: Grid, number: int, band: bool = False) -> _Level:
        mm = spacing_of(reference.grid, COUNTS[number])
        steps, strides = steps_to(reference.grid, mm), steps_to(frames, mm)
        shrink = _shrink(reference.grid, steps, BLURS[number], band)
        values, grid = shrink(reference.values), reference.grid.every(steps)
        slopes = _world_gradient(values, grid) * self.unit
        size = slopes.square().sum(0)
        if reference.mask is not None:
            size = size * (_shrink(reference.grid, steps, BLURS[number])(reference.mask) > 0.5)
        margin = BAND if band else 0.0
        count = min(SAMPLES, int((size > 0).sum()))
        index = torch.topk(size.flatten(), count).indices.sort().values
        nodes = np.stack(np.unravel_index(index.numpy(), grid.shape), axis=1)
        points = _float((grid.to_world(nodes) - self.center).T / self.unit)
        here, gradient = values.flatten()[index], slopes.flatten(1)[:, index]
        columns = [_float(axis) @ gradient for axis in self.motion.axes.T]
        columns += [(gradient * (_float(each) @ points)).sum(0) for each in self.motion.generators]
        curve = _hats(here) if self.similarity == "cr" else torch.stack([here, torch.ones_like(here)], dim=1)
        of_frames = _shrink(frames, strides, BLURS[number], band)
        stacked = torch.stack(columns, dim=1)
        ends = margin, MOST_STEPS[number] * self.more, SETTLED[number] / self.more
        return _Level(points, here, stacked, curve, of_frames, frames.every(strides), *ends)


def _regression(level: _Level, values: Tensor, weight: Tensor) -> tuple[np.ndarray, float, float]:
    """The step that explains a frame best, the correlation before it, and its standard error in voxels.

    In the step, samples with a large residual, as in a slice without signal, have hardly any weight (Geman and
    McClure, 1985); in the correlation they have.
    """
    curve = level.curve
    residual = values - curve @ _solve(curve, values, weight)[0]
    mean = (weight * values).sum() / weight.sum()
    spread = (weight * (values - mean).square()).sum().clamp(min=1e-12)
    similarity = float((1 - (weight * residual.square()).sum() / spread).clamp(min=0).sqrt())
    for _ in range(2):
        robust = weight / (1 + (residual / (OUTLYING * _scale(residual))).square()).square()
        fitted = _solve(curve, values, robust)[0]
        residual = values - curve @ fitted
    count = level.columns.shape[1]
    columns = torch.cat([level.columns * _slope(level, fitted)[:, None], curve], dim=1)
    solved, inverse = _solve(columns, values, robust)
    left = (robust * residual.square()).sum().double() / robust.sum()
    error = float((inverse.diagonal()[:count].sum() * left).sqrt())
    return solved[:count].double().numpy(), similarity, error


def _scale(residual: Tensor) -> float:
    """A robust standard deviation."""
    return 1.4826 * float(residual.abs().median()) + 1e-6


def _solve(columns: Tensor, values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted least squares, with a trace of regularisation for columns that are 0; and the inverse normal matrix."""
    weighted = (columns * weight[:, None]).T
    normal, right = (weighted @ columns).double(), (weighted @ values).double()
    inverse = torch.linalg.inv(normal + torch.diag(1e-6 * normal.diagonal().clamp(min=1e-12)))
    return (inverse @ right).float(), inverse


def _slope(level: _Level, fitted: Tensor) -> Tensor:
    """(N,) derivative of the fitted curve at the values of the reference."""
    if level.curve.shape[1] == 2:
        return fitted[:1].expand(len(level.values))
    rises = torch.diff(fitted) * (KNOTS - 1)
    return rises[(level.values.clamp(0, 1) * (KNOTS - 1)).long().clamp(max=KNOTS - 2)]


def _hats(values: Tensor) -> Tensor:
    """(N, KNOTS) hat functions over [0, 1]."""
    place = values.clamp(0, 1)[:, None] * (KNOTS - 1) - torch.arange(KNOTS)
    return (1 - place.abs()).clamp(min=0)


def _shrink(grid: Grid, steps: Steps, blur: float, band: bool = False) -> Callable[[Tensor], Tensor]:
    """Smoothing and subsampling of an image on a grid; with ``band``, less what is smooth."""

    def smoothing(sigma: float) -> Separable:
        sigmas = [sigma * step if n > 1 else 0.0 for step, n in zip(steps, grid.shape, strict=True)]
        return per_axis(gaussian, grid.shape, steps, sigmas)

    fine = smoothing(blur)
    if not band:
        return fine
    coarse = smoothing(BAND)
    return lambda values: fine(values) - coarse(values)


def _world_gradient(values: Tensor, grid: Grid) -> Tensor:
    """(3, I, J, K) derivatives by world coordinates, from central differences."""
    along = [
        torch.gradient(values, dim=axis)[0] if n > 1 else torch.zeros_like(values)
        for axis, n in enumerate(values.shape)
    ]
    return torch.tensordot(_float(grid.world_to_voxel[:3, :3].T), torch.stack(along), dims=1)


def _float(values: np.ndarray) -> Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)
