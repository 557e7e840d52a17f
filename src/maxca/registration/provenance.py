"""Provenance of a registration for its record: files and hashes, options, reasons, versions, memory."""

from __future__ import annotations

import platform
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from typing import Any

import torch

from maxca import native
from maxca.engine.affine import Alignment
from maxca.engine.deformable import LevelRecord
from maxca.engine.settings import Settings
from maxca.losses.similarity import SIMILARITIES
from maxca.models.predict import PredictedField
from maxca.models.segmentation import Segmenter
from maxca.models.select import Predictor, Selection
from maxca.options import RegistrationOptions
from maxca.registration.deformation import Deformation
from maxca.registration.pair import LoadedPair
from maxca.registration.record import (
    WARPED,
    AffineRecord,
    Assessment,
    ChannelRecord,
    GuideRecord,
    LevelSummary,
    NetworkRecord,
    Record,
    RecordedOptions,
    Source,
)
from maxca.registration.smoothness import doubted, smoothness_record
from maxca.registration.volume_change import noticed
from maxca.version import installed_version

SHOWN = 5  # most landmarks in a warning


@dataclass(frozen=True, eq=False)
class Provenance:
    """The steps of a registration.

    Args:
        pair: as read.
        options: as given.
        device: as used.
        predictor: of the deformation.
        alignment: the affine.
        deformation: None for a rigid or affine transform.
    """

    pair: LoadedPair
    options: RegistrationOptions
    device: str
    predictor: Predictor
    alignment: Alignment
    deformation: Deformation | None

    @property
    def selection(self) -> Selection | None:
        """The model, if any, and its contribution."""
        return None if self.deformation is None else self.deformation.selection

    @property
    def prediction(self) -> PredictedField | None:
        """The prediction of a registration model, accepted or not."""
        return None if self.selection is None else self.selection.prediction


