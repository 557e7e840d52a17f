"""Coarse repeated registrations: from the result, from other orientations, and in the opposite direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from maxca.engine.affine_problem import BENT, AffineProblem
from maxca.engine.deformable import optimise
from maxca.engine.settings import SMOOTHER, Level, Settings
from maxca.engine.volume import Volume
from maxca.geometry import Affine, Chain
from maxca.report.verdict.coarse import CoarsePair

SEEN_FIRST = 2_500  # nodes for the comparison of all orientations
SEEN = 8_000  # nodes for the estimation of the affine
PROMISING = 8  # orientations of either handedness that are optimised
STEPS, MORE_STEPS = 6, 15
UNLIKE = 0.95  # of the agreement: mirror images below this are not deformed
OTHERWISE = 40.0  # degrees: smallest rotation between different orientations
SMOOTHNESS, RELAXATION = 3.0, 0.155  # in voxels of the coarse grid, and as a fraction of it
LEVELS = (Level(2, 20), Level(1, 10))


@dataclass(frozen=True, eq=False)
class Rival:
    """The agreement reached from one orientation.

    Args:
        affine: fixed world points → moving world points.
        placed: mutual information under the affine, in nats.
        deformed: mutual information after a coarse deformation, if the transform is deformable.
    """

    affine: Affine
    placed: float
    deformed: float


class Repeat:
    """Affine and deformable registration of a pair on coarse grids.

    Args:
        pair: both images.
        deformable: whether the transform model is deformable.
        rigid: whether the affine part is rigid.
    """

    def __init__(self, pair: CoarsePair, *, deformable: bool, rigid: bool = False) -> None:
        self.pair, self.deformable, self.rigid = pair, deformable, rigid
        self.problem = problem(pair.fixed, pair.moving, SEEN)
        self.contrasts = False

    def from_here(self, affine: Affine) -> Rival:
        """Optimise an affine and a deformation from the result; also detect whether the contrasts differ."""
        back = problem(self.pair.moving, self.pair.fixed, SEEN)
        bends = self.problem.bend(affine), back.bend(affine.inverse()[0])
        self.contrasts = max(bends) >= BENT
        return self._deformed(self.problem.maximise(affine, rigid=self.rigid, steps=STEPS + MORE_STEPS))

    def turned(self, affine: Affine) -> Rival:
        """The best registration initialised with rotations by 90°, 120° and 180°.

        Args:
            affine: fixed world points → moving world points, of the result.
        """
        return self._deformed(self._otherwise(affine, mirrored=False))

    def mirrored(self, affine: Affine, here: Affine) -> float:
        """Agreement of the best mirror image, relative to that reached from the result.

        The smaller ratio of the affine alone and of a deformation after it. Both are deformed with the measure used for
        the comparison: heads are nearly symmetric, so that another measure would decide by chance.

        Args:
            affine: fixed world points → moving world points, of the result.
            here: the affine of ``from_here``.
        """
        fixed, moving = self.pair.fixed, self.pair.moving
        other = self._otherwise(affine, mirrored=True)
        placed = self.pair.compared(Chain((here,)), Chain((other,)))
        if not self.deformable or placed < UNLIKE:
            return placed
        chains = [deformed(fixed, moving, each, "mi", self.contrasts) for each in (here, other)]
        return min(placed, self.pair.compared(*chains))

    def at_own_size(self, affine: Affine) -> Affine:
        """The best rigid alignment, which preserves the size of the moving image.

        Args:
            affine: fixed world points → moving world points, of the result.
        """
        left, _, right = np.linalg.svd(affine.matrix[:3, :3])
        middle = center_of_mass(self.pair.fixed)
        start = _around(left @ right, middle, affine.map_points(middle))
        return self.problem.maximise(start, rigid=True, steps=STEPS + MORE_STEPS)

    def _otherwise(self, affine: Affine, *, mirrored: bool) -> Affine:
        first = problem(self.pair.fixed, self.pair.moving, SEEN_FIRST)
        others = [[start for start in each if _differ(start, affine)] for each in self._starts(affine, mirrored)]
        starts = [max(each, key=first.similarity) for each in others if each]
        promising = sorted(starts, key=first.similarity, reverse=True)[:PROMISING]
        tried = [self.problem.maximise(start, rigid=self.rigid, steps=STEPS) for start in promising]
        best = max(tried, key=lambda one: (_differ(one, affine), self.problem.similarity(one)))
        return self.problem.maximise(best, rigid=self.rigid, steps=MORE_STEPS)

    def backward(self, affine: Affine, pair: CoarsePair | None = None) -> Chain:
        """Register the fixed image onto the moving one: moving world points → fixed world points.

        The affine is initialised with the headers, the centres of mass, and the inverse of the result; the last is used
        only if no other has a higher similarity, so that a failed search does not count against the result.

        Args:
            affine: fixed world points → moving world points, of the result.
            pair: the images with other masks; by default the original ones.
        """
        fixed, moving = (pair or self.pair).moving, (pair or self.pair).fixed
        search = problem(fixed, moving, SEEN)
        inverse = affine.inverse()[0]
        begin, end = center_of_mass(fixed), center_of_mass(moving)
        starts = [Affine.identity(), _around(np.eye(3), begin, end), _around(inverse.matrix[:3, :3], begin, end)]
        found = [search.maximise(start, rigid=True, steps=STEPS) for start in starts]
        found = [search.maximise(one, rigid=self.rigid, steps=STEPS) for one in [*found, inverse]]
        best = search.maximise(max(found, key=search.similarity), rigid=self.rigid, steps=MORE_STEPS)
        if not self.deformable:
            return Chain((best,))
        # Local correlation between two contrasts may align unrelated structures.
        return deformed(fixed, moving, best, "mi" if self.contrasts else "lncc", self.contrasts)

    def _starts(self, affine: Affine, mirrored: bool) -> list[list[Affine]]:
        """For each orientation: the linear part of the result and that of the headers, with aligned centres."""
        fixed, moving = self.pair.fixed, self.pair.moving
        mass = center_of_mass(fixed)
        ends = affine.map_points(mass), center_of_mass(moving), moving.grid.center
        begins = mass, mass, fixed.grid.center
        shapes = affine.matrix[:3, :3], np.eye(3), np.eye(3)
        return [
            [_around(shape @ turn, begin, end) for shape, begin, end in zip(shapes, begins, ends, strict=True)]
            for turn in orientations(fixed, mirrored)
        ]

    def _deformed(self, affine: Affine) -> Rival:
        placed = self.problem.similarity(affine)
        if not self.deformable:
            return Rival(affine, placed, placed)
        return Rival(
            affine,
            placed,
            self.pair.agreement(deformed(self.pair.fixed, self.pair.moving, affine, "lncc", self.contrasts)),
        )


def problem(fixed: Volume, moving: Volume, nodes: int) -> AffineProblem:
    """The affine problem of two coarse volumes."""
    extent = [n * s for n, s in zip(fixed.grid.shape, fixed.grid.spacing, strict=True) if n > 1]
    return AffineProblem(fixed, moving, float((np.prod(extent) / nodes) ** (1 / len(extent))), 0)


def deformed(fixed: Volume, moving: Volume, affine: Affine, similarity: str, contrasts: bool) -> Chain:
    """Deform one coarse volume onto another: fixed world points → moving world points.

    Args:
        fixed: the fixed volume.
        moving: the volume to warp.
        affine: applied after the deformation.
        similarity: the measure to maximise.
        contrasts: whether their contrasts differ, which increases the smoothness.
    """
    reach = SMOOTHNESS * (SMOOTHER if contrasts else 1) * fixed.grid.smallest_spacing
    field, _ = optimise(fixed, moving, affine, Settings(LEVELS, similarity, reach, relaxation=RELAXATION))
    return Chain((field, affine))


def orientations(fixed: Volume, mirrored: bool) -> list[np.ndarray]:
    """(3, 3) matrices in world space that permute or reverse the axes of a grid, except the identity.

    Args:
        fixed: the volume; a 2-D one stays in its plane.
        mirrored: whether the determinant is -1 or 1.
    """
    direction, thin = fixed.grid.direction, fixed.grid.thin_axes
    found = []
    for order in permutations(range(3)):
        for signs in product((1, -1), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            stays = all(matrix[axis, axis] == 1 for axis in thin)
            if stays and (np.linalg.det(matrix) < 0) == mirrored and not np.array_equal(matrix, np.eye(3)):
                found.append(direction @ matrix @ np.linalg.inv(direction))
    return found


def center_of_mass(volume: Volume) -> np.ndarray:
    """(3,) centre of mass of the values inside the mask, world mm."""
    mass = (volume.values if volume.mask is None else volume.values * volume.mask).double()
    total = max(float(mass.sum()), 1e-9)
    others: Sequence[tuple[int, int]] = ((1, 2), (0, 2), (0, 1))
    along = [mass.sum(dim=axes).numpy() for axes in others]
    return volume.grid.to_world(np.array([(line * np.arange(len(line))).sum() / total for line in along]))


def _differ(one: Affine, other: Affine) -> bool:
    """Whether two affines differ in orientation, rather than position or size."""
    turns = [np.linalg.svd(each.matrix[:3, :3]) for each in (one, other)]
    (a, b) = (left @ right for left, _, right in turns)
    return bool((np.trace(a @ b.T) - 1) / 2 < np.cos(np.radians(OTHERWISE)))


def _around(linear: np.ndarray, begin: np.ndarray, end: np.ndarray) -> Affine:
    """The affine with a given linear part that maps one point to another."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = end - linear @ begin
    return Affine(matrix)
