"""Terms of the deformation, whose forces are summed by the optimiser.

A ``Term`` belongs to a pair; ``at`` prepares it for one level. An image similarity, labels, landmarks or a rigid region
is a value, and a force on the nodes of the field that increases it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from maxca.engine.channels import Channel
from maxca.engine.lattice import Lattice, gradient
from maxca.engine.volume import FAINT, Volume, every, steps_within
from maxca.geometry.transforms import Affine, Chain
from maxca.geometry.warp import sample_unit, transform_coordinates, transform_vectors, unit_matrix, voxel_coordinates
from maxca.losses.similarity import similarity_measure

WITHOUT_FORCE = 1e-4  # of the mean force of all channels: those with less are flat, or aligned exactly


class Force(NamedTuple):
    """Value and force of a term for a displacement.

    Args:
        value: a scalar that the optimisation increases.
        nodes: (1, 3, A, B, D) smooth direction of ascent at the nodes (see ``Lattice.collect``), along the axes of the
            fixed grid.
    """

    value: Tensor
    nodes: Float[Tensor, "1 3 a b d"]


class LevelTerm(Protocol):
    """A term at one level."""

    def force(self, displacement: Float[Tensor, "1 3 a b d"]) -> Force:
        """Value and force at a displacement of the nodes, in mm along the axes of the fixed grid."""
        ...


class Term(Protocol):
    """A term of the deformation."""

    def at(self, lattice: Lattice) -> LevelTerm:
        """The term at the scale of a level."""
        ...


@dataclass(frozen=True)
class Guide:
    """A term with a share of the force, whatever its unit.

    At the first step of a level the size of its force is compared with that of the similarity; the constant found then
    scales it in all steps.

    Args:
        term: that guides.
        share: of the whole force, at least 0 and less than 1.
        finest_mm: it does not act at levels with smaller voxels.
        compared: sizes that are compared: ``"norm"`` of the whole forces, for guides that act everywhere; ``"largest"``
            force at any node, for guides that may act in few places, where their norm would make them too strong;
            ``"unit"``: the force is not scaled by itself, and of length 1 it equals the largest of the similarity.
    """

    term: Term
    share: float
    finest_mm: float = 0.0
    compared: Literal["norm", "largest", "unit"] = "norm"


class ImageTerm:
    """The similarity of two images, a weighted sum over their channels.

    Args:
        fixed: prepared fixed image, on any grid over the fixed one; its mask weighs the similarity.
        moving: prepared moving image; its mask weighs the force.
        affine: fixed world points → moving world points, applied after the field.
        similarity: a key of ``SIMILARITIES``.
        weights: of the channels; all equal by default.
    """

    def __init__(
        self,
        fixed: Volume,
        moving: Volume,
        affine: Affine,
        similarity: str = "lncc",
        weights: Sequence[float] | None = None,
    ) -> None:
        channels = len(fixed.channels)
        if len(moving.channels) != channels:
            raise ValueError(
                f"{channels} fixed and {len(moving.channels)} moving channels; their numbers must be equal"
            )
        self.fixed, self.moving, self.affine, self.similarity = fixed, moving, affine, similarity
        self.weights = [1 / channels] * channels if weights is None else [w / sum(weights) for w in weights]

    def at(self, lattice: Lattice) -> LevelTerm:
        """The images at the scale of a level."""
        return _ImageAtLevel(self, lattice)


class _ImageAtLevel:
    def __init__(self, term: ImageTerm, lattice: Lattice) -> None:
        fixed = at_samples(term.fixed, lattice)
        self.moving = every(term.moving, steps_within(term.moving.grid, lattice.mm))
        self.lattice = lattice
        self.weights = term.weights
        self.spacing = fixed.grid.spacing / lattice.unit
        self.measures = [
            similarity_measure(term.similarity, channel, fixed.grid, fixed.mask, lattice.level.window)
            for channel in fixed.channels
        ]
        to_moving = unit_matrix(self.moving.grid.shape) @ self.moving.grid.world_to_voxel @ term.affine.matrix
        nodes = voxel_coordinates(fixed.grid.shape, lattice.device)
        self.unmoved = transform_coordinates(to_moving @ fixed.grid.affine, nodes)
        self.to_moving = to_moving[:3, :3] @ lattice.direction
        self.partial = self.moving.mask is not None or _touches_border(self.moving.channels)

    def force(self, displacement: Float[Tensor, "1 3 a b d"]) -> Force:
        """See ``LevelTerm``."""
        moved = self.lattice.expand(transform_vectors(self.to_moving, displacement)).add_(self.unmoved)
        warped = sample_unit(self.moving.channels[None], moved)[0]
        seen = self._seen(moved) if self.partial else None
        force = gradient(warped, self.spacing)
        values = []
        for channel, measure, weight, pull in zip(warped, self.measures, self.weights, force, strict=True):
            value, slope = measure(channel)
            pull.mul_(slope if seen is None else slope * seen)
            if weight != 1:
                pull.mul_(weight)
            values.append(value if weight == 1 else value * weight)
        pulls = force if len(force) == 1 else force.sum(dim=0, keepdim=True)
        return Force(torch.stack(values).sum(), self.lattice.collect(pulls))

    def _seen(self, moved: Tensor) -> Tensor:
        """1 where the moving image was sampled inside its field of view and mask, else 0."""
        inside = (moved.abs() <= 1).all(dim=1)[0].float()
        if self.moving.mask is None:
            return inside
        return inside * sample_unit(self.moving.mask[None, None], moved)[0, 0]


class ChannelTerm:
    """The weighted sum of the similarities of several channels, each with its measure and on its own grids.

    Channels of one measure are summed as they are, so that the image with more structure pulls more. Measures differ in
    their unit: mean squares pull about thirty times less than local NCC. Where there are several, the forces of each
    are scaled at the first step of a level, such that the mean of its channels has the size of the mean of all, and
    that constant holds for all steps of the level.

    Args:
        channels: of the pair; those of weight 0 are ignored.
        affine: fixed world points → moving world points, applied after the field.
    """

    def __init__(self, channels: Sequence[Channel], affine: Affine) -> None:
        used = [channel for channel in channels if channel.weight > 0]
        self.terms = [ImageTerm(each.fixed, each.moving, affine, each.similarity) for each in used]
        self.weights = [each.weight / sum(each.weight for each in used) for each in used]

    def at(self, lattice: Lattice) -> LevelTerm:
        """The channels at the scale of a level."""
        return self.terms[0].at(lattice) if len(self.terms) == 1 else _ChannelsAtLevel(self, lattice)


class _ChannelsAtLevel:
    def __init__(self, term: ChannelTerm, lattice: Lattice) -> None:
        self.terms = [each.at(lattice) for each in term.terms]
        self.measures = [each.similarity for each in term.terms]
        self.weights = term.weights
        self.scales: dict[str, Tensor] = {}
        if len(set(self.measures)) == 1:
            self.scales[self.measures[0]] = torch.ones((), device=lattice.device)

    def force(self, displacement: Float[Tensor, "1 3 a b d"]) -> Force:
        """See ``LevelTerm``."""
        forces = [term.force(displacement) for term in self.terms]
        self._scale([force.nodes for force in forces])
        value, nodes = torch.zeros((), device=displacement.device), torch.zeros_like(displacement)
        for force, weight, measure in zip(forces, self.weights, self.measures, strict=True):
            if measure in self.scales:
                scale = weight * self.scales[measure]
                value = value + force.value * scale
                nodes.add_(force.nodes * scale)
        return Force(value, nodes)

    def _scale(self, forces: Sequence[Tensor]) -> None:
        """Set the constants of the measures that have a force now, and had none before."""
        missing = set(self.measures) - set(self.scales)
        if not missing:
            return
        sizes = [weight * force.norm() for weight, force in zip(self.weights, forces, strict=True)]
        mean = torch.stack(sizes).sum()
        for measure in missing:
            own = [number for number, name in enumerate(self.measures) if name == measure]
            size = torch.stack([sizes[number] for number in own]).sum() / sum(self.weights[number] for number in own)
            if size > WITHOUT_FORCE * mean:
                self.scales[measure] = mean / size


def at_samples(volume: Volume, lattice: Lattice) -> Volume:
    """A volume at the samples of a level."""
    coarse = every(volume, steps_within(volume.grid, lattice.mm))
    grid = lattice.image_grid
    if coarse.grid.same_as(grid):
        return coarse
    mask = None if coarse.mask is None else Chain().resample(coarse.mask[None], coarse.grid, grid)[0]
    return Volume(Chain().resample(coarse.channels, coarse.grid, grid), grid, mask)


def _touches_border(channels: Tensor) -> bool:
    """Whether an image has content at the faces of its grid, so that beyond them it is unknown rather than empty."""
    faces = [channels.select(axis, side) for axis in (1, 2, 3) for side in (0, -1) if channels.shape[axis] > 1]
    return any(bool((face > FAINT).any()) for face in faces)
