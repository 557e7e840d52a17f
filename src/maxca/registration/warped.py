"""All images of the moving space on the fixed grid, each interpolated once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from maxca.geometry import Chain
from maxca.io.images import Image
from maxca.registration.pair import LoadedPair
from maxca.registration.resampling import resample
from maxca.registration.volumes import WarpedSeries


@dataclass(frozen=True, eq=False)
class Warped:
    """The warped images; see ``Result``."""

    image: Image
    labels: Image | None
    applied: Mapping[str, Image | WarpedSeries]
    warnings: tuple[str, ...]


def warp(pair: LoadedPair, chain: Chain, fill: float | None) -> Warped:
    """Warp the moving image, its labels and the additional images.

    Args:
        pair: with the images.
        chain: fixed world points → moving world points.
        fill: the value outside the field of view of the moving image; by default its background.
    """
    fixed, labels = pair.fixed.image, pair.moving.label_image
    image = resample(pair.moving.image, fixed.grid, chain, fill=fill, form=fixed.form)
    applied = {name: each.warped(fixed, chain) for name, each in pair.additional.items()}
    warnings = [*image.warnings, *(line for each in pair.additional.values() for line in each.warnings)]
    return Warped(
        image,
        None if labels is None else resample(labels, fixed.grid, chain, "labels", form=fixed.form),
        applied,
        (*warnings, *(line for each in applied.values() for line in each.warnings)),
    )
