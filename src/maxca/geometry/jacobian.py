"""Jacobian determinants of a map of world space, measured on the voxels of a grid.

Everything is relative to the cell of the grid: the displacement is converted to voxels of the grid, so spacing, flips
and rotations of the header cancel, and a determinant of 1 means that the volume in mm³ is preserved.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from maxca.geometry.grid import Grid
from maxca.geometry.transforms import Chain, DenseField
from maxca.geometry.warp import transform_vectors

Offset = tuple[int, int, int]

VOXELS_AT_ONCE = 500_000  # slabs that fit into the cache: a whole brain at once takes twice as long

# The two schemes that cut a cell into five tetrahedra leave four corners each (eight in all, one for every choice of
# forward and backward differences) and a middle one each, given here by the edges that leave one node, right-handed.
CORNERS: tuple[tuple[Offset, Offset, Offset], ...] = tuple(
    ((i, 0, 0), (0, j, 0), (0, 0, k)) if i * j * k > 0 else ((0, j, 0), (i, 0, 0), (0, 0, k))
    for i, j, k in product((1, -1), repeat=3)
)
MIDDLES: tuple[tuple[Offset, Offset, Offset], ...] = (
    ((1, 1, 0), (0, 1, 1), (1, 0, 1)),
    ((-1, -1, 0), (-1, 0, -1), (0, -1, -1)),
)


def jacobian_determinant(chain: Chain, grid: Grid) -> Float[Tensor, "i j k"]:
    """Determinant of the Jacobian of the fixed → moving map at the voxels of a grid in fixed space.

    Central differences, one-sided at the borders. Along an axis with a single voxel the map is taken to be a
    translation, so a 2-D image has the determinant of its in-plane map.

    Args:
        chain: fixed world points to moving world points, RAS+ mm.
        grid: where to measure.

    Returns:
        (I, J, K): mm³ of moving space per mm³ of fixed space; negative where the map inverts orientation, 0 where it is
        singular.
    """
    return field_determinant(chain.field_on(grid))


def field_determinant(field: DenseField) -> Float[Tensor, "i j k"]:
    """``jacobian_determinant`` of one field, at its nodes."""
    return _in_slabs(field, _central_determinant)


def nondiffeomorphic_volume(field: DenseField) -> Float[Tensor, "i j k"]:
    """Non-diffeomorphic volume (NDV) of the piecewise linear map around each node, as a fraction of one voxel.

    Every cell between eight nodes is divided into five tetrahedra in two ways; the signed volume of a mapped
    tetrahedron is a sixth of a determinant of differences. A node has the eight corner tetrahedra around it and two of
    the middle ones, and the result is half (two ways) of the sum of max(-determinant, 0) / 6 over these ten. Unlike
    central differences it cannot miss a fold: it is 0 everywhere if and only if no tetrahedron is inverted.

    The map is extrapolated linearly beyond the borders, so that border nodes have ten tetrahedra too.

    Args:
        field: fixed world points to moving world points, RAS+ mm.

    Returns:
        (I, J, K), at least 0; 1 everywhere for a reflection.

    Source: Liu et al., "On finite difference Jacobian computation in deformable image registration", IJCV 2024
    (arXiv 2212.06060).
    """
    return _in_slabs(field, _mirrored_volume)


def tetrahedron_determinants(field: DenseField) -> Float[Tensor, "10 i j k"]:
    """The ten determinants behind ``nondiffeomorphic_volume``: ``CORNERS``, then ``MIDDLES``, 2 for the identity."""
    return _in_slabs(field, lambda slab: torch.stack([_edge_determinant(slab, edges) for edges in CORNERS + MIDDLES]))


def _in_slabs(field: DenseField, measure: Callable[[Tensor], Tensor]) -> Tensor:
    """Concatenate ``measure`` over slabs of planes; it gets (3, n + 2, J + 2, K + 2) and returns (…, n, J, K)."""
    shape = field.grid.shape
    voxels = transform_vectors(field.grid.world_to_voxel[:3, :3], field.displacement.unsqueeze(0))[0]
    padded = _extrapolated(voxels)
    planes = max(1, VOXELS_AT_ONCE // (shape[1] * shape[2]))
    slabs = [measure(padded[:, first : first + planes + 2]) for first in range(0, shape[0], planes)]
    return torch.cat(slabs, dim=-3)


def _extrapolated(displacement: Tensor) -> Tensor:
    """Add a node at both ends of every axis by linear extrapolation, or a copy along an axis with a single voxel."""
    for axis in (1, 2, 3):
        n = displacement.shape[axis]
        first, last = displacement.narrow(axis, 0, 1), displacement.narrow(axis, n - 1, 1)
        if n > 1:
            first = 2 * first - displacement.narrow(axis, 1, 1)
            last = 2 * last - displacement.narrow(axis, n - 2, 1)
        displacement = torch.cat([first, displacement, last], dim=axis)
    return displacement


def _central_determinant(slab: Tensor) -> Tensor:
    axes: tuple[Offset, Offset, Offset] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    columns = []
    for i, j, k in axes:
        half = (_shifted(slab, (i, j, k)) - _shifted(slab, (-i, -j, -k))) / 2
        columns.append([half[c] + step for c, step in enumerate((i, j, k))])
    return _determinant(columns)


def _mirrored_volume(slab: Tensor) -> Tensor:
    total = torch.zeros_like(_shifted(slab, (0, 0, 0))[0])
    for edges in CORNERS + MIDDLES:
        total += _edge_determinant(slab, edges).clamp_(max=0)
    return total / -12


def _edge_determinant(slab: Tensor, edges: tuple[Offset, Offset, Offset]) -> Tensor:
    """Determinant of three mapped edges, positive where the tetrahedron keeps its orientation."""
    here = _shifted(slab, (0, 0, 0))
    columns = []
    for edge in edges:
        moved = _shifted(slab, edge) - here
        columns.append([moved[c] + step for c, step in enumerate(edge)])
    return _determinant(columns)


def _shifted(slab: Tensor, offset: Offset) -> Tensor:
    """(3, n, J, K): the inner nodes of a padded slab, shifted by ``offset`` nodes."""
    _, i, j, k = slab.shape
    a, b, c = (1 + step for step in offset)
    return slab[:, a : a + i - 2, b : b + j - 2, c : c + k - 2]


def _determinant(columns: list[list[Tensor]]) -> Tensor:
    (a, b, c), (d, e, f), (g, h, i) = columns
    return a * (e * i - f * h) - d * (b * i - c * h) + g * (b * f - c * e)