def recorded(
    provenance: Provenance, assessment: Assessment, warnings: Sequence[str], seconds: Mapping[str, float]
) -> Record:
    """The content of ``result.json``.

    Args:
        provenance: the steps.
        assessment: the measures.
        warnings: of the warped images.
        seconds: by stage.
    """
    deformation, selection, transform = provenance.deformation, provenance.selection, provenance.options.transform
    return Record(
        maxca=installed_version(),
        inputs=_inputs(provenance),
        settings=_settings(provenance),
        levels=[] if deformation is None else [_level(level) for level in deformation.levels],
        metrics=assessment,
        warnings=[*provenance.pair.warnings, *_advice(provenance), *_found(provenance, assessment), *warnings],
        versions=versions(),
        seconds=dict(seconds),
        peak_memory_mb=peak_memory_mb(),
        model_reason=f"a transform of kind {transform} needs none" if selection is None else selection.reason,
        affine=_affine(provenance.alignment),
        network=None if provenance.prediction is None else _network(provenance.prediction),
        smoothness=smoothness_record(None if deformation is None else deformation.support),
        guide=_guide(provenance.selection),
        guidance=provenance.pair.guidance.records(_left(assessment)),
        channels=_channels(provenance),
        label_names=_label_names(provenance.pair, assessment),
        optimisation=None if deformation is None else _plan(deformation.plan, provenance.pair),
        applied={name: each.as_applied() for name, each in provenance.pair.additional.items()},
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect the result, and what computes the loops of ``native``."""
    packages = ("torch", "numpy", "nibabel", "SimpleITK")
    loops = "torch" if native.compiled() is None else "compiled"
    return {"python": platform.python_version(), **{name: version(name) for name in packages}, "loops": loops}


def peak_memory_mb() -> float:
    """Peak memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(round(peak / (1e6 if sys.platform == "darwin" else 1e3)))


def _inputs(provenance: Provenance) -> dict[str, Source]:
    model = provenance.predictor.loaded(provenance.selection)
    source = None if model is None or model.source is None else Source(**model.source)
    return {**provenance.pair.sources, **({} if source is None else {"model": source})}


def _settings(provenance: Provenance) -> RecordedOptions:
    """The options with resolved defaults."""
    given = {each.name: getattr(provenance.options, each.name) for each in fields(provenance.options)}
    start = provenance.options.initial_transform
    return RecordedOptions(
        **given
        | {
            "model": provenance.predictor.used(provenance.selection),
            "initial_transform": None if start is None else str(start),
            "label_table": None if provenance.options.label_table is None else str(provenance.options.label_table),
            "device": provenance.device,
            "threads": provenance.options.threads or torch.get_num_threads(),
        }
    )


def _label_names(pair: LoadedPair, assessment: Assessment) -> dict[str, str]:
    """Names of the measured labels by number."""
    measured = {} if assessment.dice_after is None else assessment.dice_after.by_label
    return {str(index): entry.name for index, entry in pair.label_table.items() if str(index) in measured}


def _affine(alignment: Alignment) -> AffineRecord:
    given = {each.name: getattr(alignment, each.name) for each in fields(AffineRecord)}
    return AffineRecord(**given | {"affine": alignment.affine.matrix.tolist()})


def _network(prediction: PredictedField) -> NetworkRecord:
    model = prediction.model
    return NetworkRecord(
        name=model.name,
        config=model.config.as_plain(),
        similarity=dict(prediction.similarity),
        accepted=prediction.accepted,
        reason=prediction.reason,
        spacing_mm=None if model.spacing is None else list(model.spacing),
    )


def _guide(selection: Selection | None) -> GuideRecord | None:
    if selection is None or selection.segmented is None:
        return None
    pair = selection.segmented
    return GuideRecord(
        name=pair.model.name,
        share=pair.model.share,
        labels={str(number): name for number, name in pair.model.names.items()},
        confidence={"fixed": pair.fixed.confidence, "moving": pair.moving.confidence},
    )


def _advice(provenance: Provenance) -> list[str]:
    advice = []
    prediction = provenance.prediction
    if prediction is not None and not prediction.similarity:
        advice.append(f"the prediction of the model {prediction.model.name} was not used: {prediction.reason}")
    elif prediction is not None and not prediction.accepted:
        advice.append("the prediction of the model did not pass the acceptance check, so the pair was optimised alone")
    selection, model = provenance.selection, provenance.predictor.model
    if isinstance(model, Segmenter) and selection is not None and selection.segmented is None:
        advice.append(f"the model {model.name} did not guide the registration: {selection.reason}")
    if provenance.alignment.turned:
        advice.append(
            f"no initialisation near the headers fitted, and {provenance.alignment.searched}: inspect the result, and "
            "check the orientation in both headers"
        )
    support = None if provenance.deformation is None else provenance.deformation.support
    return [*advice, *doubted(support), *_contrasts(provenance)]


def _contrasts(provenance: Provenance) -> list[str]:
    """What a difference in contrast means for the similarity measures of the channels."""
    pair, alignment = provenance.pair, provenance.alignment
    used = [number for number, weight in enumerate(pair.weights, start=1) if weight > 0]
    advice = []
    for number, same in zip(used, alignment.contrasts, strict=True):
        name = pair.measures[number - 1]
        contrast = SIMILARITIES[name].contrast
        if same or contrast == "any":
            continue
        which = f"channel {number}: " if pair.fixed.further else ""
        if contrast == "equal":
            said = f"the images differ in contrast, which {name} does not support; use similarity=lncc or mi"
        else:
            said = "the images differ in contrast: a higher similarity is weaker evidence there, so inspect the result"
        advice.append(which + said)
    return advice


def _left(assessment: Assessment) -> list[float]:
    """The distance of each landmark after registration, mm."""
    return [] if assessment.tre_mm_after is None else assessment.tre_mm_after.by_point or []


def _found(provenance: Provenance, assessment: Assessment) -> list[str]:
    """Warnings on the result: landmarks that may be wrong, and large changes of volume."""
    changed = [] if assessment.volume_change is None else noticed(assessment.volume_change)
    doubted = [name for each in provenance.pair.guidance.records(_left(assessment)) for name in each.suspected]
    if not doubted:
        return changed
    names = ", ".join(doubted[:SHOWN]) + (", …" if len(doubted) > SHOWN else "")
    return [f"landmarks that may be wrong, much farther apart than the others: {names}; inspect them", *changed]


def _level(level: LevelRecord) -> LevelSummary:
    return LevelSummary(list(level.spacing), list(level.similarity), level.steps, level.converged)


def _plan(settings: Settings, pair: LoadedPair) -> dict[str, Any]:
    plan = asdict(settings)
    names = "+".join(dict.fromkeys(pair.measures)) if pair.fixed.further else settings.similarity
    return plan | {"levels": list(plan["levels"]), "axes": list(plan["axes"]), "similarity": names}


def _channels(provenance: Provenance) -> list[ChannelRecord]:
    pair = provenance.pair
    if not pair.fixed.further:
        return []
    contrasts = iter(provenance.alignment.contrasts)
    same = [next(contrasts) if weight > 0 else None for weight in pair.weights]
    further = list(pair.additional)[: len(pair.fixed.further)]
    names = [WARPED, *(f"warped_{name}" for name in further)]
    return [ChannelRecord(*each) for each in zip(pair.weights, same, names, strict=True)]
