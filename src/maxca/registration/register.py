"""Registration of one pair: from two images to a ``Result``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from maxca.engine.affine import AffineSettings, Alignment, align
from maxca.engine.settings import between_contrasts, settings_for, within_subject
from maxca.fields import OptionError
from maxca.geometry import Chain
from maxca.geometry.transforms import Residual
from maxca.io.images import ImageLike
from maxca.models.kept import Keep, fresh
from maxca.models.select import Predictor
from maxca.options import AUTO, RegistrationOptions
from maxca.registration.assessment import assess
from maxca.registration.deformation import Deformation
from maxca.registration.estimate import Estimator
from maxca.registration.halfway import align_halfway
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
    keep: Keep = fresh,
) -> Result:
    """Register a moving image to a fixed one; ``maxca.register`` is the same with keywords.

    Args:
        fixed: the fixed image with its mask, labels and landmarks.
        moving: the moving image with its mask, labels and landmarks.
        options: of the registration.
        apply: additional images in moving space to warp; each may be a pair of the image and its interpolation.
        monitor: of progress and times.
        keep: how models are loaded, such as ``KeptModels`` of a process that registers many pairs.

    Returns:
        Transforms (fixed world points → moving world points, and the inverse), warped images, metrics and record.

    Raises:
        MaxcaError: for input that cannot be registered, in one line that says what to do.
    """
    options, monitor = options or RegistrationOptions(), monitor or Monitor()
    device = device_of(options.device)
    predictor = Predictor(options.model, device, segment=options.effort != "fast", keep=keep)
    with tuned(options.threads), torch.no_grad():
        with monitor.stage("read"):
            pair = read_pair(fixed, moving, options, apply)
        with monitor.stage("prepare"):
            volumes = prepare(pair, device)
            settings = settings_for(volumes.upright.grid, options.effort, pair.measures[0], options.smoothness)
            trials = options.smoothness is None and options.preset is None
            settings = replace(settings, axes=_axes(pair, options), trials=trials)
            if options.preset == "longitudinal" and options.smoothness is None:
                settings = within_subject(settings)
            check_memory(pair, volumes.upright.grid, settings)
        with monitor.stage("align"):
            alignment = _aligned(pair, volumes, options, monitor)
        if options.smoothness is None and not alignment.same_contrast:
            settings = between_contrasts(settings)
        if options.similarity == AUTO:
            settings = replace(settings, combine="smoother" if alignment.same_contrast else "always")
        deformation, repeated = None, None
        if options.transform == "deformable":
            estimate = Estimator(pair, alignment.affine, options, predictor)
            deformation = estimate(volumes, settings, monitor)
            repeated = estimate.uncertainty(volumes, settings, deformation, monitor)
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
            if repeated is not None:
                assessment = replace(assessment, uncertainty=repeated[1])
    monitor.done()
    provenance = Provenance(pair, options, str(device), predictor, alignment, deformation)
    record = recorded(provenance, assessment, warped.warnings, monitor.seconds)
    grid = pair.fixed.image.grid
    result = Result(maps.chain, maps.inverse, grid, warped.image, record, warped.labels, warped.applied, change)
    return result if repeated is None else replace(result, uncertainty=repeated[0])


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
