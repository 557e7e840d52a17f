"""Registrations done again, coarsely: with the same freedom from here, from other orientations, and backward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from maxca.engine.affine import BENT, AffineProblem
from maxca.engine.deformable import optimise
from maxca.engine.settings import SMOOTHER, Level, Settings
from maxca.engine.volume import Volume
from maxca.geometry import Affine, Chain
from maxca.report.verdict.coarse import CoarsePair

SEEN_FIRST = 2_500  # nodes at which all orientations are compared
SEEN = 8_000  # nodes at which the affine is found
PROMISING = 6  # orientations of either handedness that are followed
STEPS, MORE_STEPS = 6, 15
UNLIKE = 0.95  # of the agreement: a mirror image that reaches less is not deformed
OTHERWISE = 40.0  # degrees between two orientations that are not the same
SMOOTHNESS = 3.0  # voxels of the lattice
LEVELS = (Level(2, 20), Level(1, 10))


@dataclass(frozen=True, eq=False)
class Rival:
    """What is reached from one orientation.

    Args:
        affine: fixed world points → moving world points.
        placed: mutual information under the affine, in nats.
        deformed: and after a coarse deformation, where the transform may deform.
    """

    affine: Affine
    placed: float
    deformed: float


class Repeat:
    """The affine and the deformation of a pair, found again on small lattices.

    Args:
        pair: both images.
        deformable: whether the transform may deform.
        rigid: whether it keeps lengths.
    """

    def __init__(self, pair: CoarsePair, *, deformable: bool, rigid: bool = False) -> None:
        self.pair, self.deformable, self.rigid = pair, deformable, rigid
        self.problem = problem(pair.fixed, pair.moving, SEEN)
        self.contrasts = False

    def from_here(self, affine: Affine) -> Rival:
        """Improve on an affine, then deform; from then on it is known whether the contrasts differ."""
        back = problem(self.pair.moving, self.pair.fixed, SEEN)
        bends = self.problem.bend(affine), back.bend(affine.inverse()[0])
        self.contrasts = max(bends) >= BENT
        return self._deformed(self.problem.climb(affine, rigid=self.rigid, steps=STEPS + MORE_STEPS))

    def turned(self, affine: Affine) -> Rival:
        """The best that is found from turns by 90°, 120° and 180°.

        Args:
            affine: fixed world points → moving world points, of the result.
        """
        return self._deformed(self._otherwise(affine, mirrored=False))

    def mirrored(self, affine: Affine, here: Affine) -> float:
        """What the best mirror image reaches, as a share of what is reached from here.

        Of the affine alone and of a deformation after it, the lesser share. Both are deformed by the measure that they
        are compared by: heads are so nearly their own mirror images that anything else decides by chance.

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
        """Where the moving image fits best without a change of its size.

        Args:
            affine: fixed world points → moving world points, of the result.
        """
        left, _, right = np.linalg.svd(affine.matrix[:3, :3])
        middle = center_of_mass(self.pair.fixed)
        start = _around(left @ right, middle, affine.map_points(middle))
        return self.problem.climb(start, rigid=True, steps=STEPS + MORE_STEPS)

    def _otherwise(self, affine: Affine, *, mirrored: bool) -> Affine:
        first = problem(self.pair.fixed, self.pair.moving, SEEN_FIRST)
        starts = [start for start in self._starts(affine, mirrored) if _differ(start, affine)]
        promising = sorted(starts, key=first.similarity, reverse=True)[:PROMISING]
        tried = [self.problem.climb(start, rigid=self.rigid, steps=STEPS) for start in promising]
        best = max(tried, key=lambda one: (_differ(one, affine), self.problem.similarity(one)))
        return self.problem.climb(best, rigid=self.rigid, steps=MORE_STEPS)

    def backward(self, affine: Affine, pair: CoarsePair | None = None) -> Chain:
        """Register the fixed image onto the moving one: moving world points → fixed world points.

        The affine is looked for from the headers, the centres of mass, and the inverse of what was found; the last is
        taken only where nothing else is more similar, so that a search that fails does not count against the result.

        Args:
            affine: fixed world points → moving world points, of the result.
            pair: the images with other masks; by default as they are.
        """
        fixed, moving = (pair or self.pair).moving, (pair or self.pair).fixed
        search = problem(fixed, moving, SEEN)
        inverse = affine.inverse()[0]
        begin, end = center_of_mass(fixed), center_of_mass(moving)
        starts = [Affine.identity(), _around(np.eye(3), begin, end), _around(inverse.matrix[:3, :3], begin, end)]
        found = [search.climb(start, rigid=True, steps=STEPS) for start in starts]
        found = [search.climb(one, rigid=self.rigid, steps=STEPS) for one in [*found, inverse]]
        best = search.climb(max(found, key=search.similarity), rigid=self.rigid, steps=MORE_STEPS)
        if not self.deformable:
            return Chain((best,))
        # Local correlation of two contrasts pulls to where structures look alike.
        return deformed(fixed, moving, best, "mi" if self.contrasts else "lncc", self.contrasts)

    def _starts(self, affine: Affine, mirrored: bool) -> list[Affine]:
        """Each orientation with the shape that was found, and as the headers have it, centres on centres."""
        fixed, moving = self.pair.fixed, self.pair.moving
        mass = center_of_mass(fixed)
        ends = affine.map_points(mass), center_of_mass(moving), moving.grid.center
        begins = mass, mass, fixed.grid.center
        shapes = affine.matrix[:3, :3], np.eye(3), np.eye(3)
        return [
            _around(shape @ turn, begin, end)
            for turn in orientations(fixed, mirrored)
            for shape, begin, end in zip(shapes, begins, ends, strict=True)
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
    """The affine of two volumes that are already coarse."""
    extent = [n * s for n, s in zip(fixed.grid.shape, fixed.grid.spacing, strict=True) if n > 1]
    return AffineProblem(fixed, moving, float((np.prod(extent) / nodes) ** (1 / len(extent))), 0)


def deformed(fixed: Volume, moving: Volume, affine: Affine, similarity: str, contrasts: bool) -> Chain:
    """Deform one coarse volume onto another: fixed world points → moving world points.

    Args:
        fixed: the volume whose space is kept.
        moving: the volume that is warped.
        affine: applied after the deformation.
        similarity: what is maximised.
        contrasts: whether their contrasts differ, so that the deformation is to be smoother.
    """
    reach = SMOOTHNESS * (SMOOTHER if contrasts else 1) * fixed.grid.smallest_spacing
    field, _ = optimise(fixed, moving, affine, Settings(LEVELS, similarity, reach))
    return Chain((field, affine))


def orientations(fixed: Volume, mirrored: bool) -> list[np.ndarray]:
    """(3, 3) matrices in world space that take the axes of a grid to one another, but for the identity.

    Args:
        fixed: within its plane, if it is two-dimensional.
        mirrored: those with a determinant of -1, or of 1.
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
    """(3,) in world mm, of the values inside the mask."""
    mass = (volume.values if volume.mask is None else volume.values * volume.mask).double()
    total = max(float(mass.sum()), 1e-9)
    others: Sequence[tuple[int, int]] = ((1, 2), (0, 2), (0, 1))
    along = [mass.sum(dim=axes).numpy() for axes in others]
    return volume.grid.to_world(np.array([(line * np.arange(len(line))).sum() / total for line in along]))


def _differ(one: Affine, other: Affine) -> bool:
    """Whether two affines have another orientation, rather than another place or size."""
    turns = [np.linalg.svd(each.matrix[:3, :3]) for each in (one, other)]
    (a, b) = (left @ right for left, _, right in turns)
    return bool((np.trace(a @ b.T) - 1) / 2 < np.cos(np.radians(OTHERWISE)))


def _around(linear: np.ndarray, begin: np.ndarray, end: np.ndarray) -> Affine:
    """The affine with a linear part that takes one point to another."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = end - linear @ begin
    return Affine(matrix)
