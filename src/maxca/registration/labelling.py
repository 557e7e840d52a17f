"""Labels of one image by a segmentation model."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from maxca.errors import MaxcaError
from maxca.fields import OptionError
from maxca.geometry import Chain
from maxca.io.images import Image, ImageLike
from maxca.models.segmentation import Segmenter
from maxca.models.segmentation_file import load_any
from maxca.models.zoo import find_model
from maxca.options import DeviceName
from maxca.registration.inputs import read_side
from maxca.registration.pair import prepared_volume
from maxca.registration.register import device_of
from maxca.runtime import tuned


class Labelled(NamedTuple):
    """The labels of an image.

    Args:
        image: integers on the grid of the image.
        names: of each label by its number; 0 is the background.
        confidence: mean probability of the most probable label, see ``CoarseSegmentation``.
        warnings: for the user, one line each.
    """

    image: Image
    names: dict[int, str]
    confidence: float
    warnings: tuple[str, ...]


def label(
    image: ImageLike, model: str | Path | Segmenter, device: DeviceName = "auto", threads: int | None = None
) -> Labelled:
    """Label an image by a segmentation model.

    Args:
        image: see ``maxca.read_image``.
        model: a ``Segmenter``, the name of a bundled model, a file, or ``hf://OWNER/NAME``.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        threads: of the CPU.

    Returns:
        The labels on the grid of the image, and a warning if the image is not like those the model was trained on.

    Raises:
        MaxcaError: for an image or a model that cannot be used.
    """
    place = device_of(device)
    network = model if isinstance(model, Segmenter) else load_any(find_model(model), place)
    if not isinstance(network, Segmenter):
        raise OptionError("model", model, "a registration model; labels need a segmentation model")
    side = read_side("input", image)
    with tuned(threads), torch.no_grad():
        volume = prepared_volume(side, place)
        if against := network.obstacle(volume):
            raise MaxcaError(f"{_named(image)}: the model {network.name} cannot label it: {against}")
        found = network.on(place)(volume)
        coarse = network.coarse(found)
        labels = Chain().resample(network.labels(found)[None].int(), found.grid, side.image.grid, "labels")[0]
    warnings = list(side.warnings)
    if against := network.unlike(volume, coarse.confidence):
        warnings.append(f"the labels may be wrong: {against}")
    numbers = labels.cpu().numpy().astype(np.min_scalar_type(max(network.names)))
    return Labelled(
        Image(numbers, side.image.grid, form=side.image.form), dict(network.names), coarse.confidence, tuple(warnings)
    )


def _named(image: ImageLike) -> str:
    return str(image) if isinstance(image, str | Path) else "the image"


def table(labelled: Labelled) -> str:
    """The labels that occur, as a BIDS look-up table: index, name, and volume in mm³."""
    counts = np.bincount(labelled.image.data.ravel())
    size = labelled.image.grid.voxel_volume
    rows = [
        f"{n}\t{name}\t{counts[n] * size:.6g}" for n, name in labelled.names.items() if n < len(counts) and counts[n]
    ]
    return "\n".join(["index\tname\tvolume_mm3", *rows]) + "\n"
