"""Distances of corresponding landmarks as a term of the deformation."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from maxca.engine.lattice import Lattice
from maxca.engine.terms import Force, LevelTerm
from maxca.geometry.transforms import Affine

FAR = 3.0  # medians of the distances after the affine: a pair this far apart pulls a quarter as much for its distance
NEAR = 2.0  # smallest spacings of the fixed image: the least such distance


class PointTerm:
    """The negative mean of squared distances of landmarks, robust to wrong pairs.

    A distance d costs d² / (d² + s²), so that a pair much farther apart than most hardly pulls. The scale s is a
    multiple of the median distance under the affine. Source: Geman and McClure, Bulletin of the ISI 52, 1987.

    Args:
        fixed: (N, 3) world points of the fixed image, mm.
        moving: (N, 3) the same points in the moving image.
        affine: fixed world points → moving world points, applied after the field.
        weights: (N,) of the points, at least 0; all equal by default.
    """

    def __init__(
        self,
        fixed: Float[np.ndarray, "n 3"],
        moving: Float[np.ndarray, "n 3"],
        affine: Affine,
        weights: Float[np.ndarray, " n"] | None = None,
    ) -> None:
        self.fixed, self.affine = fixed, affine
        self.missing = affine.inverse()[0].map_points(moving) - fixed
        given = np.ones(len(fixed)) if weights is None else np.asarray(weights, dtype=np.float64)
        self.weights = given / given.max()

    def scale(self, spacing: float) -> float:
        """The distance s in mm, for a smallest spacing of the fixed image."""
        return scale_of(np.linalg.norm(self.missing, axis=1)[self.weights > 0], spacing)

    def at(self, lattice: Lattice) -> LevelTerm:
        """The landmarks at the nodes of a level."""
        return _PointsAtLevel(self, lattice)


class _PointsAtLevel:
    """Computed on the CPU, because points are few and their sum at a node must not depend on the order of threads."""

    def __init__(self, term: PointTerm, lattice: Lattice) -> None:
        self.lattice, grid = lattice, lattice.node_grid
        self.missing = torch.from_numpy(term.missing @ grid.direction).float().T  # (3, N) along the axes
        self.missing[list(lattice.image_grid.thin_axes)] = 0
        self.weights = torch.from_numpy(term.weights).float()
        self.scale = term.scale(lattice.unit)
        last = np.array(grid.shape) - 1
        index = grid.to_voxel(term.fixed).clip(0, last)
        first = np.minimum(np.floor(index), np.maximum(last - 1, 0)).astype(int)
        corners = np.array(list(product((0, 1), repeat=3)))
        nodes = np.minimum(first[:, None] + corners, last)  # (N, 8, 3)
        shares = np.where(corners, (index - first)[:, None], 1 - (index - first)[:, None]).prod(axis=2)
        self.nodes = torch.from_numpy(np.ravel_multi_index(tuple(np.moveaxis(nodes, -1, 0)), grid.shape))
        self.shares = torch.from_numpy(shares).float()
        self.density = self._density()

    def force(self, displacement: Float[Tensor, "1 3 a b d"]) -> Force:
        """See ``LevelTerm``: a single landmark one voxel of a coarse level away pulls with about length 1."""
        here = displacement.flatten(2)[0].cpu()[:, self.nodes]  # (3, N, 8)
        left = self.missing - (here * self.shares).sum(dim=2)
        squared = left.square().sum(dim=0)
        cost = squared / (squared + self.scale**2)
        # Landmarks are no more exact than a voxel: within it, the images decide.
        beyond = squared / (squared + self.lattice.unit**2)
        pulls = left * self.weights * (1 - cost).square() * beyond / self.lattice.mm
        value = -(self.weights * cost).sum() / self.weights.sum()
        return Force(value.to(displacement.device), self.lattice.smoothed(self._spread(pulls)) / self.density)

    def _density(self) -> Tensor:
        """(1, 1, A, B, D): the weight of the landmarks near each node, but at least that of a single one."""
        axis = next(axis for axis in range(3) if axis not in self.lattice.image_grid.thin_axes)
        weights = torch.zeros(3, len(self.weights))
        weights[axis] = self.weights
        near = self.lattice.smoothed(self._spread(weights))
        single = torch.zeros_like(near)
        i, j, k = (n // 2 for n in near.shape[2:])
        single[:, axis, i, j, k] = 1
        return torch.maximum(near[:, axis : axis + 1], self.lattice.smoothed(single).max())

    def _spread(self, pulls: Float[Tensor, "3 n"]) -> Float[Tensor, "1 3 a b d"]:
        """Vectors at the landmarks on the nodes around them: the adjoint of linear interpolation."""
        out = torch.zeros(3, int(np.prod(self.lattice.node_grid.shape)))
        out.index_add_(1, self.nodes.flatten(), (pulls[:, :, None] * self.shares).flatten(1))
        return out.view(1, 3, *self.lattice.node_grid.shape).to(self.lattice.device)


def scale_of(distances: Float[np.ndarray, " n"], spacing: float) -> float:
    """The distance from which a pair of landmarks is suspected to be wrong, in mm.

    Args:
        distances: of all pairs, mm.
        spacing: smallest spacing of the fixed image, mm.
    """
    return max(FAR * float(np.median(distances)), NEAR * spacing)
