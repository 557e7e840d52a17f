"""Heads that name the labels from a network's features while it is trained, and are left behind afterwards.

A flow moves label boundaries only where it is nearly right already; asking the features themselves what they see gives
every voxel something to learn from, from the first step on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from maxca.blocks.layers import Conv3d
from maxca.data.prepared import Prepared
from maxca.errors import MaxcaError
from maxca.geometry.grid import triple
from maxca.losses.overlap import soft_dice
from maxca.networks.pyramid import CoarseToFine


class GuidedPrediction(NamedTuple):
    """A ``Prediction`` and what its features see.

    Args:
        flow: see ``Prediction``.
        affine: likewise.
        logits: (M, 1 + labels, I', J', K') each, background first: of the fixed images, or of them and the moving ones.
        shape: of the grid, padded, that all of these cover.
    """

    flow: Tensor
    affine: Tensor | None
    logits: list[Tensor]
    shape: tuple[int, ...]


class Guided(nn.Module):
    """A network with a 1x1x1 convolution on each level of its encoder but the finest, and on its finest stage.

    Args:
        network: what is trained; its weights are this module's.
        labels: how many there are.
    """

    def __init__(self, network: CoarseToFine, labels: int) -> None:
        super().__init__()
        self.network = network
        self.encoder_heads = nn.ModuleList(Conv3d(c, 1 + labels, 1) for c in network.encoder.widths[1:])
        self.decoder_head = Conv3d(network.widths[0], 1 + labels, 1)
        self._encoded: list[Tensor] = []
        self._decoded: list[Tensor] = []
        network.encoder.register_forward_hook(self._keep_encoded)
        network.stages[0].register_forward_hook(self._keep_decoded)

    def forward(self, fixed: Tensor, moving: Tensor) -> GuidedPrediction:
        """Two (N, 1, I, J, K) → what the network says, and what the heads do."""
        prediction = self.network(fixed, moving)
        logits = [head(x) for head, x in zip(self.encoder_heads, self._encoded[1:], strict=True)]
        logits += [self.decoder_head(x) for x in self._decoded]
        shape = tuple(self._encoded[0].shape[2:])
        self._encoded, self._decoded = [], []
        return GuidedPrediction(prediction.flow, prediction.affine, logits, shape)

    def _keep_encoded(self, _module: nn.Module, _inputs: object, output: list[Tensor]) -> None:
        self._encoded = output

    def _keep_decoded(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        self._decoded = [output]


def guided(network: nn.Module, labels: int) -> Guided:
    """A network with heads for so many labels.

    Raises:
        MaxcaError: for a network that has no pyramid of features.
    """
    if not isinstance(network, CoarseToFine):
        raise MaxcaError("a segmentation loss needs a coarse-to-fine network: corrxca, corrmlp, nice_net, nice_trans")
    return Guided(network, labels)


def label_names(data: Prepared) -> list[int]:
    """All labels of the training scans, in order."""
    found: set[int] = set()
    for scan in data.scans:
        labels = data.load(scan).labels if scan.split == "train" else None
        found |= set() if labels is None else set(labels.unique().tolist())
    return sorted(found - {0})


def segmentation(prediction: GuidedPrediction, batch: Mapping[str, Tensor], names: Sequence[int]) -> Tensor:
    """Cross-entropy plus 1 minus Dice of the named labels, mean over the heads.

    Args:
        prediction: of a ``Guided`` network.
        batch: with ``fixed_labels`` and ``moving_labels`` (N, I, J, K).
        names: the labels, in the order of the logits.
    """
    labels = torch.cat([batch["fixed_labels"], batch["moving_labels"]])
    losses = []
    for logits in prediction.logits:
        here = _shares(labels[: len(logits)], names, prediction.shape, triple(logits.shape[2:]))
        log = logits.float().log_softmax(dim=1)
        entropy = -(here * log).sum(dim=1).mean()
        seen = log.exp()[:, 1:]
        dice = torch.stack([soft_dice(a[None], b[None]) for a, b in zip(seen, here[:, 1:], strict=True)]).mean()
        losses.append(entropy + 1 - dice)
    return torch.stack(losses).mean()


def _shares(
    labels: Tensor, names: Sequence[int], padded: Sequence[int], shape: tuple[int, int, int]
) -> Float[Tensor, "n channels i j k"]:
    """Which part of each voxel of a coarser grid every label fills, background (all other labels) first.

    By counting: a channel for each label at full resolution would take gigabytes for a hundred regions of a brain.

    Args:
        labels: (N, I, J, K).
        names: the labels, rising.
        padded: of the finer grid, of which the labels fill the beginning of each axis; a multiple of ``shape``.
        shape: of the coarser grid.
    """
    known = torch.tensor(names, device=labels.device)
    place = torch.searchsorted(known, labels.long()).clamp(max=len(names) - 1)
    channel = torch.where(known[place] == labels, place + 1, 0)
    cells = labels.new_zeros((), dtype=torch.long)
    children = 1
    for size, whole, coarse in zip(labels.shape[1:], padded, shape, strict=True):
        ratio = whole // coarse
        along = torch.arange(size, device=labels.device) // ratio
        cells = cells[..., None] * coarse + along
        children *= ratio
    shares = torch.zeros(len(labels), (1 + len(names)) * math.prod(shape), device=labels.device)
    at = (channel * math.prod(shape) + cells).flatten(1)
    shares.scatter_add_(1, at, torch.full((), 1 / children, device=labels.device).expand(at.shape))
    return shares.unflatten(1, (1 + len(names), *shape))
