"""In-distribution check: whether an image resembles the training images of a network, by the network's own encoder.

The descriptor of an image is the correlations between the channels of the encoder's features, over all voxels. An image
is inside the training distribution if the descriptor of some training image is near.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

LEVELS = (1, 2)  # levels of the encoder: finer ones respond to noise, coarser ones have too many pairs of channels
SPARE = 1.15  # factor on the largest distance between neighbouring training images
LEAST_SCALE = 1e-3


@dataclass(frozen=True)
class TrainingDistribution:
    """Descriptors of the training images.

    Args:
        descriptors: (N, D), one row for each image.
        scale: (D,), standard deviation of each entry.
        limit: largest distance to the nearest row of an image inside the distribution.
    """

    descriptors: Float[Tensor, "n d"]
    scale: Float[Tensor, " d"]
    limit: float

    def distance(self, descriptor: Float[Tensor, " d"]) -> float:
        """Distance from the nearest training image: root mean square over the entries, in standard deviations."""
        apart = (self.descriptors - descriptor.to(self.descriptors)) / self.scale
        return float(apart.square().mean(dim=1).sqrt().min())


def learn_distribution(descriptors: Iterable[Tensor]) -> TrainingDistribution | None:
    """The distribution of some images; None for fewer than three.

    Args:
        descriptors: of the training images; see ``describe``.
    """
    rows = torch.stack(list(descriptors))
    if len(rows) < 3:
        return None
    scale = rows.std(dim=0).clamp(min=LEAST_SCALE)
    apart = torch.cdist(rows / scale, rows / scale) / rows.shape[1] ** 0.5
    apart.fill_diagonal_(torch.inf)
    return TrainingDistribution(rows, scale, SPARE * float(apart.amin(dim=1).max()))


@torch.no_grad()
def describe(network: nn.Module, image: Float[Tensor, "i j k"]) -> Tensor | None:
    """(D,) correlations between the channels of some levels of the encoder; None for a network without one.

    Args:
        network: with an ``encoder`` that returns a volume per level.
        image: intensities in [0, 1], on the network's grid.
    """
    encoder = getattr(network, "encoder", None)
    if encoder is None:
        return None
    multiples = [prod(factors) for factors in zip((1, 1, 1), *encoder.factors, strict=True)]
    i, j, k = (-n % multiple for n, multiple in zip(image.shape, multiples, strict=True))
    levels = encoder(nn.functional.pad(image.float(), (0, k, 0, j, 0, i))[None, None])
    parts = []
    for level in LEVELS:
        if level < len(levels):
            features = levels[level][0].flatten(1).float()
            features = features - features.mean(dim=1, keepdim=True)
            product = features @ features.T / features.shape[1]
            spread = product.diagonal().clamp(min=1e-12).sqrt()
            count = len(product)
            row, column = torch.triu_indices(count, count, offset=1, device=product.device)
            parts.append((product / spread[:, None] / spread)[row, column])
    return torch.cat(parts).cpu() if parts else None
