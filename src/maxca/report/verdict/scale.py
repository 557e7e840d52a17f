"""Images and transforms with all lengths scaled, so that the verdict does not depend on physical size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from maxca.geometry import Affine, BSpline, Chain, DenseField, Grid
from maxca.geometry.transforms import Transform
from maxca.registration.inputs import Side


def scaled_side(side: Side, factor: float) -> Side:
    """A side whose image is on a grid scaled by ``factor``."""
    return replace(side, image=replace(side.image, grid=_scaled_grid(side.image.grid, factor)), points=None)


def scaled_chain(chain: Chain, factor: float) -> Chain:
    """The chain in world space scaled by ``factor``.

    Raises:
        TypeError: for a chain with steps other than affine transforms, displacement fields and B-splines.
    """
    return Chain(tuple(_scaled_step(step, factor) for step in chain.steps), chain.dimension)


def _scaled_step(step: Transform, factor: float) -> Transform:
    if isinstance(step, Affine):
        matrix = step.matrix.copy()
        matrix[:3, 3] *= factor
        return Affine(matrix)
    if isinstance(step, DenseField):
        return DenseField(step.displacement * factor, _scaled_grid(step.grid, factor))
    if isinstance(step, BSpline):
        domain = None if step.domain is None else _scaled_grid(step.domain, factor)
        return BSpline(step.coefficients * factor, _scaled_grid(step.grid, factor), step.order, domain)
    raise TypeError(f"{type(step).__name__} is neither an affine transform nor a field or a B-spline")


def _scaled_grid(grid: Grid, factor: float) -> Grid:
    return Grid(grid.shape, np.diag([factor, factor, factor, 1.0]) @ grid.affine)
