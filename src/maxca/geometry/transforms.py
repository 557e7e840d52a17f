"""Transforms between world spaces: ``Affine``, ``DenseField``, and ``Chain``, which joins them.

Every transform maps *fixed* world points to *moving* world points (RAS+, mm): the direction in which an image is
resampled, and in which ITK and ANTs store a transform.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from maxca.geometry.grid import Grid
from maxca.geometry.inverse import POINTS_AT_ONCE, invert_on_nodes
from maxca.geometry.warp import (
    Interpolation,
    interpolator,
    sample,
    transform_coordinates,
    transform_vectors,
    voxel_coordinates,
)

FLAT = 1e-9  # relative to the largest singular value: a matrix with a smaller one is singular, in any unit


class Residual(NamedTuple):
    """Distance of inverse(transform(x)) from x in mm, over the nodes of the inverse field."""

    mean: float
    max: float

    def __or__(self, other: Residual) -> Residual:
        return Residual(max(self.mean, other.mean), max(self.max, other.max))


class Transform(Protocol):
    """The interface of a step of a ``Chain``."""

    def map_points(self, points: np.ndarray) -> np.ndarray:
        """Map (…, 3) fixed world points to moving world points, in mm."""
        ...

    def advance(self, frame: np.ndarray, points: Tensor) -> tuple[np.ndarray, Tensor]:
        """Map (1, 3, …) points given in a ``frame`` (4x4, to world), and return them with their new frame."""
        ...

    def inverse(self) -> tuple[Transform, Residual]:
        """The transform from moving to fixed world points, and its accuracy."""
        ...


@dataclass(frozen=True, eq=False)
class Affine:
    """A linear map of world space.

    Args:
        matrix: (4, 4), fixed world points to moving world points, RAS+ mm.

    Raises:
        ValueError: for a matrix that is not finite, not affine, or singular.
    """

    matrix: np.ndarray

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.allclose(matrix[3], (0, 0, 0, 1)):
            raise ValueError(f"an affine transform is a finite 4x4 matrix, received {np.asarray(self.matrix).tolist()}")
        stretch = np.linalg.svd(matrix[:3, :3], compute_uv=False)
        if stretch[2] <= FLAT * stretch[0]:
            raise ValueError(f"the affine transform is singular: {matrix[:3, :3].tolist()}")
        matrix.flags.writeable = False
        object.__setattr__(self, "matrix", matrix)

    def __repr__(self) -> str:
        rows = "; ".join(" ".join(f"{value:.4g}" for value in row) for row in self.matrix[:3])
        return f"Affine({rows})"

    @staticmethod
    def identity() -> Affine:
        """The identity."""
        return Affine(np.eye(4))

    def map_points(self, points: np.ndarray) -> np.ndarray:
        """Map (…, 3) fixed world points to moving world points, in mm."""
        return np.asarray(points, dtype=np.float64) @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def advance(self, frame: np.ndarray, points: Tensor) -> tuple[np.ndarray, Tensor]:
        """See ``Transform``: only the frame changes."""
        return self.matrix @ frame, points

    def inverse(self) -> tuple[Affine, Residual]:
        """The exact inverse."""
        return Affine(np.linalg.inv(self.matrix)), Residual(0.0, 0.0)

    def __matmul__(self, other: Affine) -> Affine:
        """``self`` after ``other``."""
        return Affine(self.matrix @ other.matrix)


@dataclass(frozen=True, eq=False)
class DenseField:
    """A displacement at every node of a grid: x ↦ x + d(x), linear between nodes, zero outside the grid.

    Args:
        displacement: (3, I, J, K), RAS+ mm, from fixed to moving world points.
        grid: of the nodes, in fixed world space.

    Raises:
        ValueError: when the shapes disagree or a displacement is not finite.
    """

    displacement: Float[Tensor, "3 i j k"]
    grid: Grid

    def __post_init__(self) -> None:
        if tuple(self.displacement.shape) != (3, *self.grid.shape):
            received = tuple(self.displacement.shape)
            raise ValueError(f"a field on {self.grid.shape} has shape {(3, *self.grid.shape)}, received {received}")
        if not bool(torch.isfinite(self.displacement).all()):
            raise ValueError("the displacement field contains NaN or infinite values")

    def __repr__(self) -> str:
        largest = float(self.displacement.norm(dim=0).max())
        return f"DenseField(up to {largest:.3g} mm, on {self.grid!r})"

    def map_points(self, points: np.ndarray) -> np.ndarray:
        """Map (…, 3) fixed world points to moving world points, in mm."""
        points = np.asarray(points, dtype=np.float64)
        index = torch.as_tensor(self.grid.to_voxel(points).reshape(-1, 3).T, dtype=torch.float32)
        moved = self._at(index.reshape(1, 3, -1, 1, 1).to(self.displacement.device))
        return points + moved.reshape(3, -1).T.double().cpu().numpy().reshape(points.shape)

    def advance(self, frame: np.ndarray, points: Tensor) -> tuple[np.ndarray, Tensor]:
        """See ``Transform``: the points move within their frame."""
        moved = self._at(transform_coordinates(self.grid.world_to_voxel @ frame, points))
        return frame, points + transform_vectors(np.linalg.inv(frame[:3, :3]), moved)

    def inverse(
        self, tolerance: float = 0.01, iterations: int = 60, guess: DenseField | None = None
    ) -> tuple[DenseField, Residual]:
        """Find v with v(x) = -d(x + v(x)) at the nodes x.

        Args:
            tolerance: in multiples of the smallest spacing; a node has converged when its residual is smaller.
            iterations: maximum number at a node.
            guess: a field on the same grid to start from, such as the inverse of a similar field.

        Returns:
            The inverse on the same grid, and the residual that remains at its nodes.
        """
        matrix = self.grid.world_to_voxel[:3, :3]
        voxels = transform_vectors(matrix, self.displacement.unsqueeze(0))
        largest = self.grid.largest_spacing
        settled = tolerance * self.grid.smallest_spacing / largest

        start = None if guess is None else transform_vectors(matrix, guess.displacement.unsqueeze(0))
        inverse, residual = invert_on_nodes(voxels, start, settled, iterations)
        displacement = transform_vectors(self.grid.affine[:3, :3], inverse)[0]
        residual = residual * largest
        return DenseField(displacement, self.grid), Residual(float(residual.mean()), float(residual.max()))

    def rounded(self, per_voxel: int = 4000) -> DenseField:
        """The field in steps of about 1/4000 voxel, or of at most 1/``per_voxel``: finer digits are noise in a file."""
        quantum = 2.0 ** float(np.floor(np.log2(self.grid.smallest_spacing / per_voxel)))
        return DenseField(torch.round(self.displacement / quantum) * quantum, self.grid)

    def to(self, device: torch.device) -> DenseField:
        """The field on another device."""
        return DenseField(self.displacement.to(device), self.grid)

    def faded(self) -> DenseField:
        """The same field on a larger grid, decaying to zero at its border.

        A field that ends abruptly is discontinuous at the border of its grid and has no inverse there. Beyond each face
        the border values are repeated and decay over twice the largest displacement there, slowly enough not to fold.
        """
        low, high, wide = [], [], self.displacement
        for axis, (n, spacing) in enumerate(zip(self.grid.shape, self.grid.spacing, strict=True)):
            reach = [float(self.displacement.select(1 + axis, side).norm(dim=0).max()) for side in (0, -1)]
            before, after = ([int(2 * r / spacing) + 2 for r in reach]) if n > 1 else (0, 0)
            low.append(-before)
            high.append(n + after)
            beyond = torch.cat(
                [
                    torch.arange(before, 0, -1) / max(before, 1),
                    torch.zeros(n),
                    torch.arange(1, after + 1) / max(after, 1),
                ]
            )
            ramp = 0.5 + 0.5 * torch.cos(torch.pi * beyond.to(wide))
            index = torch.arange(-before, n + after, device=wide.device).clamp(0, n - 1)
            wide = wide.index_select(1 + axis, index) * ramp.view([-1 if a == axis else 1 for a in range(3)])
        return DenseField(wide, self.grid.box(low, high))

    def _at(self, index: Tensor) -> Tensor:
        """Displacements (1, 3, …) in mm at voxel indices (1, 3, …) of the grid."""
        return sample(self.displacement.unsqueeze(0), index)


@dataclass(frozen=True, eq=False)
class Chain:
    """Transforms applied in sequence: ``steps[0]`` is applied to the fixed point first.

    Args:
        steps: any transforms; an empty chain is the identity.
        dimension: 2 for a map of the plane of 2-D images, without motion along the third axis; stored in files.
    """

    steps: tuple[Transform, ...] = ()
    dimension: int = 3

    def __repr__(self) -> str:
        names = ", ".join(type(step).__name__ for step in self.steps) or "identity"
        return f"Chain({names}{', 2-D' if self.dimension == 2 else ''})"

    def __matmul__(self, other: Chain) -> Chain:
        """``self`` after ``other``, as functions compose."""
        dimensions = {chain.dimension for chain in (self, other) if chain.steps}
        return Chain(other.steps + self.steps, dimensions.pop() if len(dimensions) == 1 else 3)

    @cached_property
    def is_affine(self) -> bool:
        """Whether every step is affine."""
        return all(isinstance(step, Affine) for step in self.steps)

    def as_affine(self) -> Affine:
        """The product of the steps.

        Raises:
            ValueError: when one of them is not affine.
        """
        product = Affine.identity()
        for step in self.steps:
            if not isinstance(step, Affine):
                raise ValueError("this chain contains a displacement field and is not affine")
            product = step @ product
        return product

    def to(self, device: torch.device) -> Chain:
        """The chain with its fields on another device."""
        return Chain(
            tuple(step.to(device) if isinstance(step, DenseField) else step for step in self.steps), self.dimension
        )

    def map_points(self, points: np.ndarray) -> np.ndarray:
        """Map (…, 3) fixed world points to moving world points, in mm."""
        points = np.asarray(points, dtype=np.float64)
        for step in self.steps:
            points = step.map_points(points)
        return points

    def inverse(self) -> tuple[Chain, Residual]:
        """The chain from moving to fixed world points, and the worst residual of its fields."""
        inverted = [step.inverse() for step in reversed(self.steps)]
        residual = Residual(0.0, 0.0)
        for _, each in inverted:
            residual = residual | each
        return Chain(tuple(step for step, _ in inverted), self.dimension), residual

    def simplified(self) -> Chain:
        """The same map with neighbouring affines multiplied into one."""
        steps: list[Transform] = []
        for step in self.steps:
            if steps and isinstance(step, Affine) and isinstance(steps[-1], Affine):
                steps[-1] = step @ steps[-1]
            else:
                steps.append(step)
        return Chain(tuple(steps), self.dimension)

    def field_on(self, grid: Grid, device: torch.device | None = None) -> DenseField:
        """The whole chain, including affine parts, as one field on ``grid`` in fixed space."""
        slabs = []
        for frame, start, moved in self._slabs(grid, device):
            # Subtract the matrices first: world positions may be large, and float32 has seven digits.
            total = transform_vectors(frame[:3, :3], moved - start) + transform_coordinates(frame - grid.affine, start)
            slabs.append(total[0])
        return DenseField(torch.cat(slabs, dim=1), grid)

    def resample(
        self,
        volume: Shaped[Tensor, "c i j k"],
        grid: Grid,
        reference: Grid,
        interpolation: Interpolation = "linear",
        fill: float = 0.0,
    ) -> Shaped[Tensor, "c a b d"]:
        """Resample a volume in moving space onto a reference grid in fixed space with one interpolation.

        Args:
            volume: (C, I, J, K), any real type.
            grid: of ``volume``, in moving space.
            reference: the grid of the result, in fixed space.
            interpolation: ``"linear"``; ``"nearest"``; ``"labels"``, the label with the largest summed linear weight;
                or ``"bspline"``, cubic.
            fill: the value outside ``grid``.

        Returns:
            (C, A, B, D) on ``reference``. Label and nearest results keep the type of ``volume``, the others are
            float32, or float64 for numbers that float32 cannot represent.

        Raises:
            ValueError: for an unknown interpolation.
        """
        at = interpolator(volume, interpolation, fill)
        slabs = [
            at(transform_coordinates(grid.world_to_voxel @ frame, moved))
            for frame, _, moved in self._slabs(reference, volume.device)
        ]
        return torch.cat(slabs, dim=1)

    def _slabs(self, grid: Grid, device: torch.device | None = None) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """Voxel indices of ``grid`` in blocks of planes, before and after the chain, and the frame of the latter."""
        planes = max(1, POINTS_AT_ONCE // (grid.shape[1] * grid.shape[2]))
        for first in range(0, grid.shape[0], planes):
            last = min(first + planes, grid.shape[0])
            start = voxel_coordinates((last - first, *grid.shape[1:]), device)
            start[:, 0] += first
            frame, moved = grid.affine, start
            for step in self.steps:
                frame, moved = step.advance(frame, moved)
            yield frame, start, moved
