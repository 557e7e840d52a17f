"""Quality of a registration from the true map between its images, or from labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree
from verdict_cases import Scan, Trial

from maxca import metrics
from maxca.engine.volume import foreground
from maxca.geometry import Chain
from maxca.io.images import Image
from maxca.registration.resampling import resample

POINTS, COVERING = 4_000, 60_000
RIGHT, WRONG = 2.0, 4.0  # voxels of mean error: at most, at least
TYPICAL = {"hippocampus": 0.78, "heart": 0.80, "brain": 0.53, "organ": 0.53}  # Dice of good results at these sizes
DICE_RIGHT, DICE_WRONG = 0.9, 0.5  # of the typical Dice: at least, at most


class Worth(NamedTuple):
    """The class of a result, and its measurement."""

    truth: str
    measure: str
    value: float


def worth(trial: Trial, chain: Chain) -> Worth:
    """The quality of a result, fixed world points → moving world points."""
    if trial.truth == "none":
        return Worth("wrong", "nothing corresponds", float("nan"))
    if trial.truth == "labels":
        dice = overlap(trial, chain)
        share = dice / TYPICAL[trial.name.split("/")[0]]
        return Worth(_of(-share, -DICE_RIGHT, -DICE_WRONG), "Dice", dice)
    error = map_error(trial, chain)
    truth = _of(error, RIGHT, WRONG)
    if trial.around is not None and (around := lesion_error(trial, chain)) > error:
        return Worth(_of(around, RIGHT, WRONG), "voxels around the lesion", around)
    return Worth(truth, "voxels", error)


def map_error(trial: Trial, chain: Chain) -> float:
    """Mean distance from the true map, in the finest voxels of the fixed image, over the common foreground."""
    grid = trial.fixed.image.grid
    start = _content(trial.fixed, POINTS)
    origin = trial.fixed.source.map_points(start)
    reach = cKDTree(trial.moving.source.map_points(_content(trial.moving, COVERING)))
    both = reach.query(origin)[0] < 2 * grid.largest_spacing
    if not both.any():
        return float("inf")
    ends = trial.moving.source.map_points(chain.map_points(start[both]))
    return float(np.linalg.norm(ends - origin[both], axis=1).mean() / grid.smallest_spacing)


def lesion_error(trial: Trial, chain: Chain) -> float:
    """Mean distance from the true map in the tissue around a lesion, which a collapsed lesion distorts."""
    assert trial.around is not None
    ends = trial.moving.source.map_points(chain.map_points(trial.around))
    error = np.linalg.norm(ends - trial.fixed.source.map_points(trial.around), axis=1)
    return float(error.mean() / trial.fixed.image.grid.smallest_spacing)


def overlap(trial: Trial, chain: Chain) -> float:
    """Mean Dice of the labels."""
    fixed, moving = trial.fixed.labels, trial.moving.labels
    assert fixed is not None and moving is not None
    warped = resample(Image(moving, trial.moving.image.grid), trial.fixed.image.grid, chain, "labels")
    return float(np.mean(list(metrics.dice(fixed, warped.data, metrics.common_labels(fixed, moving)).values())))


def _content(scan: Scan, count: int) -> np.ndarray:
    index = np.argwhere(foreground(scan.image.data))
    chosen = np.random.default_rng(0).permutation(len(index))[:count]
    return scan.image.grid.to_world(index[chosen])


def _of(value: float, right: float, wrong: float) -> str:
    return "right" if value <= right else "wrong" if value >= wrong else "between"
