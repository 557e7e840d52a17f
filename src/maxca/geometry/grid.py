"""A grid of voxels in world space: shape and voxel-to-world matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np

SAME = 1e-3  # of a voxel: grids whose corners are closer than this are equal
STORED = 4 * float(np.finfo(np.float32).eps)  # of the largest coordinate: rounding error of float32 headers
SHEAR_TOLERANCE = 1e-4  # tolerance of the cosine of a right angle
T = TypeVar("T")


FARTHEST = 1e38


@dataclass(frozen=True, eq=False)
class Grid:
    """Positions of the voxels of an image in world space.

    Args:
        shape: number of voxels along i, j, k.
        affine: (4, 4) matrix from voxel indices to world RAS+ millimetres (NIfTI convention).

    Raises:
        ValueError: for a non-positive shape, or a matrix that is not finite and invertible.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        affine = np.array(self.affine, dtype=np.float64)
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"a grid has three positive sizes, received {self.shape}")
        # Beyond the range of float32, products of lengths overflow.
        if affine.shape != (4, 4) or not (np.abs(affine) < FARTHEST).all():
            raise ValueError(
                f"a grid needs a finite 4x4 matrix with numbers below {FARTHEST:g}, received {affine.tolist()}"
            )
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        if spacing.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-6:
            raise ValueError(f"the voxel-to-world matrix is singular: {affine[:3, :3].tolist()}")
        affine.flags.writeable = False
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self.shape == other.shape and np.array_equal(self.affine, other.affine)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shape, spacing = " x ".join(map(str, self.shape)), " x ".join(f"{mm:.4g}" for mm in self.spacing)
        return f"Grid({shape} voxels of {spacing} mm)"

    @property
    def spacing(self) -> np.ndarray:
        """(3,) voxel size in mm along i, j, k."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def direction(self) -> np.ndarray:
        """(3, 3) unit vectors of the axes i, j, k in world space, one a column."""
        return self.affine[:3, :3] / self.spacing

    @property
    def origin(self) -> np.ndarray:
        """(3,) world position of voxel (0, 0, 0) in mm."""
        return self.affine[:3, 3]

    @property
    def center(self) -> np.ndarray:
        """(3,) world position of the middle of the grid in mm."""
        return self.to_world((np.array(self.shape) - 1) / 2)

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm³."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def thin_axes(self) -> tuple[int, ...]:
        """Axes with a single voxel; a 2-D image has one."""
        return tuple(axis for axis, n in enumerate(self.shape) if n == 1)

    @property
    def smallest_spacing(self) -> float:
        """Smallest spacing in mm among the axes with more than one voxel."""
        return float(min(self._extended_spacing))

    @property
    def largest_spacing(self) -> float:
        """Largest spacing in mm among the axes with more than one voxel."""
        return float(max(self._extended_spacing))

    @property
    def extent(self) -> float:
        """Geometric mean in mm of the spacings of the axes with more than one voxel."""
        sides = [n * s for n, s in zip(self.shape, self.spacing, strict=True) if n > 1] or [float(self.spacing[0])]
        return float(np.exp(np.log(sides).mean()))

    @property
    def _extended_spacing(self) -> list[float]:
        return [float(s) for s, n in zip(self.spacing, self.shape, strict=True) if n > 1] or [float(self.spacing.min())]

    @property
    def corners(self) -> np.ndarray:
        """(8, 3) world positions of the outermost voxel centres in mm."""
        return self.to_world(np.array(list(product(*((0, n - 1) for n in self.shape)))))

    @property
    def world_to_voxel(self) -> np.ndarray:
        """(4, 4) matrix from world mm to voxel indices."""
        return np.linalg.inv(self.affine)

    @property
    def is_sheared(self) -> bool:
        """Whether the axes are not orthogonal, which ITK and a NIfTI qform cannot represent."""
        return bool(np.abs(self.direction.T @ self.direction - np.eye(3)).max() > SHEAR_TOLERANCE)

    @property
    def upright(self) -> Grid:
        """A grid with orthogonal axes, as close as possible to these, that covers this one.

        Its spacing is the same; a grid without shear is returned unchanged.
        """
        if not self.is_sheared:
            return self
        u, _, v = np.linalg.svd(self.direction)
        matrix = u @ v * self.spacing  # the orthonormal matrix nearest to the directions (polar decomposition)
        index = (self.corners - self.origin) @ np.linalg.inv(matrix).T
        low, high = index.min(axis=0), index.max(axis=0)
        affine = np.eye(4)
        affine[:3, :3] = matrix
        affine[:3, 3] = self.origin + matrix @ low
        return Grid(triple(int(n) + 1 for n in np.ceil(high - low - 1e-6)), affine)

    def to_world(self, voxels: np.ndarray) -> np.ndarray:
        """Map (…, 3) continuous voxel indices to world mm."""
        return np.asarray(voxels, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_voxel(self, points: np.ndarray) -> np.ndarray:
        """Map (…, 3) world points in mm to continuous voxel indices."""
        inverse = self.world_to_voxel
        return np.asarray(points, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]

    @property
    def canonical(self) -> Grid:
        """The same voxels with their axes in the order and direction nearest to right, anterior, superior."""
        alignment = np.abs(self.direction).copy()
        order = [0, 0, 0]
        for _ in range(3):
            world, axis = np.unravel_index(alignment.argmax(), (3, 3))
            order[int(world)] = int(axis)
            alignment[world], alignment[:, axis] = -1, -1
        shape = [self.shape[axis] for axis in order]
        affine = self.affine.copy()
        affine[:, :3] = affine[:, order]
        for axis in range(3):
            if affine[axis, axis] < 0:
                affine[:3, 3] += affine[:3, axis] * (shape[axis] - 1)
                affine[:3, axis] *= -1
        return Grid(triple(shape), affine)

    def at_spacing(self, spacing: Sequence[float | None]) -> Grid:
        """A grid over the same box and from the same corner with other spacings in mm; None keeps that of an axis."""
        wanted = [s if mm is None or n == 1 else mm for mm, s, n in zip(spacing, self.spacing, self.shape, strict=True)]
        steps = np.array(wanted) / self.spacing
        affine = self.affine.copy()
        affine[:3, :3] *= steps
        return Grid(
            triple(int(np.ceil((n - 1) / step - 1e-6)) + 1 for n, step in zip(self.shape, steps, strict=True)), affine
        )

    def centered(self, shape: Sequence[int | None]) -> Grid:
        """The grid cropped or extended symmetrically to a shape; None keeps an axis."""
        low = [0 if m is None else (n - m) // 2 for n, m in zip(self.shape, shape, strict=True)]
        high = [n if m is None else a + m for a, n, m in zip(low, self.shape, shape, strict=True)]
        return self.box(low, high)

    def same_as(self, other: Grid, tolerance: float = SAME) -> bool:
        """Whether both grids have the same shape and the same corners.

        Args:
            other: the other grid.
            tolerance: in multiples of the smallest spacing; the rounding error of float32 coordinates is added.
        """
        if self.shape != other.shape:
            return False
        allowed = tolerance * self.smallest_spacing + STORED * float(np.abs(self.corners).max())
        return bool(np.abs(self.corners - other.corners).max() <= allowed)

    def box(self, low: Sequence[int], high: Sequence[int]) -> Grid:
        """The grid of voxels ``low`` ≤ index < ``high``; it may extend beyond this one, to add a margin."""
        affine = self.affine.copy()
        affine[:3, 3] = self.to_world(np.asarray(low))
        return Grid(triple(int(h) - int(a) for a, h in zip(low, high, strict=True)), affine)

    def every(self, steps: Sequence[int]) -> Grid:
        """The grid of every ``steps``-th voxel along each axis (stride), long enough to cover the last voxel.

        Nodes coincide with voxels of this grid, so a field that is linear between the nodes of the coarse grid is
        exactly representable on the fine one.
        """
        affine = self.affine.copy()
        affine[:3, :3] *= np.asarray(steps)
        return Grid(triple(-(-(n - 1) // s) + 1 for n, s in zip(self.shape, steps, strict=True)), affine)


def triple(values: Iterable[T]) -> tuple[T, T, T]:
    """Three values, one per axis.

    Raises:
        ValueError: for any other number of values.
    """
    i, j, k = values
    return i, j, k


def nearest(ratio: float) -> int:
    """A ratio of lengths rounded to an integer; ties are resolved independently of the unit of the lengths."""
    return round(round(ratio, 6))
