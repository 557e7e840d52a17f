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

from maxca.engine.affine import Alignment
from maxca.engine.deformable import LevelRecord
from maxca.engine.settings import Settings
from maxca.losses.similarity import SIMILARITIES
from maxca.models.predict import PredictedField
from maxca.models.select import Predictor
from maxca.options import RegistrationOptions
from maxca.registration.deformation import Deformation
from maxca.registration.pair import LoadedPair
from maxca.registration.record import (
    AffineRecord,
    Assessment,
    LevelSummary,
    NetworkRecord,
    Record,
    RecordedOptions,
    Source,
)
from maxca.version import installed_version


@dataclass(frozen=True, eq=False)
class Story:
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
    def prediction(self) -> PredictedField | None:
        """The prediction of the model, accepted or not."""
        return None if self.deformation is None else self.deformation.prediction


def recorded(story: Story, assessment: Assessment, warnings: Sequence[str], seconds: Mapping[str, float]) -> Record:
    """The content of ``result.json``.

    Args:
        story: the steps.
        assessment: the measures.
        warnings: of the warped images.
        seconds: by stage.
    """
    deformation, transform = story.deformation, story.options.transform
    return Record(
        maxca=installed_version(),
        inputs=_inputs(story),
        settings=_settings(story),
        levels=[] if deformation is None else [_level(level) for level in deformation.levels],
        metrics=assessment,
        warnings=[*story.pair.warnings, *_advice(story), *warnings],
        versions=versions(),
        seconds=dict(seconds),
        peak_memory_mb=peak_memory_mb(),
        model_reason=f"a transform of kind {transform} needs none" if deformation is None else deformation.reason,
        affine=AffineRecord(**asdict(story.alignment) | {"affine": story.alignment.affine.matrix.tolist()}),
        network=None if story.prediction is None else _network(story.prediction),
        optimisation=None if deformation is None else _plan(deformation.plan),
        applied={name: each.as_applied() for name, each in story.pair.additional.items()},
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect the result."""
    packages = ("torch", "numpy", "nibabel", "SimpleITK")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def peak_memory_mb() -> float:
    """Peak memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(round(peak / (1e6 if sys.platform == "darwin" else 1e3)))


def _inputs(story: Story) -> dict[str, Source]:
    model = story.predictor.loaded(story.prediction)
    source = None if model is None or model.source is None else Source(**model.source)
    return {**story.pair.sources, **({} if source is None else {"model": source})}


def _settings(story: Story) -> RecordedOptions:
    """The options with resolved defaults."""
    given = {each.name: getattr(story.options, each.name) for each in fields(story.options)}
    start = story.options.initial_transform
    return RecordedOptions(
        **given
        | {
            "model": story.predictor.used(story.prediction),
            "initial_transform": None if start is None else str(start),
            "device": story.device,
            "threads": story.options.threads or torch.get_num_threads(),
        }
    )


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


def _advice(story: Story) -> list[str]:
    advice = []
    prediction, similarity = story.prediction, story.options.similarity
    if prediction is not None and not prediction.similarity:
        advice.append(f"the prediction of the model {prediction.model.name} was not used: {prediction.reason}")
    elif prediction is not None and not prediction.accepted:
        advice.append("the prediction of the model did not pass the acceptance check, so the pair was optimised alone")
    contrast = SIMILARITIES[similarity].contrast
    if story.alignment.same_contrast or contrast == "any":
        return advice
    if contrast == "equal":
        return [
            *advice,
            f"the images differ in contrast, which {similarity} does not support; use similarity=lncc or mi",
        ]
    return [
        *advice,
        "the images differ in contrast: a higher similarity is weaker evidence there, so inspect the result",
    ]


def _level(level: LevelRecord) -> LevelSummary:
    return LevelSummary(list(level.spacing), list(level.similarity), level.steps, level.converged)


def _plan(settings: Settings) -> dict[str, Any]:
    return asdict(settings) | {"levels": [asdict(level) for level in settings.levels]}
