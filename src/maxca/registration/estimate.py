"""Estimation of the deformation of a pair with its options: once, or repeatedly for its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass, replace

from maxca.engine.deformable import Constraint
from maxca.engine.filling import Filling
from maxca.engine.limit import Limit
from maxca.engine.settings import Settings
from maxca.engine.support import fitted
from maxca.engine.terms import Guide
from maxca.engine.volume import Volume
from maxca.geometry import Affine, Chain
from maxca.io.images import Image
from maxca.models.select import Selection
from maxca.options import RegistrationOptions
from maxca.registration.bodies import engine_bodies
from maxca.registration.deformation import Deformation, Known, Predict, deform
from maxca.registration.exclusion import region_of
from maxca.registration.halfway import deform_halfway
from maxca.registration.measures import Uncertainty
from maxca.registration.monitor import Monitor
from maxca.registration.pair import LoadedPair, PreparedPair
from maxca.registration.uncertainty import Runs, disagreement, uncertainty_of


@dataclass(frozen=True, eq=False)
class Estimator:
    """Estimates the deformation of a pair whose affine is known.

    Args:
        pair: with what guides and constrains the deformation.
        affine: fixed world points → moving world points of the prepared volumes, applied after the field.
        options: of the registration.
        predict: the model, see ``deform``.
    """

    pair: LoadedPair
    affine: Affine
    options: RegistrationOptions
    predict: Predict

    def __call__(self, volumes: PreparedPair, settings: Settings, monitor: Monitor) -> Deformation:
        """The deformation.

        Args:
            volumes: of the pair.
            settings: of the optimisation.
            monitor: told about each stage.
        """
        in_fixed, in_moving = self.pair.fixed.excluded is not None, self.pair.moving.excluded is not None
        if self.options.preset == "longitudinal":  # each image is the fixed one once
            predict = _outside(self.predict, in_fixed or in_moving, in_fixed or in_moving)
            return deform_halfway(volumes.upright, volumes.moving, self.affine, settings, predict, monitor)
        limit = self.options.max_displacement

        def guides(plan: Settings) -> list[Guide | Constraint]:
            fixed = volumes.upright
            terms = self.pair.guidance.terms(self.affine, volumes.known, fixed.grid, plan, fixed.device)
            if self.pair.bodies:
                return [*terms, engine_bodies(self.pair.bodies, self.affine, fixed.device)]
            return [*terms, *([Limit(limit, self.affine)] if limit is not None else [])]

        predict = _outside(self.predict, in_fixed, in_moving)
        given = guides if self.pair.guidance.given or self.pair.bodies or limit is not None else None
        images = volumes.upright, volumes.moving
        known = Known(given, volumes.channels, self._filling(volumes, settings))
        return deform(*images, self.affine, settings, predict, monitor, known)

    def _filling(self, volumes: PreparedPair, settings: Settings) -> Filling | None:
        """What fills the excluded regions; None if there are none, or if the deformation is constrained otherwise."""
        if self.pair.bodies or self.options.max_displacement is not None or not all(settings.axes):
            return None
        if volumes.known.steps:  # the prepared moving image is another one
            return None
        regions = [
            region_of(side.excluded, side.image, volumes.upright.device, moving=side is self.pair.moving)
            for side in (self.pair.fixed, self.pair.moving)
            if side.excluded is not None
        ]
        found = [region for region in regions if region is not None]
        return Filling(found, self.affine) if found else None

    def uncertainty(
        self, volumes: PreparedPair, settings: Settings, found: Deformation, monitor: Monitor
    ) -> tuple[Image, Uncertainty] | None:
        """The uncertainty of a deformation and its summary, see ``uncertainty_of``; None if it was not asked for.

        Args:
            volumes: of the pair.
            settings: of the optimisation.
            found: the deformation.
            monitor: told about each run.
        """
        if self.options.uncertainty is None:
            return None
        runs = Runs(self.options.uncertainty, self.options.seed)
        if found.support is not None:  # the trials are not repeated
            settings = replace(fitted(settings, found.support), trials=False)
        again = Estimator(self.pair, self.affine, self.options, self._predict_again(found.selection))

        def repeat(perturbed: PreparedPair, changed: Settings) -> Chain:
            return volumes.known @ Chain((self.affine,)) @ Chain((again(perturbed, changed, Monitor()).field,))

        with monitor.stage("repeat"):
            return uncertainty_of(disagreement(repeat, volumes, settings, runs, monitor), self.pair.fixed, runs)

    def _predict_again(self, selection: Selection) -> Predict:
        """A model that predicted the field predicts it again; segmentations, which take longer, are kept."""
        predicted = selection.prediction is not None and selection.prediction.accepted
        if predicted or self.options.preset is not None:  # which has a selection for each direction
            return self.predict
        return lambda _fixed, _moving, _affine, _settings: selection


def _outside(predict: Predict, in_fixed: bool, in_moving: bool) -> Predict:
    """The predictor, whose segmentations do not guide inside what is excluded in one image or the other."""

    def restricted(fixed: Volume, moving: Volume, affine: Affine, settings: Settings) -> Selection:
        selection = predict(fixed, moving, affine, settings)
        if selection.segmented is None:
            return selection
        masks = fixed if in_fixed else None, moving if in_moving else None
        return selection._replace(segmented=selection.segmented.inside(*masks))

    return restricted
