"""The agreement of two segmentations as a term of the deformation.

A segmentation is an image of vectors: each label is a fixed unit vector, the background zero, and between labels or
where they are uncertain, the expected vector. The squared difference of two such images is small where the labels
agree, and its cost is independent of their number. The sum of squared differences of many channels would still cost
more than the similarity of the images, so that on fine levels it is evaluated at the nodes of the field alone.
"""

from __future__ import annotations

import math
from itertools import combinations, product

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from maxca.engine.lattice import Lattice
from maxca.engine.terms import Force, ImageTerm, LevelTerm, at_samples
from maxca.engine.volume import Steps, Volume, every, steps_within
from maxca.geometry.grid import Grid
from maxca.geometry.separable import box, per_axis
from maxca.geometry.transforms import Affine
from maxca.geometry.warp import (
    sample,
    sample_with_gradient,
    transform_coordinates,
    transform_vectors,
    voxel_coordinates,
)

DENSE = 20_000  # nodes: with fewer, all samples of a level take milliseconds
REACH = 3  # nodes around the labels at which they may pull: more change nothing
TINY = 1e-6  # of the squared length of a label's vector
DIMENSIONS = 8


def label_directions(count: int) -> Float[Tensor, "count d"]:
    """The vectors of labels by their index, of at most 8 dimensions; the first is the background.

    Up to 8 labels are orthogonal, up to 240 are the roots of E₈, whose squared distances are at least 1, and further
    ones are random. Source: Conway and Sloane, Sphere Packings, Lattices and Groups, 1999, chapter 4.

    Args:
        count: number of labels with the background.
    """
    if count - 1 <= DIMENSIONS:
        return torch.cat([torch.zeros(1, max(count - 1, 1)), torch.eye(count - 1, max(count - 1, 1))])
    unit = torch.eye(DIMENSIONS)
    pairs = torch.stack([unit[i] + sign * unit[j] for sign in (1, -1) for i, j in combinations(range(DIMENSIONS), 2)])
    halves = torch.tensor([signs for signs in product((0.5, -0.5), repeat=DIMENSIONS) if signs.count(-0.5) % 2 == 0])
    lines = torch.cat([pairs, halves[: len(halves) // 2]]) / math.sqrt(2)  # the other halves are opposites
    generator = torch.Generator().manual_seed(0)
    others = F.normalize(torch.randn(max(count - 1 - 2 * len(lines), 0), DIMENSIONS, generator=generator), dim=1)
    return torch.cat([torch.zeros(1, DIMENSIONS), lines, -lines, others])[:count]


def label_vectors(classes: Int[Tensor, "i j k"], grid: Grid, count: int, steps: Steps) -> Volume:
    """A label map as an image of vectors, one channel after the other, smoothed where it becomes coarser.

    Args:
        classes: index of the label of each voxel: 0 is background, -1 unknown.
        grid: of the label map.
        count: number of labels with the background.
        steps: strides of the result.
    """
    directions = label_directions(count).to(classes.device)
    known = classes >= 0
    index = classes.clamp(min=0).long()
    mask = None if bool(known.all()) else every(Volume(known.float(), grid), steps).values
    channels = [every(Volume(channel[index], grid), steps).values for channel in directions.T.contiguous()]
    return Volume(torch.stack(channels), grid.every(steps), mask)


class LabelTerm:
    """The negative mean of squared differences of two images of vectors.

    Args:
        fixed: vectors of the fixed image, on any grid over it.
        moving: vectors of the moving image.
        affine: fixed world points → moving world points, applied after the field.
        even: at the nodes, the force is about as large as the motion that the labels ask for, instead of largest where
            their edges are sharp. Source: Thirion, Medical Image Analysis 2(3), 1998.
    """

    def __init__(self, fixed: Volume, moving: Volume, affine: Affine, *, even: bool = False) -> None:
        self.fixed, self.moving, self.affine, self.even = fixed, moving, affine, even

    def at(self, lattice: Lattice) -> LevelTerm:
        """At all samples of a level, or at its nodes where there are many."""
        if math.prod(lattice.node_grid.shape) < DENSE:
            return ImageTerm(self.fixed, self.moving, self.affine, "mse").at(lattice)
        return _AtNodes(self, lattice)


class _AtNodes:
    """At the nodes that labels of either image can reach; at others both are background."""

    def __init__(self, term: LabelTerm, lattice: Lattice) -> None:
        self.lattice, grid = lattice, lattice.node_grid
        fixed = at_samples(term.fixed, lattice)
        moving = every(term.moving, steps_within(term.moving.grid, lattice.mm))
        to_voxel = moving.grid.world_to_voxel @ term.affine.matrix
        nodes = voxel_coordinates(grid.shape, lattice.device)
        in_fixed = transform_coordinates(fixed.grid.world_to_voxel @ grid.affine, nodes)
        unmoved = transform_coordinates(to_voxel @ grid.affine, nodes)
        at_nodes = sample(fixed.channels[None], in_fixed, padding="border")
        drawn = _drawn(at_nodes)
        extent = _drawn(moving.channels[None])[0]
        drawn |= sample(extent[None, None].float(), unmoved)[0] > 0
        near = per_axis(box, grid.shape, (1, 1, 1), (REACH, REACH, REACH)).to(lattice.device)(drawn.float())[0] > 0
        self.index = torch.nonzero(near.flatten())[:, 0]
        self.fixed = at_nodes[0].flatten(1).T[self.index]
        self.moving = moving.channels.permute(1, 2, 3, 0).contiguous()
        self.unmoved = unmoved.flatten(2)[:, :, self.index]
        self.to_voxel = to_voxel[:3, :3] @ lattice.direction
        self.weight = None
        if fixed.mask is not None:
            self.weight = sample(fixed.mask[None, None], in_fixed, padding="border").flatten()[self.index]
        self.known = moving.mask
        self.even = term.even

    def force(self, displacement: Float[Tensor, "1 3 a b d"]) -> Force:
        """See ``LevelTerm``."""
        here = displacement.flatten(2)[:, :, self.index]
        moved = transform_vectors(self.to_voxel, here).add_(self.unmoved)
        warped, slopes = sample_with_gradient(self.moving, moved[0])
        missing = self.fixed - warped
        pulls = torch.stack([torch.linalg.vecdot(missing, slope) for slope in slopes])
        squared = missing.square().sum(dim=1)
        if self.even:
            pulls /= slopes.square().sum(dim=(0, 2)).add_(squared).clamp_(min=TINY)
        weight = self._weight(moved)
        if weight is not None:
            pulls *= weight
            squared *= weight
        along_axes = torch.zeros_like(displacement)
        along_axes.flatten(2)[:, :, self.index] = transform_vectors(self.to_voxel.T, pulls[None])
        count = displacement[0, 0].numel()
        return Force(-squared.sum() / (count * missing.shape[1]), self.lattice.smoothed(along_axes))

    def _weight(self, moved: Float[Tensor, "1 3 n"]) -> Tensor | None:
        """(N,) product of the weights of both images; None where there are none."""
        if self.known is None:
            return self.weight
        known = sample(self.known[None, None], moved[..., None, None], padding="border").flatten()
        return known if self.weight is None else known * self.weight


def _drawn(vectors: Float[Tensor, "1 c i j k"]) -> Tensor:
    """(1, I, J, K) bool: where there is a label."""
    return (vectors != 0).any(dim=1)
