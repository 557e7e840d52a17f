"""Registration metrics: pure functions on label maps, points and transforms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from maxca.geometry import Chain, Grid
from maxca.geometry.jacobian import field_determinant, nondiffeomorphic_volume

SMALLEST_DETERMINANT = 1e-9
LARGEST_COUNTED_LABEL = 1_000_000  # largest label of a table of counts; larger labels are renumbered first


class Folding(NamedTuple):
    """Folding of a map inside a mask; see ``folding``."""

    ndv_percent: float
    nonpositive_percent: float
    sd_log_jacobian: float
    sd_log_jacobian_plus_3: float


class LabelScores(NamedTuple):
    """Scores of each label; one that is moved out of the image has a Dice of 0 and no distances.

    Args:
        dice: label → Dice in [0, 1].
        hd95: label → 95th percentile of the surface distances in mm.
        msd: label → mean surface distance in mm.
    """

    dice: dict[int, float]
    hd95: dict[int, float]
    msd: dict[int, float]


def label_scores(
    fixed: np.ndarray, warped: np.ndarray, spacing: Sequence[float] | np.ndarray, labels: Iterable[int]
) -> LabelScores:
    """Overlap and surface distances of fixed and warped labels.

    Args:
        fixed: (I, J, K) integers, 0 is background.
        warped: the moving labels on the fixed grid, by nearest neighbour.
        spacing: (3,) mm per voxel along i, j, k.
        labels: to score, see ``common_labels``.

    Raises:
        ValueError: as for ``dice``.
    """
    distances = surface_distances(fixed, warped, spacing)
    return LabelScores(
        dice(fixed, warped, labels),
        {label: percentile95(mm) for label, mm in distances.items()},
        {label: float(mm.mean()) for label, mm in distances.items()},
    )


def common_labels(a: np.ndarray, b: np.ndarray) -> list[int]:
    """Labels other than 0 present in both maps, which may differ in shape.

    Registration is scored on the common labels of the fixed map and of the moving map before warping: a label that is
    moved out of the image has a Dice of 0 and is not excluded.
    """
    a, b = _one_type(np.asarray(a), np.asarray(b))
    return [int(label) for label in np.intersect1d(a, b) if label != 0]


def dice(a: np.ndarray, b: np.ndarray, labels: Iterable[int] | None = None) -> dict[int, float]:
    """Dice overlap of each label, 2|A ∩ B| / (|A| + |B|).

    Args:
        a: (I, J, K) integers, 0 is background.
        b: the same shape.
        labels: to compare; by default those present in both, without background.

    Returns:
        Label → Dice in [0, 1]; NaN for a label in neither.

    Raises:
        ValueError: if the shapes differ or a value is not an integer ≥ 0.
    """
    a, b = _label_pair(a, b)
    names, (a, b) = _compact(a, b)
    size = len(names)
    in_a, in_b = np.bincount(a.ravel(), minlength=size), np.bincount(b.ravel(), minlength=size)
    in_both = np.bincount(a[a == b], minlength=size)
    index = {int(name): i for i, name in enumerate(names)}
    if labels is None:
        labels = [name for name, i in index.items() if name != 0 and in_a[i] and in_b[i]]
    overlaps = {}
    for label in labels:
        i = index.get(int(label))
        total = 0 if i is None else in_a[i] + in_b[i]
        overlaps[int(label)] = float(2 * in_both[i] / total) if total else float("nan")
    return overlaps


def hd95(a: np.ndarray, b: np.ndarray, spacing: Sequence[float] | np.ndarray) -> dict[int, float]:
    """95th percentile of the symmetric surface distances of each label present in both maps, in mm.

    The percentile is taken over the distances of both directions together, not as the larger of two percentiles.

    Args:
        a: (I, J, K) integers, 0 is background.
        b: the same shape.
        spacing: (3,) mm per voxel along i, j, k.

    Returns:
        Label → mm.

    Raises:
        ValueError: as for ``dice``.
    """
    return {label: percentile95(d) for label, d in surface_distances(a, b, spacing).items()}


def mean_surface_distance(a: np.ndarray, b: np.ndarray, spacing: Sequence[float] | np.ndarray) -> dict[int, float]:
    """Mean symmetric surface distance of each label present in both maps, in mm; see ``hd95``."""
    return {label: float(d.mean()) for label, d in surface_distances(a, b, spacing).items()}


def percentile95(distances: np.ndarray) -> float:
    """The 95th percentile."""
    return float(np.percentile(distances, 95))


def surface_distances(a: np.ndarray, b: np.ndarray, spacing: Sequence[float] | np.ndarray) -> dict[int, np.ndarray]:
    """Distances from each surface voxel of a label to the nearest of the other map, in mm, both directions joined.

    A surface voxel of a label shares a face with a voxel of another label or with the border of the volume. An axis
    with a single voxel has no border, so the surface of a 2-D region is its outline.

    Args:
        a: (I, J, K) integers, 0 is background.
        b: the same shape.
        spacing: (3,) mm per voxel along i, j, k.

    Returns:
        Label → distances, for each label present in both.

    Raises:
        ValueError: as for ``dice``.
    """
    a, b = _label_pair(a, b)
    surface_a, surface_b = _surfaces(a, spacing), _surfaces(b, spacing)
    distances = {}
    for label in sorted(surface_a.keys() & surface_b.keys()):
        points_a, points_b = surface_a[label], surface_b[label]
        there = cKDTree(points_b).query(points_a)[0]
        back = cKDTree(points_a).query(points_b)[0]
        distances[label] = np.concatenate([there, back])
    return distances


def tre(fixed_points: np.ndarray, moving_points: np.ndarray, chain: Chain) -> np.ndarray:
    """Target registration error: distance of each mapped fixed point to the corresponding moving point.

    Args:
        fixed_points: (N, 3) world RAS+ mm.
        moving_points: (N, 3) world RAS+ mm, in the same order.
        chain: fixed world points to moving world points.

    Returns:
        (N,) mm.

    Raises:
        ValueError: if the two lists differ in shape.
    """
    fixed_points, moving_points = np.asarray(fixed_points), np.asarray(moving_points)
    if fixed_points.shape != moving_points.shape:
        raise ValueError(
            f"points must correspond, received {fixed_points.shape} fixed and {moving_points.shape} moving"
        )
    return np.asarray(np.linalg.norm(chain.map_points(fixed_points) - moving_points, axis=-1))


def inverse_consistency(chain: Chain, inverse: Chain, points: np.ndarray) -> np.ndarray:
    """Round-trip error: distance of inverse(chain(x)) from x.

    Args:
        chain: fixed world points to moving world points.
        inverse: moving world points to fixed world points.
        points: (N, 3) fixed world points, RAS+ mm.

    Returns:
        (N,) mm.
    """
    points = np.asarray(points, dtype=np.float64)
    return np.asarray(np.linalg.norm(inverse.map_points(chain.map_points(points)) - points, axis=-1))


def folding(chain: Chain, grid: Grid, mask: np.ndarray | None = None) -> Folding:
    """Folding of the fixed → moving map on a grid in fixed space, independent of spacing and flips.

    - ``ndv_percent``: non-diffeomorphic volume, where the piecewise linear map is orientation-reversing (see
      ``geometry.jacobian.nondiffeomorphic_volume``), as a percentage of the volume of the mask. Source: Liu et al.,
      IJCV 2024.
    - ``nonpositive_percent``: voxels of the mask whose determinant, by central differences, is ≤ 0. It misses folds;
      it is included because papers report it.
    - ``sd_log_jacobian``: standard deviation over the mask of ln(max(determinant, 1e-9)).
    - ``sd_log_jacobian_plus_3``: the Learn2Reg variant, of ln(max(determinant + 3, 1e-9)): several times smaller.

    Args:
        chain: fixed world points to moving world points; a single field is ``Chain((field,))``.
        grid: of the measurement, in fixed space.
        mask: (I, J, K) on ``grid``; by default everything.

    Returns:
        The four measures.

    Raises:
        ValueError: if the mask has another shape or is empty.
    """
    inside = np.ones(grid.shape, dtype=bool) if mask is None else np.asarray(mask) > 0
    if inside.shape != grid.shape or not inside.any():
        raise ValueError(
            f"a mask of {grid.shape} with some voxels is needed, received {inside.shape}, {inside.sum()} set"
        )
    where = torch.as_tensor(inside)
    field = chain.field_on(grid)
    determinant = field_determinant(field)[where].double()
    mirrored = nondiffeomorphic_volume(field)[where].double()
    return Folding(
        ndv_percent=100 * float(mirrored.mean()),
        nonpositive_percent=100 * float((determinant <= 0).double().mean()),
        sd_log_jacobian=_sd_log(determinant),
        sd_log_jacobian_plus_3=_sd_log(determinant + 3),
    )


def _sd_log(determinant: Tensor) -> float:
    return float(determinant.clamp(min=SMALLEST_DETERMINANT).log().std(correction=0))


def _label_pair(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = _one_type(_whole(a), _whole(b))
    if a.shape != b.shape:
        raise ValueError(f"label maps of one shape are needed, received {a.shape} and {b.shape}")
    return a, b


def _whole(labels: np.ndarray) -> np.ndarray:
    """Labels as integers; files often store them as floats."""
    labels = np.asarray(labels)
    whole = labels if labels.dtype.kind in "iub" else np.nan_to_num(labels, nan=-1).astype(np.int64)
    if labels.size and ((whole is not labels and not np.array_equal(whole, labels)) or whole.min() < 0):
        raise ValueError("labels must be integers from 0 up")
    return whole


def _one_type(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two maps in a common integer type: NumPy promotes int64 and uint64 to float64, which merges large labels."""
    if np.uint64 not in (a.dtype, b.dtype) or a.dtype.kind not in "iub" or b.dtype.kind not in "iub":
        return a, b
    largest = max(int(each.max(initial=0)) for each in (a, b))
    kind = np.int64 if largest <= np.iinfo(np.int64).max else np.uint64
    return a.astype(kind, copy=False), b.astype(kind, copy=False)


