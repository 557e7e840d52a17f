"""Instance optimisation: the deformation of one pair, found on the pair itself.

A displacement lives on a lattice of nodes, about two voxels apart, and starts at zero. Each step computes the gradient
of the similarity in closed form, smooths it, adds momentum, limits it to a fraction of a voxel, and *composes* it with
the field: a composition of small smooth maps is a diffeomorphism. A slight smoothing of the field itself after every
step keeps it regular. Coarse levels come first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from maxca.engine.volume import FAINT, Steps, Volume, at_scale, every, steps_within
from maxca.geometry.grid import Grid
from maxca.geometry.repair import unfolded
from maxca.geometry.separable import Separable, cubic, gaussian, per_axis
from maxca.geometry.transforms import Affine, Chain, DenseField
from maxca.geometry.warp import sample_unit, transform_coordinates, transform_vectors, unit_matrix, voxel_coordinates
from maxca.losses.similarity import (
    LocalNCC,
    MeanSquares,
    MutualInformation,
    Similarity,
    SimilarityName,
    local_window,
)

Progress = Callable[[str, int, int], None]

FLATTEST = 0.1  # smallest determinant that the nodes keep: where space is flatter, the inverse is not worth its name
SHRINK = 0.6  # of the stride, whenever a step has overshot: the similarity fell
SHORTEST = 0.05  # share of the first stride below which it does not shrink
EMPTY = 5.0  # smallest spacings without content at a face of the fixed image, for its border to be kept at rest
COMPARED_AT = 2.0  # smallest spacings between the samples of the similarities that are reported: less is noise


@dataclass(frozen=True)
class Level:
    """One scale of the optimisation.

    Args:
        factor: voxel size of the level, in multiples of the smallest spacing of the fixed image.
        steps: most steps to take.
        window: voxels in a window of local NCC: 125 is 5 along each axis.
        nodes: distance of the field's nodes, in voxels of the level.
    """

    factor: int
    steps: int
    window: int = 125
    nodes: int = 2

    def voxels(self, grid: Grid) -> int:
        """How many voxels the level has for a fixed image on ``grid``."""
        return int(np.prod(grid.every(level_steps(grid, self.factor)).shape))


@dataclass(frozen=True)
class Settings:
    """How to optimise.

    Args:
        levels: from coarse to fine.
        similarity: ``"lncc"``, ``"mi"`` or ``"mse"``.
        smoothness: how far the motion of a point reaches, σ in mm at the finest level; coarser levels scale it.
        stride: length of a step, the largest motion of any node, in voxels of the level.
        momentum: share of the last step that goes into the next.
        relaxation: σ of the smoothing of the whole field after each step, as a share of ``smoothness``.
        patience: a level ends when the similarity has not risen by ``tolerance`` in this many steps.
        tolerance: see ``patience``.
    """

    levels: tuple[Level, ...]
    similarity: SimilarityName = "lncc"
    smoothness: float = 3.0
    stride: float = 0.5
    momentum: float = 0.9
    relaxation: float = 0.25
    patience: int = 5
    tolerance: float = 2e-3


@dataclass(frozen=True)
class LevelRecord:
    """What happened at one level: voxel size in mm, steps taken, and the similarity at each of them."""

    spacing: tuple[float, float, float]
    steps: int
    similarity: tuple[float, ...]
    converged: bool


def optimise(
    fixed: Volume,
    moving: Volume,
    affine: Affine,
    settings: Settings,
    *,
    initial: DenseField | None = None,
    prior: DenseField | None = None,
    progress: Progress = lambda _stage, _done, _total: None,
) -> tuple[DenseField, tuple[LevelRecord, ...]]:
    """Deform ``moving`` onto ``fixed``.

    Args:
        fixed: prepared fixed image; its mask weighs the similarity.
        moving: prepared moving image; where its mask is 0 it pulls nothing.
        affine: fixed world points → moving world points, applied after the field.
        settings: levels and regularisation.
        initial: a field to start from, fixed world points; None for no motion.
        prior: the field that regularisation pulls to, fixed world points; None for no motion.
        progress: called with (stage, steps done, steps in all).

    Returns:
        The field, fixed world → fixed world before the affine, on a lattice over ``fixed.grid``; and a record of each
        level.
    """
    total = sum(level.steps for level in settings.levels)
    done = 0
    field = initial
    records = []
    for level in settings.levels:
        stage = f"deform at {level.factor * fixed.grid.smallest_spacing:.3g} mm"
        problem = _Problem(fixed, moving, affine, level, settings)
        state = problem.start(field, prior)
        values: list[float] = []
        converged = False
        for step in range(level.steps):
            progress(stage, done + step, total)
            value = problem.advance(state)
            if values and value < max(values):
                shortest = SHORTEST * settings.stride * problem.image_grid.smallest_spacing
                problem.stride = max(SHRINK * problem.stride, shortest)
            values.append(value)
            if _stalled(values, settings):
                converged = True
                break
        done += level.steps
        records.append(LevelRecord(tuple(problem.image_grid.spacing), len(values), tuple(values), converged))
        field = problem.finish(state, on_nodes=level is not settings.levels[-1])
    progress("deformed", total, total)
    if field is None:
        field = DenseField(torch.zeros(3, *fixed.grid.shape, device=fixed.values.device), fixed.grid)
    return field.faded(), tuple(records)


def similarity_of(
    fixed: Volume, moving: Volume, name: SimilarityName, chains: dict[str, Chain], mm: float | None = None
) -> dict[str, float]:
    """Similarity of a pair under each of some chains.

    Args:
        fixed: prepared fixed image.
        moving: prepared moving image.
        name: the similarity.
        chains: fixed world points → moving world points, by name.
        mm: distance of the samples; by default twice the smallest spacing of the fixed image.
    """
    mm = mm or COMPARED_AT * fixed.grid.smallest_spacing
    fixed_lattice, moving_lattice = at_scale(fixed, mm), at_scale(moving, mm)
    measure = _similarity(name, fixed_lattice, Level(1, 0), fixed.values.device)
    scores = {}
    for key, chain in chains.items():
        warped = chain.resample(moving_lattice.values[None], moving_lattice.grid, fixed_lattice.grid)[0]
        scores[key] = float(measure(warped).value)
    return scores


def level_steps(grid: Grid, factor: int) -> Steps:
    """Which voxels of the fixed grid make a level: each how-manieth along every axis."""
    return steps_within(grid, factor * grid.smallest_spacing)


def _stalled(values: list[float], settings: Settings) -> bool:
    if len(values) <= 2 * settings.patience:
        return False
    recent, before = values[-settings.patience :], values[-2 * settings.patience : -settings.patience]
    return max(recent) - max(before) < settings.tolerance * abs(max(before))


@dataclass
class _State:
    """Displacement and velocity at the nodes, (1, 3, A, B, D), in mm along the axes of the fixed grid.

    ``prior`` is where regularisation pulls: what is smoothed is the difference from it.
    """

    displacement: Tensor
    velocity: Tensor
    prior: Tensor


class _Problem:
    """Similarity and composition at one level."""

    def __init__(self, fixed: Volume, moving: Volume, affine: Affine, level: Level, settings: Settings) -> None:
        device = fixed.values.device
        base = fixed.grid.smallest_spacing
        mm = level.factor * base
        fixed_level = every(fixed, steps_within(fixed.grid, mm))
        self.moving = every(moving, steps_within(moving.grid, mm))
        self.image_grid = fixed_level.grid
        self.spacing, self.unit = self.image_grid.spacing, base
        apart = steps_within(self.image_grid, level.nodes * mm)
        self.node_grid = self.image_grid.every(apart)
        shape, nodes = self.image_grid.shape, self.node_grid.shape
        self.expand = per_axis(cubic, shape, apart, nodes).to(device)
        reach = settings.smoothness * level.factor / self.node_grid.spacing
        smooth = per_axis(gaussian, nodes, (1, 1, 1), reach).to(device)
        self.collect = smooth @ self.expand.adjoint
        relax = per_axis(gaussian, nodes, (1, 1, 1), settings.relaxation * reach)
        self.relax = _at_rest(relax, _empty_faces(fixed)).to(device)
        self.stride = settings.stride * mm
        self.momentum = settings.momentum
        self.measure = _similarity(settings.similarity, fixed_level, level, device)
        self.frozen = self.image_grid.thin_axes

        to_moving = unit_matrix(self.moving.grid.shape) @ self.moving.grid.world_to_voxel @ affine.matrix
        self.unmoved = transform_coordinates(to_moving @ self.image_grid.affine, voxel_coordinates(shape, device))
        self.to_moving = to_moving[:3, :3] @ fixed.grid.direction
        to_nodes = unit_matrix(nodes)
        self.still = transform_coordinates(to_nodes, voxel_coordinates(nodes, device))
        self.to_nodes = to_nodes[:3, :3] / self.node_grid.spacing
        self.partial = self.moving.mask is not None or _touches_border(self.moving.values)

    def start(self, field: DenseField | None, prior: DenseField | None) -> _State:
        """The state that stands for ``field``, with ``prior`` to be pulled to; None for no motion."""
        displacement = self._at_nodes(field)
        return _State(displacement, torch.zeros_like(displacement), self._at_nodes(prior))

    def _at_nodes(self, field: DenseField | None) -> Tensor:
        if field is None:
            return torch.zeros(1, 3, *self.node_grid.shape, device=self.moving.values.device)
        there = Chain((field,)).field_on(self.node_grid, device=self.moving.values.device)
        return transform_vectors(self.node_grid.direction.T, there.displacement.unsqueeze(0))

    def advance(self, state: _State) -> float:
        """Take one step and return the similarity before it."""
        moved = self.expand(transform_vectors(self.to_moving, state.displacement)).add_(self.unmoved)
        warped = sample_unit(self.moving.values[None, None], moved)[0, 0]
        value, pull = self.measure(warped)
        if self.partial:
            pull = pull * self._seen(moved)
        force = _gradient(warped, self.spacing / self.unit).mul_(pull)
        for axis in self.frozen:
            force[:, axis] = 0
        state.velocity = self.collect(force).add_(state.velocity, alpha=self.momentum)
        largest = state.velocity.norm(dim=1).max()
        update = state.velocity * (self.stride / largest.clamp(min=1e-12))
        moved = self._compose(state.displacement, update)
        state.displacement = state.prior + self.relax(moved - state.prior)
        return float(value)

    def finish(self, state: _State, *, on_nodes: bool) -> DenseField:
        """The field of a state in world mm, on its nodes, or on the voxels of the level, as smooth as it is there."""
        field = DenseField(transform_vectors(self.node_grid.direction, state.displacement)[0], self.node_grid)
        if on_nodes:
            return field
        return unfolded(DenseField(self.expand(unfolded(field, FLATTEST).displacement), self.image_grid))

    def _compose(self, displacement: Tensor, update: Tensor) -> Tensor:
        """Displacement of (id + displacement) ∘ (id + update)."""
        moved = self.still + transform_vectors(self.to_nodes, update)
        return sample_unit(displacement, moved) + update

    def _seen(self, moved: Tensor) -> Tensor:
        """1 where the moving image was looked up inside its field of view and mask, else 0."""
        inside = (moved.abs() <= 1).all(dim=1)[0].float()
        if self.moving.mask is None:
            return inside
        return inside * sample_unit(self.moving.mask[None, None], moved)[0, 0]


def _similarity(name: SimilarityName, fixed: Volume, level: Level, device: torch.device) -> Similarity:
    if name == "lncc":
        return LocalNCC(fixed.values, local_window(fixed.grid, level.window).to(device), fixed.mask)
    if name == "mi":
        return MutualInformation(fixed.values, fixed.mask)
    return MeanSquares(fixed.values, fixed.mask)


def _touches_border(values: Tensor) -> bool:
    """Whether the image has content at the faces of its grid, so that beyond them it is unknown rather than empty."""
    faces = [values.select(axis, side) for axis in range(3) for side in (0, -1) if values.shape[axis] > 1]
    return any(bool((face > FAINT).any()) for face in faces)


def _empty_faces(fixed: Volume) -> list[tuple[bool, bool]]:
    """At the low and the high face of each axis, whether the outermost layer hold nothing; see ``EMPTY``."""
    empty = []
    for axis, (n, spacing) in enumerate(zip(fixed.grid.shape, fixed.grid.spacing, strict=True)):
        depth = int(EMPTY * fixed.grid.smallest_spacing / spacing + 1e-6) + 1
        slabs = [fixed.values.narrow(axis, start, min(depth, n)) for start in (0, max(n - depth, 0))]
        low, high = (n > 2 * depth and not bool((slab > FAINT).any()) for slab in slabs)
        empty.append((low, high))
    return empty


def _at_rest(filter: Separable, faces: list[tuple[bool, bool]]) -> Separable:
    """The filter, with a result of 0 at the given faces."""
    matrices = [matrix.clone() for matrix in filter.matrices]
    for matrix, (low, high) in zip(matrices, faces, strict=True):
        matrix[0] *= not low
        matrix[-1] *= not high
    return Separable((matrices[0], matrices[1], matrices[2]))


def _gradient(volume: Float[Tensor, "i j k"], spacing: np.ndarray) -> Float[Tensor, "1 3 i j k"]:
    """Central differences along each axis, per unit of ``spacing``; 0 at the border."""
    out = torch.zeros(1, 3, *volume.shape, dtype=volume.dtype, device=volume.device)
    for axis, n in enumerate(volume.shape):
        if n > 2:
            inner = out[0, axis].narrow(axis, 1, n - 2)
            torch.sub(volume.narrow(axis, 2, n - 2), volume.narrow(axis, 0, n - 2), out=inner)
            inner.mul_(float(0.5 / spacing[axis]))
    return out
