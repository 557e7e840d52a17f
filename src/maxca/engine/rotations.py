"""A search over all rotations, for images whose orientation is not near that of their headers.

The candidates are a uniform covering of the rotations and the alignments of the principal axes of both images, about
the centres of mass and of the fields of view. All of them are compared on a coarse lattice at once, and the most
promising are optimised. Reflections are no candidates: a mirrored image is reported by the verdict, not fitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from maxca.engine.affine_problem import AffineProblem, best_of, spacing_of
from maxca.engine.volume import FAINT, Volume, center_of_mass
from maxca.geometry import Affine, Grid
from maxca.geometry.warp import inside, sample

ROTATIONS = 600  # of the covering: 14° from an arbitrary rotation on average, 27° at most; the capture range is 25°
TURNS = 72  # of a 2-D image in its plane
NODES = 1_500  # of the fixed image, for the comparison of the candidates
BINS = 16  # of each image, for the mutual information of so few samples
BATCH = 100  # candidates at once
APART = 30.0  # degrees between the candidates that are optimised
PROMISING = 16  # candidates that are optimised
OTHERWISE = 40.0  # degrees between different orientations
FITS = 1.1  # times the score of any other orientation: at least 1.23 on training pairs, at most 1.01 where it is wrong
CLEARLY = 1.1  # times the score of the initialisations nearby, to replace them: at least 1.65 on rotated training pairs
BETTER = 1.02  # the same, if the user asks for the search
PARTIAL = 1.3  # times the content of the other image: one of them may show a part of it
SPIRAL = 1.533751168755204288118041  # the root of x⁴ = x + 4


@dataclass(frozen=True)
class Searched:
    """The outcome of a search.

    Args:
        affine: fixed world points → moving world points.
        replaced: whether it is not the given one.
        reason: one sentence for the log; None without a search.
    """

    affine: Affine
    replaced: bool = False
    reason: str | None = None


def search_rotations(problem: AffineProblem, near: Affine, base: Affine, *, always: bool) -> Searched:
    """The best rigid alignment over all rotations, or a given one, if it fits.

    Args:
        problem: both images on coarse grids.
        near: the best alignment from the initialisations nearby, fixed world points → moving world points.
        base: the initial transform, by default the headers: the candidates rotate after its linear part.
        always: also search if ``near`` fits.
    """
    scan = AffineProblem(problem.fixed, problem.moving, spacing_of(problem.fixed.grid, NODES), 0)
    contents = _Content.of(problem.fixed), _Content.of(problem.moving)
    larger, smaller = max(each.size for each in contents), min(each.size for each in contents)
    candidates = _Candidates(scan, near, _starts(contents, base, partial=always or larger > PARTIAL * smaller))
    if candidates.ratio >= FITS and not always:
        told = f"an initialisation nearby fits {candidates.ratio:.2f} times as well as other orientations"
        return Searched(near, False, told)
    found = best_of(problem, candidates.promising(), lambda affine: _scores(problem, affine.matrix[None])[0])
    here, there = _scores(problem, np.stack([near.matrix, found.matrix]))
    if there <= (BETTER if always else CLEARLY) * here:
        return Searched(near, False, "the search over all rotations found no clearly better orientation")
    degrees = _degrees(found.matrix[None], np.eye(4))[0]
    told = f"a rotation by {degrees:.0f}° fits {there / max(here, 1e-9):.2f} times as well as initialisations nearby"
    return Searched(found, True, told)


def covering(count: int) -> np.ndarray:
    """(count, 3, 3) rotations that cover all rotations uniformly.

    Source: Alexa, Super-Fibonacci spirals: fast, low-discrepancy sampling of SO(3), CVPR 2022.
    """
    s = (np.arange(count) + 0.5) / count
    first, second = 2 * np.pi * count * s / np.sqrt(2), 2 * np.pi * count * s / SPIRAL
    r, q = np.sqrt(s), np.sqrt(1 - s)
    quaternions = [r * np.sin(first), r * np.cos(first), q * np.sin(second), q * np.cos(second)]
    return np.asarray(Rotation.from_quat(np.stack(quaternions, axis=1)).as_matrix())


@dataclass(frozen=True)
class _Content:
    """The foreground of an image.

    Args:
        grid: of the image.
        size: volume of the foreground, mm³.
        middle: (3,) centre of mass, world mm.
        axes: (3, 3) principal axes in columns.
        radius: root mean square distance from the centre, mm.
    """

    grid: Grid
    size: float
    middle: np.ndarray
    axes: np.ndarray
    radius: float

    @classmethod
    def of(cls, volume: Volume) -> _Content:
        mass = (volume.values if volume.mask is None else volume.values * volume.mask).double().cpu().numpy()
        index = np.argwhere(mass > FAINT)
        size, middle = len(index) * float(np.prod(volume.grid.spacing)), center_of_mass(volume)
        if len(index) < 2:
            return cls(volume.grid, size, middle, np.eye(3), volume.grid.extent / 2)
        offsets = (index - index.mean(axis=0)) @ volume.grid.affine[:3, :3].T
        variances, axes = np.linalg.eigh(np.cov(offsets.T, aweights=mass[mass > FAINT], ddof=0))
        return cls(volume.grid, size, middle, axes, float(np.sqrt(variances.clip(min=0).sum())))


class _Candidates:
    """Affines (N, 4, 4) with their scores, compared with a given one."""

    def __init__(self, scan: AffineProblem, near: Affine, matrices: np.ndarray) -> None:
        self.matrices, self.scores = matrices, _scores(scan, matrices)
        others = self.scores[_degrees(matrices, near.matrix) > OTHERWISE]
        self.ratio = float(_scores(scan, near.matrix[None])[0] / others.max(initial=1e-9))

    def promising(self) -> list[Affine]:
        """Those with the highest scores, of different rotations."""
        chosen: list[Affine] = []
        left = np.argsort(-self.scores, kind="stable")
        while len(left) and len(chosen) < PROMISING:
            chosen.append(Affine(self.matrices[left[0]]))
            left = left[_degrees(self.matrices[left], self.matrices[left[0]]) > APART]
        return chosen


def _starts(contents: tuple[_Content, _Content], base: Affine, *, partial: bool) -> np.ndarray:
    """(N, 4, 4) fixed world points → moving world points.

    Args:
        contents: of the fixed and the moving image.
        base: the rotations are applied after its linear part.
        partial: one image may show a part of the other: half of it has its centre half a radius aside.
    """
    fixed, moving = contents
    if fixed.grid.thin_axes:
        normal = fixed.grid.direction[:, fixed.grid.thin_axes[0]]
        angles = np.arange(TURNS)[:, None] * (360 / TURNS)
        turns = Rotation.from_rotvec(angles * normal, degrees=True).as_matrix()
    else:
        turns = np.concatenate([covering(ROTATIONS), _principal(fixed, moving) @ _rotations(base.matrix[None])[0].T])
    ends = [(fixed.middle, moving.middle), (fixed.grid.center, moving.grid.center)]
    if partial:
        smaller, larger = sorted(contents, key=lambda each: each.size)
        for axis in range(3):
            aside = smaller.grid.direction[:, axis] * larger.radius / 2
            if axis not in smaller.grid.thin_axes and smaller is fixed:
                ends += [(fixed.middle + aside, moving.middle), (fixed.middle - aside, moving.middle)]
            elif axis not in smaller.grid.thin_axes:
                ends += [(fixed.middle, moving.middle + aside), (fixed.middle, moving.middle - aside)]
    linear = turns @ base.matrix[:3, :3]
    matrices = np.tile(np.eye(4), (len(ends), len(turns), 1, 1))
    for (begin, end), those in zip(ends, matrices, strict=True):
        those[:, :3, :3] = linear
        those[:, :3, 3] = end - linear @ begin
    return matrices.reshape(-1, 4, 4)


def _principal(fixed: _Content, moving: _Content) -> np.ndarray:
    """(24, 3, 3) rotations from the principal axes of one image to those of the other, in any order and direction."""
    found = []
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        axes = moving.axes[:, list(order)] * signs
        if np.linalg.det(axes) * np.linalg.det(fixed.axes) > 0:
            found.append(axes @ fixed.axes.T)
    return np.stack(found)


def _scores(problem: AffineProblem, matrices: np.ndarray) -> np.ndarray:
    """(N,) mutual information under affines (N, 4, 4), times the square root of the overlap.

    A small overlap may have high mutual information by chance.
    """
    rows = (problem.values.clamp(0, 1) * (BINS - 1)).round().long() * BINS
    parts = range(0, len(matrices), BATCH)
    return np.concatenate([_batch(problem, rows, matrices[first : first + BATCH]) for first in parts])


def _batch(problem: AffineProblem, rows: Tensor, matrices: np.ndarray) -> np.ndarray:
    count, device, moving = len(matrices), problem.offsets.device, problem.moving
    to_voxel = moving.grid.world_to_voxel[:3, :3]
    middle = matrices[:, :3, :3] @ problem.center + matrices[:, :3, 3] - moving.grid.origin
    maps = to_voxel @ matrices[:, :3, :3] * problem.unit, middle @ to_voxel.T
    linear, shift = (torch.as_tensor(each, dtype=torch.float32, device=device) for each in maps)
    index = (linear @ problem.offsets + shift[:, :, None]).permute(1, 0, 2)[None, ..., None]  # (1, 3, count, nodes, 1)
    seen = inside(index, moving.values.shape)[0, ..., 0]
    if moving.mask is not None:
        seen &= sample(moving.mask[None, None], index)[0, 0, ..., 0] > 0.5
    warped = sample(moving.values[None, None], index, padding="border")[0, 0, ..., 0]
    cells = (warped.clamp(0, 1) * (BINS - 1)).round().long() + rows
    cells += torch.arange(count, device=device)[:, None] * BINS**2
    # Whole numbers, whose sums do not depend on the order of summation.
    joint = torch.bincount(cells.flatten(), weights=seen.flatten().double(), minlength=count * BINS**2)
    p = joint.view(count, BINS, BINS) / seen.sum(dim=1).clamp(min=1).view(-1, 1, 1)
    independent = p.sum(dim=1, keepdim=True) * p.sum(dim=2, keepdim=True)
    information = (p * torch.log(p.clamp(min=1e-300) / independent.clamp(min=1e-300))).sum(dim=(1, 2))
    return np.asarray((information * seen.double().mean(dim=1).sqrt()).cpu().numpy())


def _rotations(matrices: np.ndarray) -> np.ndarray:
    """(N, 3, 3) rotations nearest to the linear parts of affines (N, 4, 4)."""
    left, _, right = np.linalg.svd(matrices[:, :3, :3])
    return np.asarray(left @ right)


def _degrees(matrices: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,) angles between the rotations of affines (N, 4, 4) and of another."""
    cosine = (np.einsum("nij,ij->n", _rotations(matrices), _rotations(other[None])[0]) - 1) / 2
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
