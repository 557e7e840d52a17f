"""A network's answer for one pair, as a field in the world."""

from __future__ import annotations

from maxca.data.preprocess import Volume, resampled
from maxca.geometry import Affine, Chain, DenseField
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
    grid = fixed.grid.canonical.at_spacing(model.spacing or (None, None, None))
    fixed_on_grid = resampled(fixed, grid, Chain())
    moving_on_grid = resampled(moving, grid, Chain((affine,)))
    flow = model.network(fixed_on_grid[None, None], moving_on_grid[None, None]).flow[0]
    for axis in grid.thin_axes:
        flow[axis] = 0
    return DenseField(transform_vectors(grid.affine[:3, :3], flow.unsqueeze(0))[0], grid)
