"""Whether an image is of the kind that a network was trained on, by what the network's own encoder sees in it.

An image is described by the correlations between the channels of the encoder's features: which patterns occur together,
wherever they are. It is of the kind when some training image is described nearly as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

LEVELS = (1, 2)  # of the encoder: finer ones see noise, coarser ones have too many pairs of channels
SPARE = 1.15  # how much farther than among the training images the nearest may be
LEAST_SCALE = 1e-3


@dataclass(frozen=True)
class Likeness:
    """What the training images look like.

    Args:
        descriptors: one row for each of them.
        scale: (D,) by which entries are divided before they are compared.
        limit: largest distance to the nearest row for an image of the kind.
    """

    descriptors: Float[Tensor, "n d"]
    scale: Float[Tensor, " d"]
    limit: float

    def distance(self, descriptor: Float[Tensor, " d"]) -> float:
        """From the nearest training image: root mean square over the entries, 1 is a standard deviation."""
        apart = (self.descriptors - descriptor.to(self.descriptors)) / self.scale
        return float(apart.square().mean(dim=1).sqrt().min())


def learn_likeness(descriptors: Iterable[Tensor]) -> Likeness | None:
    """What is needed to recognise images like these; None for fewer than three.

    Args:
        descriptors: of the training images; see ``describe``.
    """
    rows = torch.stack(list(descriptors))
    if len(rows) < 3:
        return None
    scale = rows.std(dim=0).clamp(min=LEAST_SCALE)
    apart = torch.cdist(rows / scale, rows / scale) / rows.shape[1] ** 0.5
    apart.fill_diagonal_(torch.inf)
    return Likeness(rows, scale, SPARE * float(apart.amin(dim=1).max()))


@torch.no_grad()
def describe(network: nn.Module, image: Float[Tensor, "i j k"]) -> Tensor | None:
    """(D,) correlations between the channels of some levels of the encoder; None for a network without one.

    Args:
        network: with an ``encoder`` that gives a volume for each level.
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
