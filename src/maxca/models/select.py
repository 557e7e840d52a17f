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
from maxca.models.guide import SegmentedPair, segment_pair
from maxca.models.kept import Keep, fresh
from maxca.models.load import Model, gain, load_model, read_domain
from maxca.models.predict import PredictedField, predict
from maxca.models.segmentation import Segmenter
from maxca.models.segmentation_file import is_segmenter, load_any, load_segmenter
from maxca.models.zoo import find_model, shipped


class Selection(NamedTuple):
    """The contribution of a model to a pair, or none.

    Args:
        prediction: of a registration model, accepted or not.
        reason: why this model, or none.
        segmented: the segmentations that guide the optimisation.
    """

    prediction: PredictedField | None
    reason: str
    segmented: SegmentedPair | None = None

    @property
    def model(self) -> Model | Segmenter | None:
        """The model that was run."""
        if self.segmented is not None:
            return self.segmented.model
        return None if self.prediction is None else self.prediction.model


class Predictor:
    """Predicts the deformation of pairs, or segments them, with a model that is loaded once.

    Args:
        model: a ``Model`` or ``Segmenter``, a file, the name of a bundled model, ``hf://OWNER/NAME``, ``"auto"`` or
            ``"none"``.
        device: of the network.
        segment: ``"auto"`` considers segmentation models too.
        keep: how models are loaded, such as ``KeptModels``.

    Raises:
        MaxcaError: if the model cannot be found or read.
    """

    def __init__(
        self,
        model: str | Path | Model | Segmenter,
        device: torch.device,
        *,
        segment: bool = True,
        keep: Keep = fresh,
    ) -> None:
        self.segment, self.keep = segment, keep
        self.automatic, self.disabled = model == "auto", model == "none"
        self.name = model.name if isinstance(model, Model | Segmenter) else str(model)
        self.model: Model | Segmenter | None = None
        if isinstance(model, Model | Segmenter):
            self.model = model.on(device)
        elif not (self.automatic or self.disabled):
            self.model = keep(load_any, find_model(model), device)

    def __call__(self, fixed: Volume, moving: Volume, affine: Affine, settings: Settings) -> Selection:
        """Predict for a pair.

        Args:
            fixed: prepared fixed image.
            moving: prepared moving image.
            affine: fixed world points → moving world points, applied after the field.
            settings: of the optimisation without a model.
        """
        if isinstance(self.model, Segmenter):
            if against := self.model.obstacle(fixed) or self.model.obstacle(moving):
                return Selection(None, f"as requested, but {against}")
            pair = segment_pair(self.model, fixed, moving)
            return Selection(None, f"as requested; {pair.reason}", pair)
        if self.model is not None:
            prediction = predict(self.model, fixed, moving, affine, settings)
            return Selection(prediction, f"as requested; {prediction.reason}")
        if self.disabled:
            return Selection(None, "as requested")
        models = map(find_model, shipped())
        return select(models, fixed, moving, affine, settings, segment=self.segment, keep=self.keep)

    def used(self, selection: Selection | None) -> str:
        """The name of the model, as given by the user or selected."""
        if self.automatic:
            return "none" if selection is None or selection.model is None else selection.model.name
        return self.name

    def loaded(self, selection: Selection | None) -> Model | Segmenter | None:
        """The model itself."""
        return self.model or (None if selection is None else selection.model)


def select(
    models: Iterable[Path],
    fixed: Volume,
    moving: Volume,
    affine: Affine,
    settings: Settings,
    *,
    segment: bool = True,
    keep: Keep = fresh,
) -> Selection:
    """The contribution of the first model with this pair in its domain that passes the acceptance check.

    A segmentation model is accepted by the extent of both images and by the probability of its labels. A registration
    model is run if both images have the extent of its training images and are within their distribution, and the
    similarity is that of its training. Its prediction is accepted if it removes about as much of the dissimilarity as
    on its validation pairs, and if ``predict`` accepts it.

    Args:
        models: files.
        fixed: prepared fixed image.
        moving: prepared moving image.
        affine: fixed world points → moving world points.
        settings: of the optimisation without a model.
        segment: consider segmentation models.
        keep: how models are loaded.

    Returns:
        The prediction and its reason; or None, and the reason against each model.
    """
    reasons = []
    for path in models:
        if is_segmenter(path):
            if not segment:
                reasons.append(f"{path.stem}: takes longer than a fast registration")
                continue
            found = _segmented(keep(load_segmenter, path, fixed.device), fixed, moving)
            reasons.append(f"{path.stem}: {found.reason}")
            if found.segmented is not None:
                return Selection(None, "; ".join(reasons), found.segmented)
            continue
        domain = read_domain(path)
        against = (
            outside_domain(domain, fixed, moving, settings.similarity) if domain else "used only when named explicitly"
        )
        if domain is None or against:  # most are rejected without being loaded
            reasons.append(f"{path.stem}: {against}")
            continue
        model = keep(load_model, path, fixed.device)
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


def _segmented(model: Segmenter, fixed: Volume, moving: Volume) -> Selection:
    """The segmentations of a pair, if it is in the domain of a model."""
    if against := model.outside(fixed, moving) or model.obstacle(fixed) or model.obstacle(moving):
        return Selection(None, against)
    pair = segment_pair(model, fixed, moving)
    return Selection(None, pair.reason, pair if pair.accepted else None)


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
