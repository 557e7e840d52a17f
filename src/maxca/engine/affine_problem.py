"""The similarity of two images, or of several channels, as a function of an affine, and its local maxima."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from maxca.engine.channels import Channel
from maxca.engine.motion import Motion
from maxca.engine.volume import Volume, at_scale
from maxca.geometry import Affine, Grid
from maxca.geometry.warp import inside, sample, sample_with_gradient, transform_coordinates, voxel_coordinates
from maxca.losses.score import Score
from maxca.losses.similarity import MutualInformation, similarity_measure

Metric = Callable[[Tensor, Tensor], Score]

SAMPLES = 100_000  # most samples per level: more change the optimum of a head by less than a tenth of a millimetre
BINS = 32  # bins of the fixed intensities, for the correlation ratio
BENT = 0.08  # see ``AffineProblem.bend``: at most 0.06 within one contrast, at least 0.10 between T1 and T2 or FLAIR
MIN_OVERLAP = 0.1  # of the fixed samples: smallest overlap for a similarity
DIGITS = 9  # of a matrix, in voxels: the last bit of a product depends on the memory alignment of its factors


class Pull(NamedTuple):
    """The negative similarity, and its derivatives by a linear map (3, 3) and a shift (3,) in units."""

    value: float
    of_linear: np.ndarray
    of_shift: np.ndarray


class Problem(Protocol):
    """A similarity to maximise over affines."""

    @property
    def mm(self) -> float:
        """Distance of the samples."""

    @property
    def scale(self) -> tuple[tuple[int, int, int], ...]:
        """Sizes of the images at this scale: problems with equal ones are equal."""

    @property
    def frame(self) -> AffineProblem:
        """The problem of the images, or of the first channel that is used."""

    def similarity(self, affine: Affine) -> float:
        """Under ``affine``; 0 if the images hardly overlap."""
        ...

    def around(self, start: Affine) -> Callable[[np.ndarray, np.ndarray], Pull]:
        """The pull under a linear map and a shift, both in units about the centre, before ``start``."""
        ...

    def bends(self, affine: Affine) -> list[float]:
        """Of each channel, see ``AffineProblem.bend``."""
        ...

    def maximise(self, start: Affine, *, rigid: bool, steps: int = 40) -> Affine:
        """The local maximum near ``start``, by L-BFGS."""
        ...


class AffineProblem:
    """Mutual information of samples about ``mm`` apart, as a function of an affine.

    Args:
        fixed: the fixed image.
        moving: the moving image.
        mm: distance of the samples.
        seed: of the choice of samples where there are too many.
        like: a problem of another channel, on the same fixed grid, whose centre is used.
    """

    def __init__(self, fixed: Volume, moving: Volume, mm: float, seed: int, like: AffineProblem | None = None) -> None:
        self.mm = mm
        self.fixed = lattice = at_scale(fixed, mm)
        self.moving = at_scale(moving, mm)
        self.scale = lattice.grid.shape, self.moving.grid.shape
        device = lattice.values.device
        index = _wanted(lattice)
        if len(index) > SAMPLES:
            chosen = torch.randperm(len(index), generator=torch.Generator().manual_seed(seed))[:SAMPLES]
            index = index[chosen.sort().values.to(device)]
        self.unit = fixed.grid.smallest_spacing
        self.stretch = moving.grid.smallest_spacing / self.unit
        # Relative to the first voxel, because the world origin may be far away.
        points = index.cpu().numpy() @ lattice.grid.affine[:3, :3].T
        self.middle: np.ndarray = _rounded(points.mean(0), self.unit) if like is None else like.middle
        self.center = lattice.grid.origin + self.middle
        offsets = (points - self.middle) / self.unit
        self.radius = float(np.sqrt((offsets**2).sum(1).mean()))
        self.offsets = torch.as_tensor(offsets.T, dtype=torch.float32, device=device)
        self.values = lattice.values[index.unbind(1)]
        self.metric: Metric = MutualInformation(self.values)
        self.plane = plane_of(fixed.grid)
        self.known: dict[bytes, float] = {}

    @property
    def frame(self) -> AffineProblem:
        """See ``Problem``."""
        return self

    def similarity(self, affine: Affine) -> float:
        """Mutual information under ``affine``, in nats; 0 if the images hardly overlap."""
        key = affine.matrix.tobytes()
        if key not in self.known:
            with torch.no_grad():
                warped, _, weight = self._warp(*self._to_index(affine))
                self.known[key] = _overlapping(self.metric(warped, weight), weight)
        return self.known[key]

    def bend(self, affine: Affine) -> float:
        """Nonlinearity of the intensity relation: the variance explained by the best curve minus that by the best line.

        The correlation ratio (Roche et al., MICCAI 1998) minus the squared correlation.
        """
        with torch.no_grad():
            warped, _, weight = self._warp(*self._to_index(affine))
            seen = weight > 0.5
            fixed, moving = self.values[seen].double(), warped[seen].double()
            if len(fixed) < 2 or fixed.std() == 0 or moving.std() == 0:
                return 0.0
            line = float(torch.corrcoef(torch.stack([fixed, moving]))[0, 1]) ** 2
            bins = (fixed * (BINS - 1)).round().long()
            count = torch.bincount(bins, minlength=BINS).clamp(min=1)
            curve = (torch.bincount(bins, weights=moving, minlength=BINS) / count)[bins]
            return 1 - float(((moving - curve) ** 2).mean() / moving.var(correction=0)) - line

    def bends(self, affine: Affine) -> list[float]:
        """See ``Problem``."""
        return [self.bend(affine)]

    def maximise(self, start: Affine, *, rigid: bool, steps: int = 40) -> Affine:
        """See ``Problem``."""
        return _maximum(self, self, start, rigid=rigid, steps=steps)

    def around(self, start: Affine) -> Callable[[np.ndarray, np.ndarray], Pull]:
        """See ``Problem``."""
        turn, origin = self._to_index(start)
        known = start.matrix.tobytes()

        def pull(linear: np.ndarray, shift: np.ndarray) -> Pull:
            warped, slopes, weight = self._warp(turn @ linear, origin + turn @ shift)
            score = self.metric(warped, weight)
            if known not in self.known and not shift.any() and np.array_equal(linear, np.eye(3)):
                self.known[known] = _overlapping(score, weight)
            pulls = slopes * (score.gradient / -warped.numel())
            of_linear = (pulls @ self.offsets.T).double().cpu().numpy()
            of_shift = pulls.sum(dim=1).double().cpu().numpy()
            return Pull(-float(score.value), turn.T @ of_linear, turn.T @ of_shift)

        return pull

    def rounded(self, start: Affine, linear: np.ndarray, shift: np.ndarray) -> Affine:
        """``start`` after a linear map about the centre and a shift, with rounded coefficients."""
        matrix = np.eye(4)
        matrix[:3, :3] = start.matrix[:3, :3] @ linear
        matrix[:3, :3] = _rounded(matrix[:3, :3], self.stretch)
        # The motion of the centre is rounded, so that the map does not depend on the world origin.
        motion = _rounded(start.map_points(self.center + shift) - self.center, self.unit)
        a, b, c = (matrix[:3, axis] * self.center[axis] for axis in range(3))
        matrix[:3, 3] = motion + self.center - (a + b + c)
        return Affine(matrix)

    def _to_index(self, affine: Affine) -> tuple[np.ndarray, np.ndarray]:
        """From fixed points, in units from the centre, to moving voxels: a (3, 3) matrix and a shift (3,)."""
        to_voxel = self.moving.grid.world_to_voxel[:3, :3]
        middle = to_voxel @ (affine.map_points(self.center) - self.moving.grid.origin)
        return to_voxel @ affine.matrix[:3, :3] * self.unit, _rounded(middle, 1.0)

    def _warp(self, linear: np.ndarray, shift: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Moving values (N,) at the fixed points, their derivatives (3, N) by moving voxels, and weights (N,)."""
        matrix, origin = (
            torch.as_tensor(each, dtype=torch.float32, device=self.offsets.device) for each in (linear, shift)
        )
        index = torch.addmm(origin[:, None], matrix, self.offsets)
        warped, slopes = sample_with_gradient(self.moving.values, index)
        index = index.view(1, 3, -1, 1, 1)
        weight = inside(index, self.moving.values.shape).flatten().float()
        if self.moving.mask is not None:
            weight = weight * sample(self.moving.mask[None, None], index).flatten()
        return warped, slopes, weight


