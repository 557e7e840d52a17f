"""The loss of a segmentation network at some voxels of each image: all of them, times many classes, are too many."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxca.networks.segmentation import Factors, SegmentationUNet

SMOOTHING = 0.02  # of the reference labels


class Loss(NamedTuple):
    """Its terms: cross-entropy, and 1 minus the mean soft Dice of the classes that occur."""

    entropy: Tensor
    overlap: Tensor


def voxel_loss(scores: Tensor, truth: Tensor) -> Loss:
    """The loss of the class scores of some voxels.

    Args:
        scores: (M, classes), before the softmax.
        truth: (M,) class indices.
    """
    entropy = F.cross_entropy(scores, truth, label_smoothing=SMOOTHING)
    share = torch.softmax(scores, dim=1)
    own = share.gather(1, truth[:, None])[:, 0]
    zeros = torch.zeros(scores.shape[1], device=scores.device)
    both = zeros.index_add(0, truth, own)
    count = zeros.index_add(0, truth, torch.ones_like(own))
    dice = (2 * both + 1) / (share.sum(0) + count + 1)
    return Loss(entropy, 1 - dice[count > 0].mean())


def chosen_voxels(images: Tensor, labels: Tensor, count: int, random: torch.Generator) -> Tensor:
    """(B, count) flat indices: four in five in the foreground, the rest anywhere.

    Args:
        images: (B, 1, I, J, K) in [0, 1].
        labels: (B, 1, I, J, K) class indices.
        count: per image.
        random: on the device of the images.
    """
    rows = []
    for image, label in zip(images, labels, strict=True):
        content = torch.nonzero(((image > 0.02) | (label > 0)).flatten())[:, 0]
        most = count * 4 // 5 if len(content) else 0
        inside = content[torch.randint(max(len(content), 1), (most,), device=random.device, generator=random)]
        others = (count - len(inside),)
        anywhere = torch.randint(image.numel(), others, device=random.device, generator=random)
        rows.append(torch.cat([inside, anywhere]))
    return torch.stack(rows)


def gathered(embeddings: Tensor, where: Tensor, fold: Factors) -> Tensor:
    """Embeddings (B, M, D) of some voxels.

    Args:
        embeddings: (B, I/a, J/b, K/c, a·b·c, D), as ``SegmentationUNet`` returns them.
        where: (B, M), flat indices into an image of (I, J, K) voxels.
        fold: a, b, c.
    """
    batch, i, j, k, parts, size = embeddings.shape
    a, b, c = fold
    x, rest = where // (j * b * k * c), where % (j * b * k * c)
    y, z = rest // (k * c), rest % (k * c)
    coarse = ((x // a) * j + y // b) * k + z // c
    part = ((x % a) * b + y % b) * c + z % c
    index = (coarse * parts + part).unsqueeze(-1).expand(-1, -1, size)
    return embeddings.reshape(batch, i * j * k * parts, size).gather(1, index)


class AtVoxels(nn.Module):
    """A segmentation network that is evaluated at some voxels; its weights are shared with this module."""

    def __init__(self, network: SegmentationUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, where: Tensor) -> Tensor:
        """(B, 1, I, J, K), and (B, M) flat indices → (B, M, classes) scores before the softmax."""
        embeddings = gathered(self.network(images), where, self.network.fold)
        return self.network.scores(embeddings).float()