def _compact(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Label names, and both maps as indices into them."""
    largest = max(int(a.max(initial=0)), int(b.max(initial=0)))
    if largest <= LARGEST_COUNTED_LABEL:
        return np.arange(largest + 1), (a, b)
    names, index = np.unique(np.concatenate([a.ravel(), b.ravel()]), return_inverse=True)
    return names, (index[: a.size].reshape(a.shape), index[a.size :].reshape(b.shape))


def _surfaces(labels: np.ndarray, spacing: Sequence[float] | np.ndarray) -> dict[int, np.ndarray]:
    """Label → (N, 3) positions in mm of its surface voxels. In one pass for all labels."""
    surface = np.zeros(labels.shape, dtype=bool)
    for axis, n in enumerate(labels.shape):
        if n > 1:
            change = np.diff(labels, axis=axis) != 0
            ends = np.ones_like(np.take(surface, [0], axis=axis))
            surface |= np.concatenate([ends, change], axis=axis) | np.concatenate([change, ends], axis=axis)
    voxels = np.argwhere(surface & (labels > 0))
    names = labels[tuple(voxels.T)]
    order = np.argsort(names, kind="stable")
    names = names[order]
    starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(names)), dtype=bool), names[1:] != names[:-1]]))
    points = voxels[order] * np.asarray(spacing, dtype=np.float64)
    groups = np.split(points, starts[1:])
    return {int(names[start]): group for start, group in zip(starts, groups, strict=False)}
