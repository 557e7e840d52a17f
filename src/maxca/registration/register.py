"""Registration of one pair: from two images to a ``Result``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch

from maxca.engine.affine import AffineSettings, Alignment, align
from maxca.engine.deformable import Constraint
from maxca.engine.limit import Limit
from maxca.engine.settings import Settings, between_contrasts, settings_for, within_subject
from maxca.engine.terms import Guide
from maxca.engine.volume import Volume
from maxca.fields import OptionError
from maxca.geometry import Affine, Chain
from maxca.geometry.transforms import Residual
from maxca.io.images import ImageLike
from maxca.models.select import Predictor, Selection
from maxca.options import RegistrationOptions
from maxca.registration.assessment import assess
from maxca.registration.bodies import engine_bodies
from maxca.registration.deformation import Deformation, Predict, deform
from maxca.registration.halfway import align_halfway, deform_halfway
from maxca.registration.inputs import SideInputs
from maxca.registration.monitor import Monitor
from maxca.registration.pair import LoadedPair, PreparedPair, check_memory, prepare, read_pair
from maxca.registration.provenance import Provenance, recorded
from maxca.registration.result import Result
from maxca.registration.volume_change import volume_change
from maxca.registration.warped import warp
from maxca.runtime import tuned


def register(
    fixed: SideInputs,
    moving: SideInputs,
    options: RegistrationOptions | None = None,
    *,
    apply: Sequence[ImageLike] = (),
    monitor: Monitor | None = None,
) -> Result:
    """Register a moving image to a fixed one; ``maxca.register`` is the same with keywords.

    Args:
        fixed: the fixed image with its mask, labels and landmarks.
        moving: the moving image with its mask, labels and landmarks.
        options: of the registration.
        apply: additional images in moving space to warp; each may be a pair of the image and its interpolation.
        monitor: of progress and times.

    Returns:
        Transforms (fixed world points → moving world points, and the inverse), warped images, metrics and record.

    Raises:
        MaxcaError: for input that cannot be registered, in one line that says what to do.
    """
    options, monitor = options or RegistrationOptions(), monitor or Monitor()
    device = device_of(options.device)
    predictor = Predictor(options.model, device, segment=options.effort != "fast")
    with tuned(options.threads), torch.no_grad():
        with monitor.stage("read"):
            pair = read_pair(fixed, moving, options, apply)
        with monitor.stage("prepare"):
            volumes = prepare(pair, device)
            settings = settings_for(volumes.upright.grid, options.effort, pair.measures[0], options.smoothness)
            settings = replace(settings, axes=_axes(pair, options))
            if options.preset == "longitudinal" and options.smoothness is None:
                settings = within_subject(settings)
            check_memory(pair, volumes.upright.grid, settings)
        with monitor.stage("align"):
            alignment = _aligned(pair, volumes, options, monitor)
        if options.smoothness is None and not alignment.same_contrast:
            settings = between_contrasts(settings)
        deformation = None
        if options.transform == "deformable":
            limited = partial(_deformed, limit=options.max_displacement)
            estimate = limited if options.preset is None else _deformed_halfway
            deformation = estimate(pair, volumes, alignment.affine, settings, predictor, monitor)
        maps = _maps(pair, volumes, alignment, deformation)
        with monitor.stage("warp"):
            warped = warp(pair, maps.chain, options.fill)
        with monitor.stage("measure"):
            segmented = None if deformation is None else deformation.selection.segmented
            both = maps.chain, maps.inverse
            assessment = assess(pair, volumes, settings, maps.found, both, maps.residual, segmented)
            change = None
            if options.preset == "longitudinal":
                change, summary = volume_change(maps.chain, pair.fixed)
                assessment = replace(assessment, volume_change=summary)
    monitor.done()
    provenance = Provenance(pair, options, str(device), predictor, alignment, deformation)
    record = recorded(provenance, assessment, warped.warnings, monitor.seconds)
    grid = pair.fixed.image.grid
    return Result(maps.chain, maps.inverse, grid, warped.image, record, warped.labels, warped.applied, change)


def _axes(pair: LoadedPair, options: RegistrationOptions) -> tuple[bool, bool, bool]:
    """The axes of the fixed grid along which the deformation moves points."""
    name, grid = pair.fixed.image.name, pair.fixed.image.grid
    against = ""
    if not any(moves and n > 1 for moves, n in zip(options.axes, grid.shape, strict=True)):
        against = f"nothing could move in {name}, {'x'.join(map(str, grid.shape))} voxels"
    elif not all(options.axes) and grid.is_sheared:
        against = f"the axes of {name} are not orthogonal"
    elif not all(options.axes) and pair.start == "center":
        against = "keeps the initial transform and does not align centres; use initial_transform=header or a file"
    if against:
        raise OptionError("restrict", options.restrict, against)
    return options.axes


def device_of(name: str) -> torch.device:
    """The device of an option.

    Raises:
        OptionError: for CUDA if it is not available.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise OptionError("device", name, "torch finds no CUDA device here; use cpu")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


