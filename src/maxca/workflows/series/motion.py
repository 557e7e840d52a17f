"""Motion parameters, framewise displacement and outliers of a series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import expm, logm, polar
from scipy.spatial.transform import Rotation

from maxca.geometry import Affine

ROUNDS = 20  # most iterations of a mean
EQUAL = 1e-10  # largest entry of the logarithm of what is left


class MotionTable(NamedTuple):
    """Motion of each frame, as in BIDS.

    Args:
        translations: (T, 3) mm, of the centre, along the axes R, A and S.
        rotations: (T, 3) radians about the axes R, A and S through the centre; about R first, then A, then S.
        displacement: (T,) framewise displacement in mm; NaN for the first frame.
        scale: (T,) determinant of the linear part: 1 for a rigid motion.
    """

    translations: np.ndarray
    rotations: np.ndarray
    displacement: np.ndarray
    scale: np.ndarray


def motion_table(affines: Sequence[Affine], center: np.ndarray, radius: float) -> MotionTable:
    """The motion parameters of affines.

    The centre c moves by the translation t, and the anatomy turns by R about it: T(x) = R (x - c) + c + t. These are
    the parameters of ITK's ``Euler3DTransform`` with ``ComputeZYX``, with other signs along x and y.

    Args:
        affines: reference world points → frame world points: how the anatomy moved since the reference.
        center: (3,) of rotation, RAS mm.
        radius: of the sphere of the framewise displacement in mm.
    """
    translations = np.array([affine.map_points(center) - center for affine in affines])
    turns = [polar(affine.matrix[:3, :3])[0] for affine in affines]
    rotations = np.array([Rotation.from_matrix(turn).as_euler("xyz") for turn in turns])
    scale = np.array([np.linalg.det(affine.matrix[:3, :3]) for affine in affines])
    return MotionTable(translations, rotations, framewise_displacement(translations, rotations, radius), scale)


def framewise_displacement(translations: np.ndarray, rotations: np.ndarray, radius: float) -> np.ndarray:
    """(T,) sums of absolute changes from frame to frame, rotations as arcs on a sphere; NaN for the first frame.

    Source: Power et al., NeuroImage 59(3), 2012.

    Args:
        translations: (T, 3) mm.
        rotations: (T, 3) radians.
        radius: of the sphere in mm.
    """
    moved = np.abs(np.diff(np.hstack([translations, radius * rotations]), axis=0)).sum(axis=1)
    return np.concatenate([[np.nan], moved])


def rotation_of(affine: Affine) -> np.ndarray:
    """(3, 3): the rotation of an affine, by its polar decomposition."""
    return np.asarray(polar(affine.matrix[:3, :3])[0])


def mean_of(affines: Sequence[Affine], center: np.ndarray) -> Affine:
    """The mean of transforms in their group: that from which their logarithms add to zero.

    Args:
        affines: to average; rigid ones have a rigid mean.
        center: (3,) about which they turn, so that the mean does not depend on the world origin.
    """
    there, back = np.eye(4), np.eye(4)
    there[:3, 3], back[:3, 3] = center, -center
    matrices = [back @ affine.matrix @ there for affine in affines]
    mean = matrices[0]
    for _ in range(ROUNDS):
        step = np.mean([np.real(logm(np.linalg.solve(mean, each))) for each in matrices], axis=0)
        mean = mean @ expm(step)
        if np.abs(step).max() < EQUAL:
            break
    return Affine(there @ mean @ back)


def outliers(displacement: np.ndarray, dvars: np.ndarray | None, thresholds: tuple[float, float]) -> np.ndarray:
    """(T,) bool: frames whose framewise displacement or relative DVARS is above its threshold.

    Args:
        displacement: (T,) mm.
        dvars: (T,) relative to their median, or None.
        thresholds: of both.
    """
    with np.errstate(invalid="ignore"):  # of the first frame
        found = displacement > thresholds[0]
        return found if dvars is None else found | (dvars > thresholds[1])