class LocalProblem(AffineProblem):
    """Local NCC on a grid, as a function of an affine; see ``AffineProblem``."""

    def __init__(
        self, fixed: Volume, moving: Volume, mm: float, seed: int = 0, like: AffineProblem | None = None
    ) -> None:
        super().__init__(fixed, moving, mm, seed, like)
        lattice = at_scale(fixed, mm)
        nodes = voxel_coordinates(lattice.grid.shape, lattice.values.device)
        to_offset = lattice.grid.affine.copy()
        to_offset[:3, 3] = -self.middle
        to_offset[:3] /= self.unit
        self.offsets = transform_coordinates(to_offset, nodes)[0].flatten(1)
        measure = similarity_measure("lncc", lattice.values, lattice.grid, lattice.mask)

        def metric(warped: Tensor, weight: Tensor) -> Score:
            score = measure((warped * weight).view(lattice.values.shape))
            return Score(score.value, score.gradient.flatten() * weight)

        self.metric = metric


class JointProblem:
    """The weighted mean of the similarities of several channels, as a function of one affine.

    Args:
        channels: of the pair, all on one fixed grid; those of weight 0 are ignored.
        kind: of the problem of each.
        mm: distance of the samples.
        seed: see ``AffineProblem``.
    """

    def __init__(self, channels: Sequence[Channel], kind: type[AffineProblem], mm: float, seed: int) -> None:
        used = [channel for channel in channels if channel.weight > 0]
        self.frame = kind(used[0].fixed, used[0].moving, mm, seed)
        others = [kind(channel.fixed, channel.moving, mm, seed, self.frame) for channel in used[1:]]
        self.parts = [self.frame, *others]
        total = sum(channel.weight for channel in used)
        self.weights = [channel.weight / total for channel in used]
        self.mm, self.scale = mm, tuple(size for part in self.parts for size in part.scale)

    def similarity(self, affine: Affine) -> float:
        """See ``Problem``."""
        return sum(w * part.similarity(affine) for w, part in zip(self.weights, self.parts, strict=True))

    def bends(self, affine: Affine) -> list[float]:
        """See ``Problem``."""
        return [part.bend(affine) for part in self.parts]

    def maximise(self, start: Affine, *, rigid: bool, steps: int = 40) -> Affine:
        """See ``Problem``."""
        return _maximum(self, self.frame, start, rigid=rigid, steps=steps)

    def around(self, start: Affine) -> Callable[[np.ndarray, np.ndarray], Pull]:
        """See ``Problem``."""
        parts = [part.around(start) for part in self.parts]

        def pull(linear: np.ndarray, shift: np.ndarray) -> Pull:
            pulls = [part(linear, shift) for part in parts]
            weights = np.array(self.weights)
            of_linear = np.tensordot(weights, [each.of_linear for each in pulls], 1)
            of_shift = np.tensordot(weights, [each.of_shift for each in pulls], 1)
            return Pull(sum(w * each.value for w, each in zip(self.weights, pulls, strict=True)), of_linear, of_shift)

        return pull


