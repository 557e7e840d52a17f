"""Selection of a model: the one named by the user, or the first bundled one that passes the acceptance check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from maxca.engine.settings import Settings
from maxca.engine.volume import Volume, resampled
from maxca.geometry import Affine, Chain
from maxca.models.distribution import describe
from maxca.models.domain import outside_domain
from maxca.models.load import Model, gain, load_model, read_domain
from maxca.models.predict import PredictedField, predict
from maxca.models.zoo import find_model, shipped


class Selection(NamedTuple):
    """A prediction for a pair, accepted or not, or None; and the reason for this model, or for none."""

    prediction: PredictedField | None
    reason: str


class Predictor:
    """Predicts the deformation of pairs with a model that is loaded once.

    Args:
        model: a ``Model``, a file, the name of a bundled model, ``hf://OWNER/NAME``, ``"auto"`` or ``"none"``.
        device: of the network.

    Raises:
        MaxcaError: if the model cannot be found or read.
    """

    def __init__(self, model: str | Path | Model, device: torch.device) -> None:
        self.automatic, self.disabled = model == "auto", model == "none"
        self.name = model.name if isinstance(model, Model) else str(model)
        self.model: Model | None = None
        if isinstance(model, Model):
            self.model = replace(model, network=model.network.eval().to(device))
        elif not (self.automatic or self.disabled):
            self.model = load_model(find_model(model), device)

    def __call__(self, fixed: Volume, moving: Volume, affine: Affine, settings: Settings) -> Selection:
        """Predict for a pair.

        Args:
            fixed: prepared fixed image.
            moving: prepared moving image.
            affine: fixed world points → moving world points, applied after the field.
            settings: of the optimisation without a model.
        """
        if self.model is not None:
            prediction = predict(self.model, fixed, moving, affine, settings)
            return Selection(prediction, f"as requested; {prediction.reason}")
        if self.disabled:
            return Selection(None, "as requested")
        return select(map(find_model, shipped()), fixed, moving, affine, settings)

    def used(self, prediction: PredictedField | None) -> str:
        """The name of the model of a prediction, as given by the user or selected."""
        if self.automatic:
            return prediction.model.name if prediction is not None else "none"
        return self.name

    def loaded(self, prediction: PredictedField | None) -> Model | None:
        """The model itself."""
        return self.model or (prediction.model if prediction is not None else None)


def select(models: Iterable[Path], fixed: Volume, moving: Volume, affine: Affine, settings: Settings) -> Selection:
    """The prediction of the first model with this pair in its domain that passes the acceptance check.

    A model is run if both images have the extent of its training images and are within their distribution, and the
    similarity is that of its training. Its prediction is accepted if it removes about as much of the dissimilarity as
    on its validation pairs, and if ``predict`` accepts it.

    Args:
        models: files.
        fixed: prepared fixed image.
        moving: prepared moving image.
        affine: fixed world points → moving world points.
        settings: of the optimisation without a model.

    Returns:
        The prediction and its reason; or None, and the reason against each model.
    """
    reasons = []
    for path in models:
        domain = read_domain(path)
        against = (
            outside_domain(domain, fixed, moving, settings.similarity) if domain else "used only when named explicitly"
        )
        if domain is None or against:  # most are rejected without being loaded
            reasons.append(f"{path.stem}: {against}")
            continue
        model = load_model(path, fixed.device)
        if against := _outside_distribution(model, fixed, moving):
            reasons.append(f"{model.name}: {against}")
            continue
        prediction = predict(model, fixed, moving, affine, settings)
        gained = gain(prediction.similarity)
        enough = gained >= domain.gain
        reasons.append(
            f"{model.name}: {prediction.reason}, {gained:.0%} of the dissimilarity removed; "
            f"{'at least' if enough else 'less than the'} {domain.gain:.0%} on images of its domain"
        )
        if enough and prediction.accepted:
            return Selection(replace(prediction, reason=reasons[-1]), "; ".join(reasons))
    return Selection(None, "; ".join(reasons))


def _outside_distribution(model: Model, fixed: Volume, moving: Volume) -> str:
    """Why an image is outside a model's training distribution; empty if both are inside."""
    if model.distribution is None:
        return ""
    for name, volume in (("fixed", fixed), ("moving", moving)):
        grid = volume.grid.canonical.at_spacing(model.spacing or (None, None, None))
        descriptor = describe(model.network, resampled(volume, grid, Chain()))
        if descriptor is not None and (apart := model.distribution.distance(descriptor)) > model.distribution.limit:
            return (
                f"the {name} image is outside the model's training distribution (distance {apart:.2f}, at most "
                f"{model.distribution.limit:.2f})"
            )
    return ""
