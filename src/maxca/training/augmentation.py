"""Random augmentation of training pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from maxca.training.synthesis import Shape, bend

DEGREE = math.pi / 180


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the augmentation, 0 for none; first for the pair as a whole, then for each of its images.

    Args:
        flips: axes along which a pair may be mirrored.
        turn: largest rotation of a pair around the third axis, degrees.
        zoom: largest relative scaling of a pair along the first two axes.
        rotate: largest rotation around each axis, degrees.
        scale: largest relative scaling of each axis.
        shift: largest translation along each axis, mm.
        warp: largest standard deviation of a smooth deformation, voxels.
        bias: coefficient of a bias field.
        gamma: largest relative change of the exponent of the intensities.
        noise: largest standard deviation of Gaussian noise.
    """

    flips: tuple[int, ...] = ()
    turn: float = 0.0
    zoom: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    warp: float = 0.0
    bias: float = 0.0
    gamma: float = 0.0
    noise: float = 0.0


STILL = Augmentation()


def mirrored(how: Augmentation, shape: Sequence[int], random: np.random.Generator) -> np.ndarray:
    """(4, 4) on voxels: reflections of some axes about the centre."""
    matrix = np.eye(4)
    for axis in how.flips:
        if random.random() < 0.5:
            matrix[axis, axis], matrix[axis, 3] = -1, shape[axis] - 1
    return matrix


def turned(
    how: Augmentation, spacing: Sequence[float], shape: Sequence[int], random: np.random.Generator
) -> np.ndarray:
    """(4, 4) on voxels: rotation around the third axis through the centre, and scaling."""
    matrix = np.eye(4)
    if how.turn or how.zoom:
        size = np.asarray(spacing)
        turn = Rotation.from_euler("z", random.uniform(-how.turn, how.turn) * DEGREE).as_matrix()
        zoom = 1 + random.uniform(-how.zoom, how.zoom)
        middle = (np.asarray(shape) - 1) / 2
        matrix[:3, :3] = np.diag(1 / size) @ turn @ np.diag(size * (zoom, zoom, 1.0))
        matrix[:3, 3] = middle - matrix[:3, :3] @ middle
    return matrix


def moved(how: Augmentation, spacing: Sequence[float], shape: Sequence[int], random: np.random.Generator) -> np.ndarray:
    """(4, 4) on voxels: rotation about the centre in mm, scaling and translation."""
    turn = Rotation.from_euler("xyz", random.uniform(-how.rotate, how.rotate, 3) * DEGREE).as_matrix()
    size = np.asarray(spacing)
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(1 / size) @ turn @ np.diag(size * (1 + random.uniform(-how.scale, how.scale, 3)))
    middle = (np.asarray(shape) - 1) / 2
    matrix[:3, 3] = middle - matrix[:3, :3] @ middle + random.uniform(-how.shift, how.shift, 3) / size
    return matrix


def warped(how: Augmentation, shape: Shape, random: np.random.Generator) -> Tensor | None:
    """(1, 3, I, J, K) smooth displacement in voxels, or None."""
    if not how.warp:
        return None
    generator = torch.Generator().manual_seed(int(random.integers(2**32)))
    return bend(shape, how.warp * random.random(), generator).unsqueeze(0)


def repainted(image: Tensor, how: Augmentation, seed: int) -> Tensor:
    """An image (I, J, K) in [0, 1] with another bias, contrast and noise.

    Args:
        image: is not modified.
        how: the ranges.
        seed: the same seed gives the same image.
    """
    changes = _changes(how)
    if not changes:
        return image
    from monai.transforms import Compose

    change = Compose(changes)
    change.set_random_state(seed)
    out = change(image.unsqueeze(0))
    return torch.as_tensor(getattr(out, "as_tensor", lambda: out)())[0].clamp(0, 1)


def _changes(how: Augmentation) -> list[Any]:
    from monai.transforms import RandAdjustContrast, RandBiasField, RandGaussianNoise

    changes: list[Any] = []
    if how.bias:
        changes.append(RandBiasField(prob=0.5, coeff_range=(-how.bias, how.bias)))
    if how.gamma:
        changes.append(RandAdjustContrast(prob=0.5, gamma=(1 - how.gamma, 1 + how.gamma)))
    if how.noise:
        changes.append(RandGaussianNoise(prob=0.5, std=how.noise))
    return changes
