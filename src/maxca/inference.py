"""A network's answer for one pair, as a field in the world."""

from __future__ import annotations

import numpy as np
import torch

from maxca.data.preprocess import Volume, every, steps_within
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.geometry.warp import transform_vectors
from maxca.zoo.models import Model


def network_field(model: Model, fixed: Volume, moving: Volume, affine: Affine) -> DenseField:
    """What a network makes of a pair.

    Args:
        model: the network and the spacing it wants.
        fixed: prepared fixed image.
        moving: prepared moving image.
        affine: fixed world points → moving world points, applied after the field.

    Returns:
        Fixed world → fixed world before the affine, on the network's grid over ``fixed.grid``.
    """
    grid = network_grid(fixed.grid, model.spacing)
    fixed_on_grid = _on(grid, fixed, Chain())
    moving_on_grid = _on(grid, moving, Chain((affine,)))
    flow = model.network(fixed_on_grid, moving_on_grid).flow[0]
    for axis in grid.thin_axes:
        flow[axis] = 0
    return DenseField(transform_vectors(grid.affine[:3, :3], flow.unsqueeze(0))[0], grid)


def network_grid(grid: Grid, spacing: tuple[float, float, float] | None) -> Grid:
    """The box of a grid at another spacing (mm along i, j, k), from the same corner."""
    if spacing is None:
        return grid
    steps = np.where(np.array(grid.shape) > 1, np.array(spacing) / grid.spacing, 1.0)
    affine = grid.affine.copy()
    affine[:3, :3] *= steps
    i, j, k = (int(np.ceil((n - 1) / step - 1e-6)) + 1 for n, step in zip(grid.shape, steps, strict=True))
    return Grid((i, j, k), affine)


def _on(grid: Grid, volume: Volume, chain: Chain) -> torch.Tensor:
    """(1, 1, I, J, K) of a volume, blurred to match where the grid is coarser."""
    lattice = every(volume, steps_within(volume.grid, grid.smallest_spacing))
    return chain.resample(lattice.values[None], lattice.grid, grid).unsqueeze(0)
