"""Inverting a displacement field by fixed-point iteration."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from maxca.geometry.warp import sample, voxel_coordinates

DAMP_AFTER = 15  # plain steps settle all but the most deformed nodes; damped ones converge where those oscillate


def invert_displacement(
    displacement: Float[Tensor, "1 3 i j k"], spacing: np.ndarray, tolerance: float, iterations: int
) -> tuple[Float[Tensor, "1 3 i j k"], Float[Tensor, " nodes"]]:
    """Find v with v(y) = -d(y + v(y)) at the nodes of the grid of d.

    Args:
        displacement: d, in voxels of its own grid.
        spacing: (3,) mm per voxel, to measure the residual.
        tolerance: mm.
        iterations: most steps to take.

    Returns:
        v in voxels, and |v(y) + d(y + v(y))| at each node in mm.
    """
    shape = displacement.shape[2:]
    mm = torch.as_tensor(spacing, dtype=displacement.dtype, device=displacement.device).view(1, 3, 1)
    nodes = voxel_coordinates(shape, displacement.device).flatten(2)
    inverse = torch.zeros_like(nodes)
    residual = torch.full(nodes.shape[2:], torch.inf, device=nodes.device)
    active = torch.arange(nodes.shape[2], device=nodes.device)
    for iteration in range(iterations):
        at = (nodes[:, :, active] + inverse[:, :, active]).view(1, 3, -1, 1, 1)
        error = inverse[:, :, active] + sample(displacement, at).flatten(2)
        left = (error * mm).norm(dim=1)[0]
        residual[active] = left
        unsettled = left > tolerance
        if not unsettled.any():
            break
        active = active[unsettled]
        step = 1.0 if iteration < DAMP_AFTER else 0.5
        inverse[:, :, active] -= step * error[:, :, unsettled]
    return inverse.view(displacement.shape), residual
