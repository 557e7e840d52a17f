"""Rigid and affine registration.

SimpleITK is not used because its multi-threaded metrics sum in the order in which threads finish: two runs differ from
the fifth digit on, but an identical command must give identical files. This implementation is also several times
faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from torch import Tensor

from maxca.engine.motion import Motion
from maxca.engine.volume import Volume, at_scale
from maxca.geometry import Affine, Grid
from maxca.geometry.warp import inside, sample, sample_with_gradient, transform_coordinates, voxel_coordinates
from maxca.losses.score import Score
from maxca.losses.similarity import SIMILARITIES, MutualInformation, similarity_measure

AffineKind = Literal["rigid", "affine", "initial"]
Start = Literal["auto", "header", "center"]
Metric = Callable[[Tensor, Tensor], Score]

SCALES = (8_000, 64_000, 400_000)  # samples of the fixed image at each level: 8, 4 and 2 mm apart in a head
LOCAL = 64_000  # samples of local NCC
SAMPLES = 100_000  # iterations per level: more change the optimum of a head by less than a tenth of a millimetre
ANGLES = (25.0, 50.0)  # degrees around each axis of additional initialisations; the capture range is about half as wide
BINS = 32  # bins of the fixed intensities, for the correlation ratio
BENT = 0.08  # see ``AffineProblem.bend``: at most 0.06 within one contrast, at least 0.10 between T1 and T2 or FLAIR
MIN_OVERLAP = 0.1  # of the fixed samples: smallest overlap for a similarity
DIGITS = 9  # of a matrix, in voxels: the last bit of a product depends on the memory alignment of its factors


@dataclass(frozen=True)
class Alignment:
    """An affine and the reason for it.

    Args:
        affine: fixed world points to moving world points.
        chosen: ``"affine"``, ``"rigid"`` or ``"header"``.
        reason: one sentence for the log.
        similarity: that of each candidate: mutual information in nats, or local NCC.
        same_contrast: whether a straight line predicts the intensities of one image from those of the other about as
            well as any curve; false for T1 and T2, or T1 and FLAIR.
    """

    affine: Affine
    chosen: str
    reason: str
    similarity: dict[str, float]
    same_contrast: bool


@dataclass(frozen=True)
class AffineSettings:
    """How to search for an affine.

    Args:
        kind: ``"rigid"`` stops at six parameters, ``"initial"`` keeps the initial affine, by default the headers.
        similarity: what the registration as a whole maximises.
        start: ``"header"`` begins with the positions in the files, ``"center"`` with the centres of mass on each other,
            ``"auto"`` tries both.
        thorough: search from rotations of up to 50° rather than 25°, and end at a finer scale.
        seed: of the choice of samples where there are too many.
    """

    kind: AffineKind = "affine"
    similarity: str = "lncc"
    start: Start = "auto"
    thorough: bool = True
    seed: int = 0


def align(
    fixed: Volume,
    moving: Volume,
    settings: AffineSettings | None = None,
    *,
    initial: Affine | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Alignment:
    """Estimate the affine between two images.

    Mutual information, rigid first, from several initialisations, then affine, each from coarse to fine. If the
    deformation will maximise local NCC, and the contrast of the images is the same, the affine ends with local NCC too.
    If the images are more similar before registration (or under ``initial``), that transform is returned.

    Args:
        fixed: the fixed image.
        moving: the moving image.
        settings: of the search.
        initial: initial affine, fixed to moving world points, in place of a search.
        progress: called with a message at each stage.

    Returns:
        The affine, fixed world points → moving world points, and the reason for it.
    """
    settings = settings or AffineSettings()
    kind = settings.kind
    header = initial or _header(fixed, moving)
    if kind == "initial":
        kept = AffineProblem(fixed, moving, _apart(fixed.grid, SCALES[1]), settings.seed)
        bent = kept.bend(header) >= BENT
        return Alignment(
            header, "header", "the initial transform is kept", {"header": kept.similarity(header)}, not bent
        )
    scales, angles = (SCALES, ANGLES) if settings.thorough else (SCALES[:-1], ANGLES[:1])
    problems = [AffineProblem(fixed, moving, _apart(fixed.grid, count), settings.seed) for count in scales]
    first, *finer = {problem.scale: problem for problem in problems}.values()  # those of a small image are equal
    progress("searching an initialisation")
    found = _search(first, _starts(fixed, moving, initial, settings.start, angles))
    for problem in finer:
        progress(f"rigid at {problem.mm:.2g} mm")
        found = problem.maximise(found, rigid=True)
    for problem in (finer or [first]) if kind == "affine" else []:
        progress(f"affine at {problem.mm:.2g} mm")
        found = problem.maximise(found, rigid=False)
    judge: AffineProblem = problems[-1]
    name = "mutual information"
    same_contrast = problems[1].bend(found) < BENT
    if SIMILARITIES[settings.similarity].refines_affine and same_contrast:
        progress("refining the affine")
        judge, name = _LocalProblem(fixed, moving, _apart(fixed.grid, LOCAL)), "local correlation"
        found = judge.maximise(found, rigid=kind == "rigid")
    scores = {"header": judge.similarity(header), kind: judge.similarity(found)}
    if scores[kind] > scores["header"]:
        return Alignment(found, kind, f"the {kind} transform has the higher {name}", scores, same_contrast)
    return Alignment(header, "header", f"the {kind} search did not raise the {name}", scores, same_contrast)


class AffineProblem:
    """Mutual information of samples about ``mm`` apart, as a function of an affine."""

    def __init__(self, fixed: Volume, moving: Volume, mm: float, seed: int) -> None:
        self.mm = mm
        lattice = at_scale(fixed, mm)
        self.moving = at_scale(moving, mm)
        self.scale = lattice.grid.shape, self.moving.grid.shape
        device = lattice.values.device
        wanted = torch.ones_like(lattice.values) if lattice.mask is None else lattice.mask
        index = torch.nonzero(wanted > 0.5)
        if len(index) > SAMPLES:
            chosen = torch.randperm(len(index), generator=torch.Generator().manual_seed(seed))[:SAMPLES]
            index = index[chosen.sort().values.to(device)]
        self.unit = fixed.grid.smallest_spacing
        self.stretch = moving.grid.smallest_spacing / self.unit
        # Relative to the first voxel, because the world origin may be far away.
        points = index.cpu().numpy() @ lattice.grid.affine[:3, :3].T
        self.middle = _rounded(points.mean(0), self.unit)
        self.center = lattice.grid.origin + self.middle
        offsets = (points - self.middle) / self.unit
        self.radius = float(np.sqrt((offsets**2).sum(1).mean()))
        self.offsets = torch.as_tensor(offsets.T, dtype=torch.float32, device=device)
        self.values = lattice.values[index.unbind(1)]
        self.metric: Metric = MutualInformation(self.values)
        self.plane = _plane(fixed.grid)
        self.known: dict[bytes, float] = {}

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

    @torch.no_grad()
    def maximise(self, start: Affine, *, rigid: bool, steps: int = 40) -> Affine:
        """The local maximum near ``start``, by L-BFGS."""
        motion = Motion(self.radius, rigid, self.plane)
        turn, origin = self._to_index(start)
        known = start.matrix.tobytes()

        def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
            linear, shift = motion(numbers)
            warped, slopes, weight = self._warp(turn @ linear, origin + turn @ shift)
            score = self.metric(warped, weight)
            if known not in self.known and not numbers.any():  # the first evaluation is at ``start``
                self.known[known] = _overlapping(score, weight)
            pulls = slopes * (score.gradient / -warped.numel())
            of_linear = (pulls @ self.offsets.T).double().cpu().numpy()
            of_shift = pulls.sum(dim=1).double().cpu().numpy()
            return -float(score.value), motion.gradient(numbers, turn.T @ of_linear, turn.T @ of_shift)

        # Not torch's L-BFGS: its first use imports a compiler, which takes longer than the optimisation.
        best = minimize(
            loss,
            np.zeros(motion.size),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": steps, "maxfun": steps * 5 // 4, "ftol": 1e-5, "gtol": 1e-7},
        )
        linear, shift = motion(best.x)
        found = self._rounded(start, linear, shift * self.unit)
        return found if self.similarity(found) > self.similarity(start) else start

    def _rounded(self, start: Affine, linear: np.ndarray, shift: np.ndarray) -> Affine:
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


class _LocalProblem(AffineProblem):
    """Local NCC on a grid, as a function of an affine."""

    def __init__(self, fixed: Volume, moving: Volume, mm: float) -> None:
        super().__init__(fixed, moving, mm, seed=0)
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


def _overlapping(score: Score, weight: Tensor) -> float:
    """The similarity; 0 if the images hardly overlap."""
    return float(score.value) if float(weight.mean()) >= MIN_OVERLAP else 0.0


def _rounded(values: np.ndarray, unit: float) -> np.ndarray:
    """Values rounded to ``DIGITS`` decimals in multiples of a unit, independent of the unit of length."""
    return np.asarray(np.round(values / unit, DIGITS) * unit)


def _apart(grid: Grid, count: int) -> float:
    """Spacing in mm of a lattice over ``grid`` with about ``count`` nodes."""
    extent = [n * s for n, s in zip(grid.shape, grid.spacing, strict=True) if n > 1]
    return float((np.prod(extent) / count) ** (1 / len(extent)))


def _plane(grid: Grid) -> np.ndarray | None:
    """Unit vectors (3, 2) of the plane of a 2-D image, None in 3-D."""
    if not grid.thin_axes:
        return None
    inside_plane = [axis for axis in range(3) if axis not in grid.thin_axes]
    return np.asarray(grid.direction[:, inside_plane])


def _header(fixed: Volume, moving: Volume) -> Affine:
    """The alignment by the headers; a 2-D image is moved into the plane of the other."""
    matrix = np.eye(4)
    for axis in fixed.grid.thin_axes:
        normal = fixed.grid.direction[:, axis]
        matrix[:3, 3] += normal * (normal @ (moving.grid.origin - fixed.grid.origin))
    return Affine(matrix)


def _starts(
    fixed: Volume, moving: Volume, initial: Affine | None, start: Start, angles: Sequence[float]
) -> list[Affine]:
    """The initialisations: translations, each also rotated by each of ``angles`` around every axis."""
    if initial is not None:
        return [initial]
    center = _center_of_mass(fixed)
    header = _header(fixed, moving).matrix[:3, 3]
    shifts = []
    if start != "center":
        shifts.append(header)
    if start != "header":
        shifts.append(_center_of_mass(moving) - center)
    axes = np.eye(3) if not fixed.grid.thin_axes else fixed.grid.direction[:, list(fixed.grid.thin_axes)].T
    turns = [np.zeros(3), *(angle * axis for axis in axes for size in angles for angle in (size, -size))]
    starts = []
    for shift in shifts:
        for turn in turns:
            matrix = np.eye(4)
            matrix[:3, :3] = Rotation.from_rotvec(turn, degrees=True).as_matrix()
            matrix[:3, 3] = center + shift - matrix[:3, :3] @ center
            starts.append(Affine(matrix))
    return starts


def _search(problem: AffineProblem, starts: list[Affine]) -> Affine:
    """The best optimum from the most promising initialisations."""
    tried = [problem.maximise(start, rigid=True, steps=4) for start in starts]
    promising = sorted(tried, key=problem.similarity, reverse=True)[:3]
    return max((problem.maximise(start, rigid=True) for start in promising), key=problem.similarity)


def _center_of_mass(volume: Volume) -> np.ndarray:
    """(3,) centre of mass of the values inside the mask, world mm."""
    mass = volume.values if volume.mask is None else volume.values * volume.mask
    mass = mass.double()
    total = mass.sum().clamp(min=1e-9)
    index = []
    for axis, n in enumerate(mass.shape):
        along = mass.sum(dim=[other for other in range(3) if other != axis])
        index.append(float((along * torch.arange(n, device=mass.device)).sum() / total))
    return volume.grid.to_world(np.array(index))
