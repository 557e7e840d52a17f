"""The deformation of an aligned pair and its inverse: what a network says, an optimisation, or one after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from maxca.engine.deformable import LevelRecord, Progress, optimise
from maxca.engine.settings import Settings, refining
from maxca.engine.volume import Volume
from maxca.geometry import Affine, DenseField
from maxca.geometry.repair import Invertible, finer_steps, invertible, unfolded
from maxca.geometry.transforms import Residual
from maxca.models.predict import Answer

MOST_INVERSE_NODES = 8_000_000
Ask = Callable[[Volume, Volume, Affine, Settings], tuple[Answer | None, str]]
Stage = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class Deformation:
    """What was found for a pair.

    Args:
        field: fixed world points → fixed world points before the affine.
        inverse: the way back.
        residual: by how much the way there and back misses.
        plan: how it was optimised.
        levels: what happened at each level.
        answer: of the network that was asked, taken or not; None where none fits.
        reason: why this network, or none.
    """

    field: DenseField
    inverse: DenseField
    residual: Residual
    plan: Settings
    levels: tuple[LevelRecord, ...]
    answer: Answer | None
    reason: str


def deform(
    fixed: Volume, moving: Volume, affine: Affine, settings: Settings, ask: Ask | None, stage: Stage, progress: Progress
) -> Deformation:
    """Find the deformation of a pair.

    Args:
        fixed: prepared fixed image.
        moving: prepared moving image.
        affine: fixed world points → moving world points, applied after the field.
        settings: how to optimise without a network's answer; with one, see ``presets.refining``.
        ask: (fixed, moving, affine, settings) → a network's answer, or None, and the reason for it; None to do without.
        stage: around each stage, for its time.
        progress: called with (stage, steps done, steps in all).
    """
    answer, reason = None, "as asked"
    if ask is not None:
        with stage("network"):
            progress("asking networks", 0, 1)
            answer, reason = ask(fixed, moving, affine, settings)
    taken = answer if answer is not None and answer.taken else None
    plan = settings if taken is None else refining(settings, taken.model.refine)
    with stage("optimise"):
        initial = None if taken is None else taken.field
        # An answer that says how far to refine it is held to what it learnt; a start is only where to begin.
        prior = None if taken is None or taken.model.refine is None else taken.field
        field, levels = optimise(fixed, moving, affine, plan, initial=initial, prior=prior, progress=progress)
    with stage("invert"):
        progress("inverting", 1, 1)
        both = invertible(field) if plan.levels else _kept(field)
    return Deformation(both.field.rounded(), both.inverse.rounded(), both.residual, plan, levels, answer, reason)


def _kept(field: DenseField) -> Invertible:
    """A network's field, smoothed as little as its inverse allows.

    What it learnt from labels is sharp: smoothed like an optimised field, until the inverse leads back to within 0.4
    voxels everywhere, hippocampi lost 0.03 of their Dice; 0.001 with a finer inverse and one voxel.
    """
    finer = finer_steps(field.grid)
    if np.prod(field.grid.shape) * np.prod(finer) > MOST_INVERSE_NODES:
        finer = (1, 1, 1)
    return invertible(unfolded(field), tolerance=1.0, finer=finer)
