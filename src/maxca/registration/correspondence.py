"""Landmarks of both images that guide a registration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from maxca.engine.points import scale_of
from maxca.errors import MaxcaError
from maxca.fields import OptionError
from maxca.geometry import Affine, Chain
from maxca.geometry.landmarks import robust_affine
from maxca.io.points import Points
from maxca.registration.inputs import Side

WEIGHT = "weight"  # a column of a CSV file


@dataclass(frozen=True, eq=False)
class PointPair:
    """Corresponding landmarks.

    Args:
        fixed: (N, 3) world points of the fixed image, mm.
        moving: (N, 3) the same points in the moving image.
        weights: (N,) at least 0.
        names: of the points, or their numbers from 1.
        spacing: smallest of the fixed image, mm.
    """

    fixed: Float[np.ndarray, "n 3"]
    moving: Float[np.ndarray, "n 3"]
    weights: Float[np.ndarray, " n"]
    names: list[str]
    spacing: float

    def before(self, known: Chain) -> PointPair:
        """The pair with the moving points where they were before a known transform."""
        return replace(self, moving=known.inverse()[0].map_points(self.moving)) if known.steps else self

    def start(self, *, rigid: bool = False, seed: int = 0) -> Affine | None:
        """The affine between the points; None if they do not determine one."""
        used = self.weights > 0
        return robust_affine(self.fixed[used], self.moving[used], rigid=rigid, seed=seed)

    def suspected(self, left: Sequence[float]) -> list[str]:
        """Names of pairs that may be wrong: much farther apart than most, after registration or under the affine.

        Args:
            left: the distance of each pair after registration, mm.
        """
        affine = self.start()
        distances = [np.asarray(left)]
        if affine is not None:
            distances.append(np.linalg.norm(affine.map_points(self.fixed) - self.moving, axis=1))
        wrong = np.any([each > scale_of(each, self.spacing) for each in distances if len(each)], axis=0)
        return [name for name, doubtful in zip(self.names, wrong, strict=True) if doubtful]


def point_pair(fixed: Side, moving: Side) -> PointPair:
    """The landmarks of both sides.

    Raises:
        OptionError: if a side has none.
        MaxcaError: for a weight that is not a number of at least 0, or if all are 0.
    """
    ours, theirs = fixed.points, moving.points
    if ours is None or theirs is None:
        raise OptionError("guide", "points", "needs points of both images, fixed_points and moving_points")
    files = (side.sources.get("points", f"the {name} points") for name, side in (("fixed", fixed), ("moving", moving)))
    weights = np.prod([_weights(points, str(file)) for points, file in zip((ours, theirs), files, strict=True)], axis=0)
    if not weights.any():
        raise OptionError("guide", "points", "all points have the weight 0")
    names = list(ours.labels or map(str, range(1, len(weights) + 1)))
    return PointPair(ours.coordinates, theirs.coordinates, weights, names, fixed.image.grid.smallest_spacing)


def _weights(points: Points, file: str) -> Float[np.ndarray, " n"]:
    cells = dict(points.columns).get(WEIGHT)
    if cells is None:
        return np.ones(len(points.coordinates))
    try:
        weights = np.array([float(cell) for cell in cells])
    except ValueError as error:
        raise MaxcaError(f"{file}: the column {WEIGHT} has a cell that is not a number: {error}") from error
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise MaxcaError(f"{file}: the column {WEIGHT} has numbers below 0 or beyond the range; give weights from 0 up")
    return weights
