"""A network's answer for one pair, as a field in the world, and whether to believe it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations, count, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxca.engine.comparison import similarity_of
from maxca.engine.deformable import optimise
from maxca.engine.settings import Level, Settings, refining
from maxca.engine.volume import Volume, crop, resampled
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.geometry.warp import transform_vectors
from maxca.models.distribution import describe
from maxca.models.focus import focus
from maxca.models.load import COMPARED_MM, Domain, Model, gain, load_model, read_domain

COMPARED = 1_000_000  # samples at most at which fields are compared: every second voxel of a head at 1 mm
FEWEST, MOST = 8, 30_000_000  # voxels along the longest axis, and in all, of a grid on which a network is asked
FADE = 8  # over one part in so many of a box the motion fades to none at its ends


@dataclass(frozen=True)
class Answer:
    """What a network says about a pair.

    Args:
        model: who says it.
        field: fixed world → fixed world before the affine; of a start, with or without the coarser levels of the
            optimisation after it.
        similarity: of the pair under the affine alone, ``"affine"``, and with the network's field, ``"network"``; and
            where that is only a start, after the coarser levels from it, ``"started"``, and from no motion,
            ``"optimised"``. Empty where the pair could not be shown to the network.
        taken: whether it is to be believed.
        reason: why, or why not.
    """

    model: Model
    field: DenseField
    similarity: dict[str, float]
    taken: bool
    reason: str

    def as_plain(self) -> dict[str, Any]:
        """Numbers, names, lists and dicts only."""
        return {
            "name": self.model.name,
            "config": self.model.config.as_plain(),
            "spacing_mm": self.model.spacing,
            "similarity": self.similarity,
            "taken": self.taken,
            "reason": self.reason,
        }


def ask(model: Model, fixed: Volume, moving: Volume, affine: Affine, settings: Settings) -> Answer:
    """A network's answer, taken if it makes the pair more alike than the affine alone.

    Of one that is only where an optimisation begins, the coarser levels, which take seconds, are run from it and from
    no motion; it is taken, with these levels or without, if that is better than the levels alone.

    Args:
        model: whom to ask.
        fixed: prepared fixed image.
        moving: prepared moving image.
        affine: fixed world points → moving world points, applied after the field.
        settings: how the pair would be optimised.
    """
    if against := _unfit(model, fixed):
        still = DenseField(torch.zeros(3, *fixed.grid.shape, device=fixed.values.device), fixed.grid)
        return Answer(model, still, {}, False, against)
    flow = network_field(model, fixed, moving, affine)
    fields = {"network": flow}
    if model.refine is None:
        coarse = replace(settings, levels=settings.levels[: -len(refining(settings).levels)])
        for name, initial in (("started", flow), ("optimised", None)):
            fields[name] = optimise(fixed, moving, affine, coarse, initial=initial)[0]
    chains = {"affine": Chain((affine,)), **{name: Chain((field, affine)) for name, field in fields.items()}}
    known = model.domain is not None and not _outside(model.domain, fixed, moving, settings.similarity)
    apart = COMPARED_MM if known else _finest(fixed.grid)
    scores = similarity_of(_within(fixed, flow.grid), moving, settings.similarity, chains, apart)
    reason = f"{settings.similarity} went from {scores['affine']:.3f} to {scores['network']:.3f}"
    if model.refine is None:
        reason += f", {scores['started']:.3f} by coarse levels from there, {scores['optimised']:.3f} by them alone"
    best = max(scores, key=lambda name: scores[name])
    taken = best in ("network", "started")
    return Answer(model, fields[best] if taken else flow, scores, taken, reason)


def choose(
    models: Iterable[Path], fixed: Volume, moving: Volume, affine: Affine, settings: Settings
) -> tuple[Answer | None, list[str]]:
    """The first of some models that is made for such a pair and proves it on the pair.

    A model is asked when both images are as large as those it was trained on and look like them to its own encoder, and
    the similarity is the one it was trained with; it is taken when it removes about as much of the dissimilarity as it
    did there, and ``ask`` would take it.

    Args:
        models: files.
        fixed: prepared fixed image.
        moving: prepared moving image.
        affine: fixed world points → moving world points.
        settings: how the pair would be optimised.

    Returns:
        The answer, or None when no model fits, and what speaks for or against each model, a line each.
    """
    reasons = []
    for path in models:
        domain = read_domain(path)
        against = _outside(domain, fixed, moving, settings.similarity) if domain else "asked by its name only"
        if domain is None or against:  # most go without being loaded
            reasons.append(f"{path.stem}: {against}")
            continue
        model = load_model(path, fixed.values.device)
        if against := _unlike(model, fixed, moving):
            reasons.append(f"{model.name}: {against}")
            continue
        answer = ask(model, fixed, moving, affine, settings)
        gained = gain(answer.similarity)
        believed = gained >= domain.gain
        reasons.append(
            f"{model.name}: {answer.reason}, {gained:.0%} of what was missing; "
            f"{'at least' if believed else 'less than the'} {domain.gain:.0%} that it gains on images of its kind"
        )
        if believed and answer.taken:
            return replace(answer, reason=reasons[-1]), reasons
    return None, reasons


def extent(grid: Grid) -> np.ndarray:
    """(3,) mm that a grid reaches to the right, anterior and superior, its axes taken for the nearest of these."""
    return np.array(grid.canonical.shape) * grid.canonical.spacing


def network_field(model: Model, fixed: Volume, moving: Volume, affine: Affine) -> DenseField:
    """What a network makes of a pair.

    Args:
        model: the network and the spacing it wants.
        fixed: prepared fixed image.
        moving: prepared moving image.
        affine: fixed world points → moving world points, applied after the field.

    Returns:
        Fixed world → fixed world before the affine, on the network's grid over ``fixed.grid``; or, where that is more
        than the network sees at once, over the part where the two differ most, with no motion at the ends of it.
    """
    grid = fixed.grid.canonical.at_spacing(model.spacing or (None, None, None))
    fixed_on_grid = resampled(fixed, grid, Chain())
    moving_on_grid = resampled(moving, grid, Chain((affine,)))
    low, high = focus(fixed_on_grid, moving_on_grid, model.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    flow = _asked(model, fixed_on_grid[box][None, None], moving_on_grid[box][None, None])
    for axis in grid.thin_axes:
        flow[axis] = 0
    for axis, (a, b, n) in enumerate(zip(low, high, grid.shape, strict=True)):
        flow *= _fading(b - a, before=a > 0, after=b < n).to(flow).view([-1 if d == axis else 1 for d in range(3)])
    return DenseField(transform_vectors(grid.affine[:3, :3], flow.unsqueeze(0))[0], grid.box(low, high))


def _finest(grid: Grid) -> float:
    """Distance in mm of the finest samples of a grid that are few enough to compare fields at."""
    factor = next(n for n in count(1) if Level(n, 0).voxels(grid) <= COMPARED)
    return factor * grid.smallest_spacing


def _unfit(model: Model, fixed: Volume) -> str:
    """Why an image cannot be shown to a network, on its grid; empty where it can."""
    grid = fixed.grid.canonical.at_spacing(model.spacing or (None, None, None))
    if max(grid.shape) >= FEWEST and math.prod(grid.shape) <= MOST:
        return ""
    spacing = " x ".join(f"{mm:.3g}" for mm in grid.spacing)
    size = " x ".join(map(str, grid.shape))
    return f"it works at {spacing} mm, where the fixed image has {size} voxels"


def _within(volume: Volume, grid: Grid) -> Volume:
    """The part of a volume that a grid covers: an answer counts where it was given."""
    index = volume.grid.to_voxel(grid.to_world(np.array(list(product(*((0, n - 1) for n in grid.shape))))))
    low = np.clip(np.floor(index.min(axis=0) + 1e-3), 0, None).astype(int)
    high = np.clip(np.ceil(index.max(axis=0) - 1e-3) + 1, None, volume.grid.shape).astype(int)
    return crop(volume, low.tolist(), high.tolist())


def _fading(n: int, *, before: bool, after: bool) -> Tensor:
    """(n,) from 0 at an end that is cut off, over an eighth of the length, to 1."""
    way = torch.arange(n) / max(1, n // FADE)
    ends = torch.ones(n)
    if before:
        ends = torch.minimum(ends, way)
    return torch.minimum(ends, way.flip(0)) if after else ends


def _asked(model: Model, fixed: Tensor, moving: Tensor) -> Tensor:
    """(3, I, J, K): the network's flow for a pair (1, 1, I, J, K), the mean over its mirror images."""
    flows = []
    for mirrored in range(len(model.mirror) + 1):
        for axes in combinations(model.mirror, mirrored):
            dims = [2 + axis for axis in axes]
            flow = model.network(fixed.flip(dims), moving.flip(dims)).flow.flip(dims)[0]
            flows.append(torch.stack([-part if axis in axes else part for axis, part in enumerate(flow)]))
    return torch.stack(flows).mean(dim=0)


