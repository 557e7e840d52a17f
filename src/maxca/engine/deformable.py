"""Instance optimisation: the deformation of one pair, optimised on this pair.

A displacement is defined on a lattice of nodes, about two voxels apart, and starts at zero. Each step computes the
gradient of the similarity in closed form, smooths it, adds momentum, limits it to a fraction of a voxel, and *composes*
it with the field: a composition of small smooth maps is a diffeomorphism. A slight smoothing of the field itself after
every step keeps it regular. Coarse levels come first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maxca.engine.bodies import Bodies
from maxca.engine.filling import Filling
from maxca.engine.lattice import Lattice
from maxca.engine.limit import Limit
from maxca.engine.settings import Settings
from maxca.engine.terms import Force, Guide, ImageTerm, Term
from maxca.engine.volume import Volume
from maxca.geometry.repair import unfolded
from maxca.geometry.transforms import Affine, DenseField

StepProgress = Callable[[str, int, int], None]
Constraint = Bodies | Filling | Limit

FLATTEST = 0.1  # smallest determinant at the nodes: below, the inverse is inaccurate
SHRINK = 0.6  # factor of the stride after a step that decreased the similarity
DECREASE = 0.02  # of the gain of a level: if it ended farther than this below its best, it hands on its best field
ROUNDING = 1e-4  # of the best value: a smaller decrease does not shorten the stride
GAIN = 0.3  # of the similarity: value of all that a guide of half the force can gain at a level
SHORTEST = 0.05  # smallest fraction of the first stride


@dataclass(frozen=True)
class LevelRecord:
    """Record of one level: voxel size in mm, number of steps, and the similarity at each of them."""

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
    terms: Sequence[Term | Guide | Constraint] = (),
    progress: StepProgress = lambda _stage, _done, _total: None,
) -> tuple[DenseField, tuple[LevelRecord, ...]]:
    """Deform ``moving`` onto ``fixed``.

    Args:
        fixed: prepared fixed image; its mask weighs the similarity.
        moving: prepared moving image; its mask weighs the force.
        affine: fixed world points → moving world points, applied after the field.
        settings: levels, similarity and regularisation.
        initial: initial field, fixed world points; None for zero motion.
        prior: the field towards which is regularised, fixed world points; None for zero motion.
        terms: in addition to the similarity of the images; a guide has a share of the force; at most one
            constraint.
        progress: called with (stage, steps done, steps in all).

    Returns:
        The field, fixed world → fixed world before the affine, on a lattice over ``fixed.grid``; and a record of each
        level.
    """
    images = ImageTerm(fixed, moving, affine, settings.similarity)
    return maximise(fixed, images, settings, initial=initial, prior=prior, terms=terms, progress=progress)


def maximise(
    fixed: Volume,
    images: Term,
    settings: Settings,
    *,
    initial: DenseField | None = None,
    prior: DenseField | None = None,
    terms: Sequence[Term | Guide | Constraint] = (),
    progress: StepProgress = lambda _stage, _done, _total: None,
) -> tuple[DenseField, tuple[LevelRecord, ...]]:
    """Maximise the sum of terms over deformations; ``optimise`` is this with one image similarity.

    Args:
        fixed: prepared fixed image, on whose grid the field is.
        images: the similarity of the images, with which the forces of guides are compared.
        settings: levels and regularisation.
        initial: see ``optimise``.
        prior: see ``optimise``.
        terms: see ``optimise``.
        progress: called with (stage, steps done, steps in all).

    Returns:
        The field and a record of each level, see ``optimise``.
    """
    guides = [term for term in terms if isinstance(term, Guide)]
    constraint = next((term for term in terms if isinstance(term, Constraint)), None)
    own = [term for term in terms if not isinstance(term, Guide | Constraint)]
    summed = (images, *own)
    total = sum(level.steps for level in settings.levels)
    done = 0
    field = initial
    records = []
    for level in settings.levels:
        stage = f"deform at {level.factor * fixed.grid.smallest_spacing:.3g} mm"
        ascent = _Ascent(Lattice(fixed, level, settings), (summed, guides, constraint), settings, field, prior)
        values: list[float] = []
        while len(values) < level.steps and not _stalled(values, settings):
            progress(stage, done + len(values), total)
            values.append(ascent.step(values))
        done += level.steps
        spacing = tuple(ascent.lattice.image_grid.spacing)
        records.append(LevelRecord(spacing, len(values), tuple(values), _stalled(values, settings)))
        field = ascent.field(values, on_nodes=level is not settings.levels[-1])
    progress("deformed", total, total)
    if field is None:
        field = DenseField(torch.zeros(3, *fixed.grid.shape, device=fixed.device), fixed.grid)
    return field.faded(), tuple(records)


def _stalled(values: list[float], settings: Settings) -> bool:
    if len(values) <= 2 * settings.patience:
        return False
    recent, before = values[-settings.patience :], values[-2 * settings.patience : -settings.patience]
    return max(recent) - max(before) < settings.tolerance * abs(max(before))


class _Scaled:
    """A guide at one level, whose force is scaled by norms; see ``Guide``."""

    def __init__(self, guide: Guide, lattice: Lattice) -> None:
        self.term, self.odds = guide.term.at(lattice), guide.share / (1 - guide.share)
        self.scale: Tensor | None = None

    def force(self, displacement: Tensor, similarity: Force) -> Force:
        """Its value and force, scaled to its share at the first call with a force."""
        force = self.term.force(displacement)
        if self.scale is None and bool(force.nodes.any()):
            self.scale = self.odds * similarity.nodes.norm() / force.nodes.norm()
        scale = torch.zeros_like(force.value) if self.scale is None else self.scale
        return Force(force.value * scale, force.nodes * scale)


class _ScaledByLargest:
    """A guide at one level, whose force is scaled by the largest forces; see ``Guide``.

    That of the similarity is the largest of all steps: aligned images have none at first. The value is the share of the
    first value that was gained, as a fraction of the first similarity, whose changes still decide when a level ends.
    """

    def __init__(self, guide: Guide, lattice: Lattice) -> None:
        self.term, self.odds = guide.term.at(lattice), guide.share / (1 - guide.share)
        self.in_units = guide.compared == "unit"
        self.first: tuple[Force, Tensor] | None = None

    def force(self, displacement: Tensor, similarity: Force) -> Force:
        """Its value and force, scaled to its share."""
        force, images = self.term.force(displacement), largest(similarity.nodes)
        if self.first is None and bool(force.nodes.any()):
            self.first, self.images = (force, similarity.value.abs()), images
        if self.first is None:
            return Force(torch.zeros_like(force.value), torch.zeros_like(force.nodes))
        first, unit = self.first
        self.images = torch.maximum(self.images, images)
        size, most = (1.0, 1.0) if self.in_units else (largest(first.nodes), first.value.abs())
        value = GAIN * self.odds * unit * (force.value - first.value) / most
        images = torch.where(self.images > 0, self.images, 1.0)  # images without any force: the guide is alone
        return Force(value, force.nodes * (self.odds * images / size))


def largest(vectors: Tensor) -> Tensor:
    """The length of the largest of the vectors (1, 3, A, B, D)."""
    return vectors.norm(dim=1).max()


SCALED: dict[str, type[_Scaled | _ScaledByLargest]] = {
    "norm": _Scaled,
    "largest": _ScaledByLargest,
    "unit": _ScaledByLargest,
}


class _Ascent:
    """Gradient ascent on the sum of the terms at one level.

    ``displacement`` and ``velocity`` are at the nodes, see ``Lattice``; the difference from ``prior`` is smoothed.
    """

    def __init__(
        self,
        lattice: Lattice,
        pulls: tuple[Sequence[Term], Sequence[Guide], Constraint | None],
        settings: Settings,
        field: DenseField | None,
        prior: DenseField | None,
    ) -> None:
        self.lattice = lattice
        terms, guides, self.constraint = pulls
        self.held = None if self.constraint is None else self.constraint.at(lattice)
        self.terms = [term.at(self.lattice) for term in terms]
        acting = [guide for guide in guides if self.lattice.mm > guide.finest_mm * (1 - 1e-3)]
        self.guides = [SCALED[guide.compared](guide, self.lattice) for guide in acting]
        self.axes = torch.tensor(settings.axes, device=self.lattice.device).view(1, 3, 1, 1, 1)
        self.displacement = self._constrained(self.lattice.at_nodes(field) * self.axes)
        self.velocity = torch.zeros_like(self.displacement)
        self.prior = self.lattice.at_nodes(prior) * self.axes
        self.best = self.displacement
        self.momentum = settings.momentum
        self.stride = settings.stride * self.lattice.mm
        self.shortest = SHORTEST * settings.stride * self.lattice.image_grid.smallest_spacing

    def step(self, before: list[float]) -> float:
        """Take one step and return the sum of the terms before it; ``before`` contains those of earlier steps."""
        start = self.displacement
        forces = [term.force(self.displacement) for term in self.terms]
        forces += [guide.force(self.displacement, similarity=forces[0]) for guide in self.guides]
        force = sum((each.nodes for each in forces[1:]), start=forces[0].nodes)
        self.velocity = force.mul_(self.axes).add_(self.velocity, alpha=self.momentum)
        update = self.velocity * (self.stride / largest(self.velocity).clamp(min=1e-12))
        moved = self.lattice.compose(self.displacement, update)
        self.displacement = self._constrained(self.prior + self.lattice.relax(moved - self.prior))
        value = float(sum((each.value for each in forces[1:]), start=forces[0].value))
        if before and value < max(before) - ROUNDING * abs(max(before)):
            self.stride = max(SHRINK * self.stride, self.shortest)
        else:
            self.best = start
        return value

    def field(self, values: Sequence[float], *, on_nodes: bool) -> DenseField:
        """The field in world mm, on its nodes, or interpolated on the voxels of the level.

        The last one, unless much of the gain of the level was lost again.
        """
        decreased = bool(values) and max(values) - values[-1] > DECREASE * (max(values) - values[0])
        field = self.lattice.field(self.best if decreased else self.displacement)
        if on_nodes:
            return field
        smooth = self.lattice.expand(unfolded(field, FLATTEST).displacement)
        found = unfolded(DenseField(smooth, self.lattice.image_grid))
        return found if self.constraint is None else self.constraint.held(found)

    def _constrained(self, displacement: Tensor) -> Tensor:
        return displacement if self.held is None else self.held.held(displacement)
