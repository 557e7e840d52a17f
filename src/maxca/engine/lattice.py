"""The lattices of one level of the optimisation: samples of the fixed image, nodes of the field, and maps between."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from maxca.engine.settings import Level, Settings
from maxca.engine.volume import FAINT, Volume, steps_within
from maxca.geometry.separable import Separable, cubic, diffusion, per_axis
from maxca.geometry.transforms import Chain, DenseField
from maxca.geometry.warp import sample_unit, transform_coordinates, transform_vectors, unit_matrix, voxel_coordinates

EMPTY = 5.0  # smallest spacings without content at a face of the fixed image, for zero motion at its border


class Lattice:
    """Samples and nodes of one level, about ``level.nodes`` samples apart.

    A displacement at the nodes is a (1, 3, A, B, D) tensor in mm along the axes of the fixed grid.

    Args:
        fixed: prepared fixed image.
        level: its scale.
        settings: of the whole optimisation: smoothness and relaxation.
    """

    def __init__(self, fixed: Volume, level: Level, settings: Settings) -> None:
        self.level = level
        self.device = fixed.device
        self.unit = fixed.grid.smallest_spacing
        self.mm = level.factor * self.unit
        self.direction = fixed.grid.direction
        self.image_grid = fixed.grid.every(steps_within(fixed.grid, self.mm))
        apart = steps_within(self.image_grid, level.nodes * self.mm)
        self.node_grid = self.image_grid.every(apart)
        shape, nodes = self.image_grid.shape, self.node_grid.shape
        self.expand = per_axis(cubic, shape, apart, nodes).to(self.device)
        reach = settings.smoothness * level.factor / self.node_grid.spacing
        self._smooth = per_axis(diffusion, nodes, reach).to(self.device)
        self._collect = self._smooth @ self.expand.adjoint
        relax = per_axis(diffusion, nodes, settings.relaxation * reach)
        self.relax = _at_rest(relax, _empty_faces(fixed)).to(self.device)
        to_nodes = unit_matrix(nodes)
        self._still = transform_coordinates(to_nodes, voxel_coordinates(nodes, self.device))
        self._to_nodes = to_nodes[:3, :3] / self.node_grid.spacing

    def collect(self, force: Float[Tensor, "1 3 i j k"]) -> Float[Tensor, "1 3 a b d"]:
        """A force on the samples as a smooth force on the nodes; none across a single slice."""
        return self._collect(self._in_plane(force))

    def smoothed(self, force: Float[Tensor, "1 3 a b d"]) -> Float[Tensor, "1 3 a b d"]:
        """A force on the nodes, smooth; none across a single slice."""
        return self._smooth(self._in_plane(force))

    def _in_plane(self, force: Tensor) -> Tensor:
        for axis in self.image_grid.thin_axes:
            force[:, axis] = 0
        return force

    def compose(self, displacement: Tensor, update: Tensor) -> Tensor:
        """Displacement of (id + displacement) ∘ (id + update), both (1, 3, A, B, D)."""
        moved = self._still + transform_vectors(self._to_nodes, update)
        return sample_unit(displacement, moved) + update

    def at_nodes(self, field: DenseField | None) -> Tensor:
        """A field, fixed world → fixed world, as a displacement at the nodes; None for zero motion."""
        if field is None:
            return torch.zeros(1, 3, *self.node_grid.shape, device=self.device)
        there = Chain((field,)).field_on(self.node_grid, device=self.device)
        return transform_vectors(self.node_grid.direction.T, there.displacement.unsqueeze(0))

    def field(self, displacement: Tensor) -> DenseField:
        """A displacement at the nodes as a field in world mm."""
        return DenseField(transform_vectors(self.node_grid.direction, displacement)[0], self.node_grid)


def gradient(volumes: Float[Tensor, "c i j k"], spacing: np.ndarray) -> Float[Tensor, "c 3 i j k"]:
    """Central differences along each axis, per unit of ``spacing``; 0 at the border."""
    out = torch.zeros(len(volumes), 3, *volumes.shape[1:], dtype=volumes.dtype, device=volumes.device)
    for axis, n in enumerate(volumes.shape[1:], start=1):
        if n > 2:
            inner = out[:, axis - 1].narrow(axis, 1, n - 2)
            torch.sub(volumes.narrow(axis, 2, n - 2), volumes.narrow(axis, 0, n - 2), out=inner)
            inner.mul_(float(0.5 / spacing[axis - 1]))
    return out


def _empty_faces(fixed: Volume) -> list[tuple[bool, bool]]:
    """Whether the outermost layers at the low and the high face of each axis are empty; see ``EMPTY``."""
    empty = []
    for axis, (n, spacing) in enumerate(zip(fixed.grid.shape, fixed.grid.spacing, strict=True), start=1):
        depth = int(EMPTY * fixed.grid.smallest_spacing / spacing + 1e-6) + 1
        slabs = [fixed.channels.narrow(axis, start, min(depth, n)) for start in (0, max(n - depth, 0))]
        low, high = (n > 2 * depth and not bool((slab > FAINT).any()) for slab in slabs)
        empty.append((low, high))
    return empty


def _at_rest(filter: Separable, faces: list[tuple[bool, bool]]) -> Separable:
    """The filter, with a result of 0 at the given faces."""
    matrices = [matrix.clone() for matrix in filter.matrices]
    for matrix, (low, high) in zip(matrices, faces, strict=True):
        matrix[0] *= not low
        matrix[-1] *= not high
    return Separable((matrices[0], matrices[1], matrices[2]))
