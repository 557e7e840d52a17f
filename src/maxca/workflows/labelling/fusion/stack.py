"""The registered atlases of a scan as arrays, and slabs of them, so that memory does not grow with the labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SLAB = 64 << 20  # bytes of the intensities of all atlases in a slab
VOTES = 256 << 20  # most bytes of the votes for every label at every voxel of a slab
Index = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class AtlasStack:
    """A scan and its registered atlases, cropped to what any of them labels.

    Args:
        target: (I, J, K) intensities of the scan.
        images: (N, I, J, K) intensities of the warped atlases, in their own type.
        labels: (N, I, J, K) their warped labels as positions in ``values``.
        values: (L,) the labels of all atlases in order, 0 first.
        box: of the crop within the grid of the scan.
        shape: of this grid.
    """

    target: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    values: np.ndarray
    box: Index
    shape: tuple[int, int, int]

    def slabs(self, halo: int) -> Iterator[Slab]:
        """Slabs across the first axis with ``halo`` more voxels on all sides; the outermost are repeated there."""
        n, _, j, k = self.images.shape
        planes = max(1, min(SLAB // (4 * n * (j + 2 * halo) * (k + 2 * halo)), VOTES // (4 * j * k * len(self.values))))
        for begin in range(0, self.target.shape[0], planes):
            yield self._slab(begin, min(begin + planes, self.target.shape[0]), halo)

    def _slab(self, begin: int, end: int, halo: int) -> Slab:
        starts, ends = (begin, 0, 0), (end, *self.target.shape[1:])
        places = [
            np.arange(a - halo, b + halo).clip(0, n - 1)
            for a, b, n in zip(starts, ends, self.target.shape, strict=True)
        ]
        at = np.ix_(*places)
        return Slab(
            (begin, end),
            halo,
            torch.from_numpy(self.target[at].astype(np.float32)),
            torch.from_numpy(np.stack([image[at].astype(np.float32) for image in self.images])),
            torch.from_numpy(np.stack([labels[at].astype(np.int32) for labels in self.labels])),
        )


class Slab(NamedTuple):
    """A part of a stack with a halo: all tensors are (…, A, B, D), of which the halo is not part of the result.

    Args:
        planes: its first plane within the stack, and the one after its last.
        halo: voxels on each side.
        target: (A, B, D).
        images: (N, A, B, D).
        labels: (N, A, B, D).
    """

    planes: tuple[int, int]
    halo: int
    target: Tensor
    images: Tensor
    labels: Tensor

    @property
    def contested(self) -> Tensor:
        """(A, B, D) where the atlases have different labels."""
        found: Tensor = (self.labels != self.labels[0]).any(0)
        return found

    def inner(self, margin: int) -> Tensor:
        """(A, B, D), true except within ``margin`` voxels of the outside."""
        found = torch.zeros(self.target.shape, dtype=torch.bool)
        a, b, d = (slice(margin, n - margin) for n in found.shape)
        found[a, b, d] = True
        return found


def stacked(target: np.ndarray, atlases: Iterable[tuple[np.ndarray, np.ndarray]]) -> AtlasStack:
    """A stack of warped atlases.

    Args:
        target: (I, J, K) the scan.
        atlases: the image (I, J, K) and the labels (I, J, K) of each, on the grid of the scan.
    """
    images, labels = zip(*atlases, strict=True)
    values = np.unique(np.concatenate([np.unique(each) for each in labels] + [np.zeros(1, labels[0].dtype)]))
    box = _box(np.logical_or.reduce([each != 0 for each in labels]))
    small = np.min_scalar_type(len(values))
    found = np.stack([np.searchsorted(values, each[box]).astype(small) for each in labels])
    return AtlasStack(target[box], np.stack([each[box] for each in images]), found, values, box, target.shape)


def _box(mask: np.ndarray) -> Index:
    """The smallest box with all that is true; one voxel if there is nothing."""
    ranges = []
    for axis in range(3):
        found = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        ranges.append(slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 1))
    return ranges[0], ranges[1], ranges[2]
