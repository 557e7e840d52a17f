"""``BSpline``: a displacement given by the coefficients of a B-spline on a grid of control points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from maxca.geometry.grid import Grid
from maxca.geometry.transforms import Chain, DenseField, Residual
from maxca.geometry.warp import transform_coordinates, transform_vectors

ROUNDING = 1e-9  # of a control-point spacing
LATTICE = 1e-6  # of a control-point spacing: points that differ by less lie on the lines of a lattice
FINER = 4  # nodes of the default sampling grid per control point


@dataclass(frozen=True, eq=False)
class BSpline:
    """x ↦ x + Σ c β(u(x) - k): evaluated exactly; zero where a basis function of the sum is missing, as in ITK.

    Args:
        coefficients: (3, I, J, K), RAS+ mm, from fixed to moving world points; (3, I, J, 1) for a map of the plane.
        grid: of the control points, in fixed world space.
        order: of the spline, 1 to 3.
        domain: the grid on which the map is sampled where a dense field is required, such as that of the fixed image;
            by default the valid region, four times finer than the control points.

    Raises:
        ValueError: when the shapes disagree, a coefficient is not finite, or the grid is too small for the order.
    """

    coefficients: Float[Tensor, "3 i j k"]
    grid: Grid
    order: int = 3
    domain: Grid | None = None

    def __post_init__(self) -> None:
        if tuple(self.coefficients.shape) != (3, *self.grid.shape):
            received = tuple(self.coefficients.shape)
            raise ValueError(f"a B-spline on {self.grid.shape} has shape {(3, *self.grid.shape)}, received {received}")
        if self.order not in (1, 2, 3):
            raise ValueError(f"the order of a B-spline is 1, 2 or 3, received {self.order}")
        if min(self.grid.shape[axis] for axis in self._axes) <= self.order:
            raise ValueError(f"a B-spline of order {self.order} needs more control points than {self.grid.shape}")
        if not bool(torch.isfinite(self.coefficients).all()):
            raise ValueError("the coefficients of the B-spline contain NaN or infinite values")

    def __repr__(self) -> str:
        return f"BSpline(order {self.order}, on {self.grid!r})"

    def map_points(self, points: np.ndarray) -> np.ndarray:
        """Map (…, 3) fixed world points to moving world points, in mm."""
        points = np.asarray(points, dtype=np.float64)
        moved = self._displacement(self.grid.to_voxel(points).reshape(-1, 3).T)
        return points + moved.T.reshape(points.shape)

    def advance(self, frame: np.ndarray, points: Tensor) -> tuple[np.ndarray, Tensor]:
        """See ``Transform``: the points move within their frame."""
        index = transform_coordinates(self.grid.world_to_voxel @ frame, points.double())[0].cpu().numpy()
        lines = _lines(index)
        found = self._displacement(index.reshape(3, -1)) if lines is None else self._on_lines(lines)
        moved = torch.from_numpy(found).to(points)
        return frame, points + transform_vectors(np.linalg.inv(frame[:3, :3]), moved.view(points.shape))

    def inverse(self) -> tuple[DenseField, Residual]:
        """The inverse of the map sampled on ``domain``, on this grid, and the residual that remains at its nodes."""
        return self.sampled().inverse()

    def sampled(self, grid: Grid | None = None) -> DenseField:
        """The displacement at the nodes of a grid, by default ``domain``; between them it is linear, not exact."""
        return Chain((self,)).field_on(grid or self.domain or self._valid_region)

    @property
    def _axes(self) -> tuple[int, ...]:
        """The axes along which there is a spline: all, or those of the plane."""
        return (0, 1) if self.grid.shape[2] == 1 else (0, 1, 2)

    @property
    def _valid_region(self) -> Grid:
        margin = (self.order - 1) / 2
        steps = np.array([1 / FINER if axis in self._axes else 1 for axis in range(3)])
        low = np.array([margin if axis in self._axes else 0 for axis in range(3)])
        affine = self.grid.affine.copy()
        affine[:3, :3] = affine[:3, :3] * steps
        affine[:3, 3] = self.grid.to_world(low)
        counts = [int((n - 1 - 2 * a) / s) + 1 for n, a, s in zip(self.grid.shape, low, steps, strict=True)]
        return Grid((counts[0], counts[1], counts[2]), affine)

    def _displacement(self, index: np.ndarray) -> np.ndarray:
        """Displacements (3, N) in mm at continuous indices (3, N) of the control points."""
        from scipy import ndimage  # imported here: training needs transforms, and must run without SciPy

        axes = list(self._axes)
        coefficients = self.coefficients.detach().double().cpu().numpy()
        at = _rounded(index[axes])
        inside = np.all([self._valid(at[n], axis) for n, axis in enumerate(axes)], axis=0)
        moved = np.zeros((3, index.shape[1]))
        for component, values in enumerate(coefficients if len(axes) == 3 else coefficients[..., 0]):
            if values.any():
                moved[component, inside] = ndimage.map_coordinates(
                    values, at[:, inside], order=self.order, mode="nearest", prefilter=False
                )
        return moved

    def _on_lines(self, lines: list[np.ndarray]) -> np.ndarray:
        """Displacements (3, I, J, K) at the nodes of a lattice along the control points, axis by axis."""
        weights = [self._weights(_rounded(line), axis) for axis, line in enumerate(lines)]
        coefficients = self.coefficients.detach().double().cpu().numpy()
        return np.einsum("cabd,ia,jb,kd->cijk", coefficients, *weights, optimize=True)

    def _weights(self, at: np.ndarray, axis: int) -> np.ndarray:
        """(N, control points) values of the basis functions of an axis at N positions, zero where one is missing."""
        from scipy import ndimage

        count = self.grid.shape[axis]
        if axis not in self._axes:
            return np.ones((len(at), count))
        basis = [
            ndimage.map_coordinates(e, at[None], order=self.order, mode="nearest", prefilter=False)
            for e in np.eye(count)
        ]
        return np.stack(basis, axis=1) * self._valid(at, axis)[:, None]

    def _valid(self, at: np.ndarray, axis: int) -> np.ndarray:
        """Whether all basis functions of an axis exist at these positions."""
        margin = (self.order - 1) / 2
        return (at >= margin) & (at <= self.grid.shape[axis] - 1 - margin)


def _rounded(at: np.ndarray) -> np.ndarray:
    """Positions without rounding errors at control points and halfway, where the valid region may end."""
    near = np.round(2 * at) / 2
    return np.where(np.abs(at - near) < ROUNDING, near, at)


def _lines(index: np.ndarray) -> list[np.ndarray] | None:
    """The coordinates along each axis if points (3, I, J, K) are a lattice along the axes, as in most chains."""
    lines = [index[0, :, :1, :1], index[1, :1, :, :1], index[2, :1, :1, :]]
    near = all(np.abs(index[axis] - line).max() < LATTICE for axis, line in enumerate(lines))
    return [line.ravel() for line in lines] if near else None
