"""The plane of symmetry of a template, which is moved to the middle of its grid.

With S the reflection at the middle of the grid, an image is registered rigidly to its mirror image. Half of that
transform moves the image and its mirror image onto each other, so that S is the reflection of the image itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from maxca.engine.affine import AffineSettings, align
from maxca.engine.volume import Volume, normalise
from maxca.geometry import Affine, Chain
from maxca.io.images import Image
from maxca.registration.halfway import half_of, mean_rigid
from maxca.workflows.template.average import Estimate
from maxca.workflows.template.shape import after, mean_shape, without


def made_symmetric(mean: Estimate, chains: Mapping[str, Chain], mirror: Affine) -> dict[str, Chain]:
    """The transforms of scans from a template whose plane of symmetry is that of its grid, without a mean shape.

    Args:
        mean: of the scans, anywhere.
        chains: points of ``mean`` → points of the scan, by name.
        mirror: the reflection at the middle of the grid.
    """
    half = onto_plane(mean.channels[0], mirror)
    chains = {name: after(half, chain) for name, chain in chains.items()}
    content = torch.from_numpy(mean.content.astype(np.float32))[None]
    content = Chain((half,)).resample(content, mean.grid, mean.grid, "nearest")[0]
    shape = mean_shape(chains.values(), mean.grid, content.numpy() > 0, mirror)
    return {name: without(shape, chain) for name, chain in chains.items()}


def onto_plane(image: Image, mirror: Affine) -> Affine:
    """The rigid transform H, points of a symmetric template → points of an image, for which it equals its mirror image.

    Args:
        image: with a plane of symmetry, somewhere.
        mirror: S, the reflection at the middle of the grid.
    """
    values = normalise(torch.from_numpy(np.ascontiguousarray(image.data, np.float32)))
    fixed = Volume(values, image.grid)
    moving = Volume(Chain((mirror,)).resample(values[None], image.grid, image.grid), image.grid)
    found = align(fixed, moving, AffineSettings(kind="rigid", start="center", search="off")).affine
    # From the other side it is the inverse: the mean of both is exact.
    found = mean_rigid(found, (mirror @ found @ mirror).inverse()[0])
    return half_of(found).inverse()[0]