def _outside(domain: Domain, fixed: Volume, moving: Volume, similarity: str) -> str:
    """What tells a pair from those that a model says it was made for; empty where nothing does."""
    if domain.similarity != similarity:
        return f"learnt from {domain.similarity}, not {similarity}"
    for name, volume in (("fixed", fixed), ("moving", moving)):
        for axis, (mm, (least, most)) in enumerate(zip(extent(volume.grid), domain.extent_mm, strict=True)):
            if not least <= mm <= most:
                return f"the {name} image is {mm:.3g} mm {AXES[axis]}, its own were {least:.3g} to {most:.3g}"
    return ""


def _unlike(model: Model, fixed: Volume, moving: Volume) -> str:
    """Likewise by what its encoder sees."""
    if model.likeness is None:
        return ""
    for name, volume in (("fixed", fixed), ("moving", moving)):
        grid = volume.grid.canonical.at_spacing(model.spacing or (None, None, None))
        descriptor = describe(model.network, resampled(volume, grid, Chain()))
        if descriptor is not None and (apart := model.likeness.distance(descriptor)) > model.likeness.limit:
            limit = model.likeness.limit
            return f"the {name} image looks unlike its training images (distance {apart:.2f}, at most {limit:.2f})"
    return ""


AXES = ("from left to right", "from back to front", "from bottom to top")
