"""The shape of a segmentation network and of its training images, from those of the scans.

An axis is halved while its voxels are smaller than twice the smallest ones: isotropic scans along all axes, thick
slices once the voxels within them are about as large. Source of the rule: Isensee et al., "nnU-Net", Nat Methods 18,
2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from maxca.geometry.grid import triple
from maxca.networks.segmentation import Factors

SMALLEST = 8  # voxels along an axis that is halved


@dataclass(frozen=True)
class Architecture:
    """What follows from the scans.

    Args:
        fold: voxels along each axis that the first layer folds into channels.
        strides: from each level to the next.
        shape: voxels of the training images, a multiple of all strides.
    """

    fold: Factors
    strides: tuple[Factors, ...]
    shape: Factors


def architecture(
    shapes: Sequence[Sequence[int]], spacings: Sequence[Sequence[float]], levels: int, most: int
) -> Architecture:
    """The architecture for scans of some shapes and spacings; training images have the size of a typical scan.

    Args:
        shapes: voxels of each scan.
        spacings: mm of the voxels of each scan.
        levels: at most.
        most: voxels of a training image, which is cropped along its longest axes to have fewer.
    """
    spacing = np.median(np.asarray(spacings, dtype=float), axis=0)
    typical = np.ceil(np.median(np.asarray(shapes), axis=0)).astype(int)
    size, mm = typical, spacing
    steps: list[Factors] = []
    for _ in range(levels):
        long = size >= SMALLEST
        if not long.any():
            break
        halved = long & (mm < 2 * mm[long].min())
        step = np.where(halved, 2, 1)
        steps.append(triple(step.tolist()))
        size, mm = np.ceil(size / step), mm * step
    fold, *strides = steps or [(1, 1, 1)]
    multiple = np.prod([fold, *strides], axis=0)
    shape = -(-typical // multiple) * multiple
    while prod(shape.tolist()) > most and (shape > multiple).any():
        axis = int(np.argmax(np.where(shape > multiple, shape * spacing, 0)))
        shape[axis] -= multiple[axis]
    return Architecture(fold, tuple(strides), triple(shape.tolist()))
