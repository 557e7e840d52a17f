"""The agreement of two segmentations as a term of the deformation.

A segmentation is an image of vectors, one direction for each label (see ``maxca.models.segmentation``). The sum of
squared differences of many channels would cost more than the similarity of the images, so that on fine levels it is
evaluated at the nodes of the field alone.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from maxca.engine.lattice import Lattice
from maxca.engine.terms import Force, ImageTerm, LevelTerm, at_samples
from maxca.engine.volume import Volume, every, steps_within
from maxca.geometry.transforms import Affine
from maxca.geometry.warp import (
    sample,
    sample_with_gradient,
    transform_coordinates,
    transform_vectors,
    voxel_coordinates,
)

DENSE = 20_000  # nodes: with fewer, all samples of a level take milliseconds


class LabelTerm:
    """The negative mean of squared differences of two images of vectors.

    Args:
        fixed: vectors of the fixed image, on any grid over it.
        moving: vectors of the moving image.
        affine: fixed world points → moving world points, applied after the field.
    """

    def __init__(self, fixed: Volume, moving: Volume, affine: Affine) -> None:
        self.fixed, self.moving, self.affine = fixed, moving, affine

    def at(self, lattice: Lattice) -> LevelTerm:
        """At all samples of a level, or at its nodes where there are many."""
        if math.prod(lattice.node_grid.shape) < DENSE:
            return ImageTerm(self.fixed, self.moving, self.affine, "mse").at(lattice)
        return _AtNodes(self, lattice)


class _AtNodes:
    def __init__(self, term: LabelTerm, lattice: Lattice) -> None:
        self.lattice, grid = lattice, lattice.node_grid
        fixed = at_samples(term.fixed, lattice)
        moving = every(term.moving, steps_within(term.moving.grid, lattice.mm))
        nodes = voxel_coordinates(grid.shape, lattice.device)
        in_fixed = transform_coordinates(fixed.grid.world_to_voxel @ grid.affine, nodes)
        at_nodes = sample(fixed.channels[None], in_fixed, padding="border")[0]
        self.fixed = _channels_last(at_nodes).flatten(0, 2)
        self.moving = _channels_last(moving.channels)
        to_voxel = moving.grid.world_to_voxel @ term.affine.matrix
        self.unmoved = transform_coordinates(to_voxel @ grid.affine, nodes)
        self.to_voxel = to_voxel[:3, :3] @ lattice.direction

    def force(self, displacement: Float[Tensor, "1 3 a b d"]) -> Force:
        """See ``LevelTerm``."""
        moved = transform_vectors(self.to_voxel, displacement).add_(self.unmoved)
        warped, slopes = sample_with_gradient(self.moving, moved[0].flatten(1))
        missing = self.fixed - warped
        pulls = torch.stack([torch.linalg.vecdot(missing, slope) for slope in slopes]).view(displacement.shape)
        along_axes = transform_vectors(self.to_voxel.T, pulls)
        return Force(-missing.square().mean(), self.lattice.smoothed(along_axes))


def _channels_last(channels: Tensor) -> Tensor:
    return channels.permute(1, 2, 3, 0).contiguous()