@torch.no_grad()
def _maximum(problem: Problem, frame: AffineProblem, start: Affine, *, rigid: bool, steps: int) -> Affine:
    """The local maximum of a problem near ``start``; the parameters are relative to the centre of ``frame``."""
    motion = Motion(frame.radius, rigid, frame.plane)
    pull = problem.around(start)

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        value, of_linear, of_shift = pull(*motion(numbers))
        return value, motion.gradient(numbers, of_linear, of_shift)

    # Not torch's L-BFGS: its first use imports a compiler, which takes longer than the optimisation.
    best = minimize(
        loss,
        np.zeros(motion.size),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": steps, "maxfun": steps * 5 // 4, "ftol": 1e-5, "gtol": 1e-7},
    )
    linear, shift = motion(best.x)
    found = frame.rounded(start, linear, shift * frame.unit)
    return found if problem.similarity(found) > problem.similarity(start) else start


def _wanted(lattice: Volume) -> Tensor:
    """(N, 3) voxels inside the mask; of a mask smaller than a voxel, those it touches most, and all without one."""
    if lattice.mask is None or not bool(lattice.mask.any()):
        return torch.nonzero(torch.ones_like(lattice.values))
    return torch.nonzero(lattice.mask > min(0.5, float(lattice.mask.max()) / 2))


def _overlapping(score: Score, weight: Tensor) -> float:
    """The similarity; 0 if the images hardly overlap."""
    return float(score.value) if float(weight.mean()) >= MIN_OVERLAP else 0.0


def _rounded(values: np.ndarray, unit: float) -> np.ndarray:
    """Values rounded to ``DIGITS`` decimals in multiples of a unit, independent of the unit of length."""
    return np.asarray(np.round(values / unit, DIGITS) * unit)


def best_of(problem: Problem, starts: list[Affine], score: Callable[[Affine], float] | None = None) -> Affine:
    """The best rigid optimum from the most promising initialisations.

    Args:
        problem: whose similarity is maximised.
        starts: fixed world points → moving world points.
        score: by which the optima are compared, by default the similarity.
    """
    score = score or problem.similarity
    tried = [problem.maximise(start, rigid=True, steps=4) for start in starts]
    promising = sorted(tried, key=score, reverse=True)[:3]
    return max((problem.maximise(start, rigid=True) for start in promising), key=score)


def spacing_of(grid: Grid, count: int) -> float:
    """Spacing in mm of a lattice over ``grid`` with about ``count`` nodes."""
    extent = [n * s for n, s in zip(grid.shape, grid.spacing, strict=True) if n > 1]
    return float((np.prod(extent) / count) ** (1 / len(extent)))


def plane_of(grid: Grid) -> np.ndarray | None:
    """Unit vectors (3, 2) of the plane of a 2-D image, None in 3-D."""
    if not grid.thin_axes:
        return None
    inside_plane = [axis for axis in range(3) if axis not in grid.thin_axes]
    return np.asarray(grid.direction[:, inside_plane])
