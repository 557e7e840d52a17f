"""The mean image of one subject's scans, in a space that is equally far from all of them.

No scan is preferred: the mean of the rigid transforms from the space of the average to the scans is the identity, and
every scan is interpolated once. The transforms are estimated again to the average until they no longer change.
Source: Reuter et al., NeuroImage 61(4), 2012.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from maxca.engine.affine import AffineSettings, align
from maxca.engine.volume import Volume, resampled
from maxca.geometry import Affine, Chain, Grid
from maxca.geometry.grid import triple
from maxca.io.images import Image
from maxca.registration.halfway import align_halfway
from maxca.registration.inputs import read_side
from maxca.registration.pair import prepared_volume

ROUNDS = 3  # of the average, at most
SETTLED_MM = 0.05  # change of a corner of the average from one round to the next
RIGID = AffineSettings(kind="rigid")


class Average(NamedTuple):
    """A mean image.

    Args:
        image: mean of the normalised scans.
        transforms: average world points → world points of each scan, rigid.
    """

    image: Image
    transforms: list[Affine]


def average_of(images: Sequence[Path]) -> Average:
    """The mean image of several scans of one subject and contrast.

    Args:
        images: at least two files.

    Raises:
        MaxcaError: for a file that cannot be read.
    """
    with torch.no_grad():
        volumes = [prepared_volume(read_side("input", path), torch.device("cpu")) for path in images]
        first = volumes[0]
        rigid = [Affine.identity(), *(align_halfway(first, volume, RIGID).affine for volume in volumes[1:])]
        rigid = centred(rigid, first.grid)
        mean = _mean(volumes, rigid)
        for _ in range(ROUNDS - 1):
            again = [align(mean, v, RIGID, initial=each).affine for v, each in zip(volumes, rigid, strict=True)]
            again = centred(again, mean.grid)
            corners = mean.grid.corners
            moved = [
                np.abs(a.map_points(corners) - b.map_points(corners)).max() for a, b in zip(rigid, again, strict=True)
            ]
            rigid, mean = again, _mean(volumes, again)
            if max(moved) < SETTLED_MM:
                break
    return Average(Image(mean.values.numpy(), mean.grid), rigid)


def centred(rigid: Sequence[Affine], grid: Grid) -> list[Affine]:
    """The same scans relative to a space such that the mean of the rigid transforms is the identity.

    Args:
        rigid: of one space to each scan.
        grid: in that space; translations are averaged at its centre.
    """
    centre = grid.corners.mean(axis=0)
    mean = np.eye(4)
    mean[:3, :3] = Rotation.from_matrix(np.stack([each.matrix[:3, :3] for each in rigid])).mean().as_matrix()
    mean[:3, 3] = np.mean([each.map_points(centre) for each in rigid], axis=0) - mean[:3, :3] @ centre
    back = Affine(mean).inverse()[0]
    return [each @ back for each in rigid]


def _mean(volumes: Sequence[Volume], rigid: Sequence[Affine]) -> Volume:
    grid = _grid_over(volumes, rigid)
    total = torch.zeros(grid.shape)
    for volume, each in zip(volumes, rigid, strict=True):
        total += resampled(volume, grid, Chain((each,)))
    return Volume(total / len(volumes), grid)


def _grid_over(volumes: Sequence[Volume], rigid: Sequence[Affine]) -> Grid:
    """A grid over all scans, along the axes of the world, with the smallest of their mean spacings."""
    corners = np.concatenate(
        [each.inverse()[0].map_points(v.grid.corners) for v, each in zip(volumes, rigid, strict=True)]
    )
    spacing = float(min(np.prod(volume.grid.spacing) ** (1 / 3) for volume in volumes))
    low, high = corners.min(axis=0), corners.max(axis=0)
    shape = np.ceil((high - low) / spacing - 1e-6).astype(int) + 1
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = (low + high) / 2 - spacing * (shape - 1) / 2
    return Grid(triple(int(n) for n in shape), affine)
