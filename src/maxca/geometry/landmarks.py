"""The affine between corresponding landmarks, in closed form, robust to wrong pairs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import comb

import numpy as np
from jaxtyping import Bool, Float

from maxca.geometry.fit import fitted_affine
from maxca.geometry.transforms import Affine

SPREAD = 0.02  # of the largest extent of the points: on a line, if they extend no farther across it
TRIPLES = 500  # most triples of points that are tried
LEFT_OUT = 50  # most points that are predicted from the others
DEVIATIONS = 2.5  # beyond: a wrong pair
Fit = Callable[[np.ndarray, np.ndarray], Affine]
Points = Float[np.ndarray, "n 3"]


def fitted_rigid(points: Points, moved: Points) -> Affine:
    """The rotation and translation that best fit a map in the least-squares sense.

    Source: Kabsch, Acta Crystallographica A32, 1976.

    Args:
        points: world, mm; at least three, not on a line.
        moved: their images.
    """
    middle, end = points.mean(axis=0), moved.mean(axis=0)
    u, _, v = np.linalg.svd((moved - end).T @ (points - middle))
    turn = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ v))]) @ v
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = end - turn @ middle
    return Affine(matrix)


def robust_affine(points: Points, moved: Points, *, rigid: bool = False, seed: int = 0) -> Affine | None:
    """The transform between landmarks of which some may be wrong.

    Of the rigid transforms of triples, the one with the least median of squared distances decides which pairs are
    right. They are fitted by a rigid transform, or by an affine if it predicts a point from the others better. Source:
    Rousseeuw, Journal of the American Statistical Association 79, 1984.

    Args:
        points: (N, 3) fixed world points, mm.
        moved: (N, 3) the same in the moving image.
        rigid: never an affine.
        seed: of the choice of triples, where there are many.

    Returns:
        Fixed world points → moving world points; None if the points do not determine a rotation.
    """
    if len(points) < 3 or _on_a_line(points) or _on_a_line(moved):
        return None
    right = _agreeing(points, moved, seed)
    points, moved = points[right], moved[right]
    if rigid or _left_out(fitted_affine, points, moved) >= _left_out(fitted_rigid, points, moved):
        return fitted_rigid(points, moved)
    return fitted_affine(points, moved)


def _agreeing(points: Points, moved: Points, seed: int) -> Bool[np.ndarray, " n"]:
    """Which pairs are right: all of fewer than five."""
    count = len(points)
    everyone = np.ones(count, dtype=bool)
    if count < 5:
        return everyone
    if comb(count, 3) <= TRIPLES:
        triples = np.array(list(combinations(range(count), 3)))
    else:
        random = np.random.default_rng(seed)
        triples = np.stack([random.choice(count, 3, replace=False) for _ in range(TRIPLES)])
    best, least = everyone, np.inf
    for triple in triples:
        if _on_a_line(points[triple]) or _on_a_line(moved[triple]):
            continue
        distances = _distances(fitted_rigid(points[triple], moved[triple]), points, moved)
        # Three points are fitted by definition, and the median is that of all: Rousseeuw's factor for few points.
        limit = DEVIATIONS * 1.4826 * (1 + 5 / (count - 3)) * float(np.median(distances))
        if np.median(distances) < least and not _on_a_line(points[distances <= limit]):
            best, least = distances <= limit, float(np.median(distances))
    return best


def _distances(affine: Affine, points: Points, moved: Points) -> Float[np.ndarray, " n"]:
    return np.linalg.norm(affine.map_points(points) - moved, axis=1)


def _left_out(fit: Fit, points: Points, moved: Points) -> float:
    """Mean distance of points from their prediction by the others; infinite if these do not determine it."""
    if len(points) < 5:
        return np.inf if fit is fitted_affine else 0.0
    errors = []
    for n in range(0, len(points), -(-len(points) // LEFT_OUT)):
        others = np.arange(len(points)) != n
        if _on_a_line(points[others]):
            return np.inf
        errors.append(_distances(fit(points[others], moved[others]), points[[n]], moved[[n]])[0])
    return float(np.mean(errors))


def _on_a_line(points: Points) -> bool:
    extents = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return len(extents) < 2 or bool(extents[1] <= SPREAD * extents[0])
