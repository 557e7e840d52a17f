"""Mending a field where it folds, or bends too sharply for its inverse to be stored: it is smoothed there, only there.

Composition of smooth maps is free of folds; interpolation between nodes may bring back a few. And where space is
squeezed nearly flat, its inverse changes so fast that no lattice of the same spacing can hold it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from maxca.geometry.grid import Grid, nearest, triple
from maxca.geometry.jacobian import field_determinant, nondiffeomorphic_volume
from maxca.geometry.separable import Separable, box, gaussian, per_axis
from maxca.geometry.transforms import Chain, DenseField, Residual

REACH = 1.5  # σ of the smoothing, in multiples of the smallest spacing: with less it takes more rounds
SPREAD = 0.8  # what is nearly as bad as what is mended is mended too, or it would be next
ROUNDS = 50  # most times that a field is looked at for folds
Steps = tuple[int, int, int]
SETTLED = 0.01  # of the smallest spacing of a field: where the search for its inverse ends
ROUND_TRIPS = 10  # most times that an inverse is looked at: each takes a second for a brain at 1 mm


class Invertible(NamedTuple):
    """A field, its inverse, and how far the inverse of each node ends from it."""

    field: DenseField
    inverse: DenseField
    residual: Residual


def unfolded(field: DenseField, flattest: float = 0.0) -> DenseField:
    """Smooth a field where it folds or all but does, until no tetrahedron of nodes is mirrored.

    Args:
        field: any field.
        flattest: where the determinant is smaller than this, the field is smoothed too.
    """
    smoother = _Smoother(field)
    for _ in range(ROUNDS):
        folds = nondiffeomorphic_volume(field) > 0
        if flattest > 0:
            folds |= field_determinant(field) < flattest
        if not folds.any():
            break
        field = smoother(field, folds)
    return field


def invertible(field: DenseField, tolerance: float = 0.4, finer: Steps = (1, 1, 1)) -> Invertible:
    """Smooth a field where its inverse, linear between nodes, does not lead back, and return both.

    A few rounds take away the extremes; what is left is for the caller to measure.

    Args:
        field: a field without folds, at rest at the border of its grid (see ``DenseField.faded``).
        tolerance: how far inverse(field(x)) may be away from any node x, as a share of the largest spacing.
        finer: nodes of the inverse for each of the field, along each axis: it bends more sharply than the field does,
            most of all across thick slices; see ``finer_steps``.
    """
    most = tolerance * field.grid.largest_spacing
    smoother = _Smoother(field)
    settled = SETTLED * field.grid.smallest_spacing / _refined(field, finer).grid.smallest_spacing
    inverse, residual = _refined(field, finer).inverse(settled)
    for _ in range(ROUND_TRIPS):
        error = _round_trip(field, inverse)
        if not (error > most).any():
            break
        field = smoother(field, error > SPREAD * most)
        inverse, residual = _refined(field, finer).inverse(settled, guess=inverse)
    return Invertible(field, inverse, residual)


class _Smoother:
    """Smooths fields on the grid of ``field`` around marked nodes; as far in mm along every axis."""

    def __init__(self, field: DenseField) -> None:
        shape, device = field.grid.shape, field.displacement.device
        share = field.grid.smallest_spacing / field.grid.spacing
        self.smooth: Separable = per_axis(gaussian, shape, (1, 1, 1), REACH * share).to(device)
        self.around: Separable = per_axis(box, shape, (1, 1, 1), (1, 1, 1)).to(device)

    def __call__(self, field: DenseField, marked: Tensor) -> DenseField:
        weight = self.smooth((self.around(marked.float()) > 0).float())
        return DenseField(torch.lerp(field.displacement, self.smooth(field.displacement), weight), field.grid)


def finer_steps(grid: Grid) -> Steps:
    """How many nodes of an inverse for each of a field on ``grid``: half its spacing, or a quarter of the thickest.

    Of three cardiac fields with thick slices, four nodes from slice to slice left 0.07 to 0.08 mm of error on average
    and 1.1 to 3.2 mm in one voxel of a thousand; two along every axis took three times as long, for 0.11 to 0.12 and
    1.7 to 4.7 mm.
    """
    wanted = max(grid.smallest_spacing / 2, grid.largest_spacing / 4)
    return triple(max(1, nearest(mm / wanted)) if n > 1 else 1 for mm, n in zip(grid.spacing, grid.shape, strict=True))


def _refined(field: DenseField, finer: Steps) -> DenseField:
    """The same map, linear between the same nodes, with more of them."""
    if finer == (1, 1, 1):
        return field
    shape = triple((n - 1) * step + 1 for n, step in zip(field.grid.shape, finer, strict=True))
    affine = field.grid.affine.copy()
    affine[:3, :3] /= finer
    return Chain((field,)).field_on(Grid(shape, affine), device=field.displacement.device)


def _round_trip(field: DenseField, inverse: DenseField) -> Tensor:
    """|inverse(field(x)) - x| in mm at the nodes x of ``field``, (I, J, K)."""
    there_and_back = Chain((field, inverse)).field_on(field.grid, device=field.displacement.device)
    return there_and_back.displacement.square().sum(0).sqrt()
