"""The deformation of an aligned pair and its inverse: predicted by a network, optimised, or both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from maxca.engine.channels import Channel
from maxca.engine.deformable import Constraint, LevelRecord, maximise
from maxca.engine.filling import Filling
from maxca.engine.settings import Settings, refining
from maxca.engine.support import MAXIMISED, Support, fitted, image_term, supported
from maxca.engine.terms import ChannelTerm, Guide
from maxca.engine.volume import Volume
from maxca.geometry import Affine, DenseField
from maxca.geometry.repair import Invertible, finer_steps, invertible, unfolded
from maxca.geometry.transforms import Residual
from maxca.models.select import Selection
from maxca.registration.monitor import Monitor

MOST_INVERSE_NODES = 8_000_000
Predict = Callable[[Volume, Volume, Affine, Settings], Selection]


@dataclass(frozen=True)
class Deformation:
    """The deformation of a pair.

    Args:
        field: fixed world points → fixed world points before the affine.
        inverse: fixed world points before the affine → fixed world points.
        residual: round-trip error of field and inverse.
        plan: settings of the optimisation.
        levels: record of each level.
        selection: the model, if any, and its contribution.
        support: the trials that chose the smoothness, if any.
    """

    field: DenseField
    inverse: DenseField
    residual: Residual
    plan: Settings
    levels: tuple[LevelRecord, ...]
    selection: Selection
    support: Support | None = None


@dataclass(frozen=True)
class Known:
    """What is known of a pair besides its two images.

    Args:
        guides: of the user, and a constraint, at given settings.
        channels: of the pair, if there are several; models are given the first.
        filling: of excluded regions, if nothing else constrains the deformation.
    """

    guides: Callable[[Settings], list[Guide | Constraint]] | None = None
    channels: Sequence[Channel] = ()
    filling: Filling | None = None


def deform(
    fixed: Volume,
    moving: Volume,
    affine: Affine,
    settings: Settings,
    predict: Predict,
    monitor: Monitor,
    known: Known | None = None,
) -> Deformation:
    """Estimate the deformation of a pair.

    Args:
        fixed: prepared fixed image.
        moving: prepared moving image.
        affine: fixed world points → moving world points, applied after the field.
        settings: of the optimisation without a prediction; with one, see ``engine.settings.refining``.
        predict: (fixed, moving, affine, settings) → the contribution of a model, or none, and the reason.
        monitor: told about each stage.
        known: what is known besides.
    """
    known = Known() if known is None else known
    guides, channels = known.guides, known.channels
    with monitor.stage("network"):
        selection = predict(fixed, moving, affine, settings)
    prediction, segmented = selection.prediction, selection.segmented
    accepted = prediction if prediction is not None and prediction.accepted else None
    # A prediction knows neither guides nor axes nor other channels: it is then the start of the optimisation.
    alone = guides is None and all(settings.axes) and not channels
    steps = None if accepted is None or not alone else accepted.model.refine
    plan = settings if accepted is None else refining(settings, steps)
    support = None
    with monitor.stage("optimise"):
        if settings.trials and alone and accepted is None and segmented is None and settings.similarity == MAXIMISED:
            support = supported(fixed, moving, affine, settings, monitor.step)
        plan = plan if channels else fitted(plan, support)
        initial = None if accepted is None else accepted.field
        # If the model limits its refinement, its prediction is the prior of the regularisation; otherwise the start.
        prior = None if accepted is None or steps is None else accepted.field
        terms = [] if guides is None else guides(plan)
        terms += [] if known.filling is None else [known.filling]
        terms += [] if segmented is None else [segmented.guide(affine)]
        images = ChannelTerm(channels, affine) if channels else image_term(fixed, moving, affine, plan)
        field, levels = maximise(fixed, images, plan, initial=initial, prior=prior, terms=terms, progress=monitor.step)
    with monitor.stage("invert"):
        constraint = next((term for term in terms if isinstance(term, Constraint)), None)
        held = None if constraint is None else constraint.held
        both = invertible(field, held=held) if plan.levels else _unsmoothed(field)
    return Deformation(both.field.rounded(), both.inverse.rounded(), both.residual, plan, levels, selection, support)


def _unsmoothed(field: DenseField) -> Invertible:
    """A network's field, smoothed as little as its inverse permits.

    Smoothing it like an optimised field, until the inverse is exact to 0.4 voxels everywhere, cost 0.03 of Dice on
    hippocampi; 0.001 with a finer inverse and a tolerance of one voxel.
    """
    finer = finer_steps(field.grid)
    if np.prod(field.grid.shape) * np.prod(finer) > MOST_INVERSE_NODES:
        finer = (1, 1, 1)
    return invertible(unfolded(field), tolerance=1.0, finer=finer)
