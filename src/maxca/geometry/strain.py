"""Strain of a map of world space."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from maxca.geometry.grid import Grid
from maxca.geometry.transforms import Chain


def green_lagrange(chain: Chain, grid: Grid) -> Float[Tensor, "i j k 3 3"]:
    """The Green-Lagrange strain of the fixed → moving map at the voxels of a grid in fixed space.

    E = (FᵀF - 1) / 2 with the deformation gradient F, by central differences, one-sided at the borders. A line along a
    unit vector n in fixed space becomes √(1 + 2 nᵀEn) times as long; rotations give none. Along an axis with a single
    voxel the map is taken to be a translation. Source: Holzapfel, Nonlinear Solid Mechanics, Wiley 2000, section 2.5.

    Args:
        chain: fixed world points to moving world points, RAS+ mm.
        grid: where to measure.

    Returns:
        (I, J, K, 3, 3) along the axes R, A, S.
    """
    displacement = chain.field_on(grid).displacement.double()
    slopes = [
        torch.gradient(displacement, dim=1 + axis)[0] if n > 1 else torch.zeros_like(displacement)
        for axis, n in enumerate(grid.shape)
    ]  # by voxels
    to_voxel = torch.as_tensor(grid.world_to_voxel[:3, :3].copy())
    gradient = torch.einsum("vcijk,vw->ijkcw", torch.stack(slopes), to_voxel)
    return (gradient + gradient.transpose(-1, -2) + gradient.transpose(-1, -2) @ gradient) / 2