class _Maps(NamedTuple):
    """The resulting transforms.

    Args:
        found: fixed world points → moving world points of the prepared volumes.
        chain: fixed world points → moving world points.
        inverse: moving world points → fixed world points.
        residual: of the inverse.
    """

    found: Chain
    chain: Chain
    inverse: Chain
    residual: Residual


def _aligned(pair: LoadedPair, volumes: PreparedPair, options: RegistrationOptions, monitor: Monitor) -> Alignment:
    settings = AffineSettings(
        kind="initial" if not all(options.axes) else "rigid" if options.transform == "rigid" else "affine",
        similarity=pair.measures[0],
        start=pair.start,
        search=options.search,
        thorough=options.effort != "fast",
        seed=options.seed,
    )
    initial = volumes.guess
    if initial is None and settings.kind != "initial":
        initial = pair.guidance.start(volumes.known, rigid=settings.kind == "rigid", seed=options.seed)
    if options.preset is not None:
        return align_halfway(volumes.fixed, volumes.moving, settings, initial=initial, progress=monitor.step)
    channels = volumes.channels
    return align(volumes.fixed, volumes.moving, settings, initial=initial, channels=channels, progress=monitor.step)


def _deformed(
    pair: LoadedPair,
    volumes: PreparedPair,
    affine: Affine,
    settings: Settings,
    predictor: Predictor,
    monitor: Monitor,
    limit: float | None,
) -> Deformation:
    fixed, moving = volumes.upright, volumes.moving

    def guides(plan: Settings) -> list[Guide | Constraint]:
        terms = pair.guidance.terms(affine, volumes.known, fixed.grid, plan, fixed.device)
        if pair.bodies:
            return [*terms, engine_bodies(pair.bodies, affine, fixed.device)]
        return [*terms, *([Limit(limit, affine)] if limit is not None else [])]

    predict = _outside(predictor, pair.fixed.excluded is not None, pair.moving.excluded is not None)
    given = guides if pair.guidance.given or pair.bodies or limit is not None else None
    return deform(fixed, moving, affine, settings, predict, monitor, given, volumes.channels)


def _deformed_halfway(
    pair: LoadedPair, volumes: PreparedPair, rigid: Affine, settings: Settings, predictor: Predictor, monitor: Monitor
) -> Deformation:
    excluded = pair.fixed.excluded is not None or pair.moving.excluded is not None  # each image is the fixed one once
    predict = _outside(predictor, excluded, excluded)
    return deform_halfway(volumes.upright, volumes.moving, rigid, settings, predict, monitor)


def _outside(predictor: Predictor, in_fixed: bool, in_moving: bool) -> Predict:
    """The predictor, whose segmentations do not guide inside what is excluded in one image or the other."""

    def predict(fixed: Volume, moving: Volume, affine: Affine, settings: Settings) -> Selection:
        selection = predictor(fixed, moving, affine, settings)
        if selection.segmented is None:
            return selection
        masks = fixed if in_fixed else None, moving if in_moving else None
        return selection._replace(segmented=selection.segmented.inside(*masks))

    return predict


def _maps(pair: LoadedPair, volumes: PreparedPair, alignment: Alignment, deformation: Deformation | None) -> _Maps:
    """Initial transform, affine and field as one chain, and its inverse."""
    found, inverse = Chain((alignment.affine,)), Chain((alignment.affine.inverse()[0],))
    residual = Residual(0.0, 0.0)
    if deformation is not None:
        found, inverse = found @ Chain((deformation.field,)), Chain((deformation.inverse,)) @ inverse
        residual = deformation.residual
    known_inverse, left = volumes.known.inverse()
    chain, inverse = (
        replace(each.to(torch.device("cpu")).simplified(), dimension=pair.dimension)
        for each in (volumes.known @ found, inverse @ known_inverse)
    )
    return _Maps(found, chain, inverse, residual | left)
