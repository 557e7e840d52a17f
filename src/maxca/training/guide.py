"""Auxiliary segmentation heads on a network's features, discarded after training.

The overlap of warped labels has a gradient only where the flow is nearly correct; the segmentation loss supervises the
features at every voxel from the first step on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from maxca.blocks.layers import Conv3d
from maxca.errors import MaxcaError
from maxca.geometry.grid import triple
from maxca.losses.overlap import channels, soft_dice
from maxca.networks.pyramid import CoarseToFine
from maxca.training.loader import Scans


class GuidedPrediction(NamedTuple):
    """A ``Prediction`` and the outputs of the segmentation heads.

    Args:
        flow: see ``Prediction``.
        affine: see ``Prediction``.
        logits: (M, 1 + labels, I', J', K') each, background first: of the fixed images, or of them and the moving ones,
            at every n-th voxel of a level.
        shape: of the padded grid that all levels cover.
        levels: for each of the logits, the shape of the level, and the stride of its sampled voxels.
    """

    flow: Tensor
    affine: Tensor | None
    logits: list[Tensor]
    shape: tuple[int, ...]
    levels: list[tuple[tuple[int, int, int], int]]


class Guided(nn.Module):
    """A network with a 1x1x1 convolution on each level of its encoder but the finest, and on its finest stage.

    Args:
        network: to train; its weights are shared with this module.
        labels: number of labels.
        lattice: stride of the sampled voxels at full and half resolution, halved at each coarser level: a hundred
            labels at every voxel take longer than the rest of a step.
    """

    def __init__(self, network: CoarseToFine, labels: int, lattice: int = 1) -> None:
        super().__init__()
        self.network = network
        self.lattice = lattice
        self.encoder_heads = nn.ModuleList(Conv3d(c, 1 + labels, 1) for c in network.encoder.widths[1:])
        self.decoder_head = Conv3d(network.widths[0], 1 + labels, 1)
        self._encoded: list[Tensor] = []
        self._decoded: list[Tensor] = []
        network.encoder.register_forward_hook(self._keep_encoded)
        network.stages[0].register_forward_hook(self._keep_decoded)

    def forward(self, fixed: Tensor, moving: Tensor) -> GuidedPrediction:
        """Two (N, 1, I, J, K) → the prediction of the network, and the outputs of the heads."""
        prediction = self.network(fixed, moving)
        shape = tuple(self._encoded[0].shape[2:])
        seen = [
            *zip(self.encoder_heads, self._encoded[1:], strict=True),
            *((self.decoder_head, x) for x in self._decoded),
        ]
        logits, levels = [], []
        for head, features in seen:
            level = triple(features.shape[2:])
            ratio = max(whole // here for whole, here in zip(shape, level, strict=True))
            apart = max(1, min(self.lattice, 2 * self.lattice // ratio))
            logits.append(head(features[..., ::apart, ::apart, ::apart]))
            levels.append((level, apart))
        self._encoded, self._decoded = [], []
        return GuidedPrediction(prediction.flow, prediction.affine, logits, shape, levels)

    def _keep_encoded(self, _module: nn.Module, _inputs: object, output: list[Tensor]) -> None:
        self._encoded = output

    def _keep_decoded(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        self._decoded = [output]


def guided(network: nn.Module, labels: int, lattice: int = 1) -> Guided:
    """A network with heads for a number of labels; see ``Guided``.

    Raises:
        MaxcaError: for a network without a feature pyramid.
    """
    if not isinstance(network, CoarseToFine):
        raise MaxcaError("a segmentation loss needs a coarse-to-fine network: corrxca, corrmlp, nice_net, nice_trans")
    return Guided(network, labels, lattice)


def label_names(scans: Scans) -> list[int]:
    """All labels of the training scans, in order."""
    found: set[int] = set()
    for scan in scans.data.scans:
        labels = scans(scan).labels if scan.split == "train" else None
        found |= set() if labels is None else set(labels.unique().tolist())
    return sorted(found - {0})


def segmentation(prediction: GuidedPrediction, batch: Mapping[str, Tensor], names: Sequence[int]) -> Tensor:
    """Cross-entropy plus 1 minus Dice of the labels, mean over the heads.

    Args:
        prediction: of a ``Guided`` network.
        batch: with ``fixed_labels`` and ``moving_labels`` (N, I, J, K).
        names: the labels, in the order of the logits.
    """
    labels = torch.cat([batch["fixed_labels"], batch["moving_labels"]])
    losses = []
    for logits, (level, apart) in zip(prediction.logits, prediction.levels, strict=True):
        here = _shares(labels[: len(logits)], names, prediction.shape, level, apart)
        log = logits.float().log_softmax(dim=1)
        entropy = -(here * log).sum(dim=1).mean()
        seen = log.exp()[:, 1:]
        dice = torch.stack([soft_dice(a[None], b[None]) for a, b in zip(seen, here[:, 1:], strict=True)]).mean()
        losses.append(entropy + 1 - dice)
    return torch.stack(losses).mean()


def _shares(
    labels: Tensor, names: Sequence[int], padded: Sequence[int], level: tuple[int, int, int], apart: int
) -> Float[Tensor, "n channels i j k"]:
    """Volume fractions of the labels in each voxel of a coarser grid, background (all other labels) first.

    Computed by counting: one-hot channels at full resolution would take gigabytes for a hundred regions of a brain.

    Args:
        labels: (N, I, J, K).
        names: the sorted labels.
        padded: shape of the finer grid, which begins with the labels along each axis; a multiple of ``level``.
        level: shape of the coarser grid.
        apart: stride of the sampled voxels along each axis.
    """
    cells = labels.new_zeros((), dtype=torch.long)
    children = 1
    shape = triple([-(-n // apart) for n in level])
    for axis, (whole, coarse, n) in enumerate(zip(padded, level, shape, strict=True)):
        ratio = whole // coarse
        along = torch.arange(labels.shape[1 + axis], device=labels.device) // ratio
        wanted = torch.nonzero(along % apart == 0)[:, 0]
        labels = labels.index_select(1 + axis, wanted)
        cells = cells[..., None] * n + along[wanted] // apart
        children *= ratio
    shares = torch.zeros(len(labels), (1 + len(names)) * math.prod(shape), device=labels.device)
    at = (channels(labels, names) * math.prod(shape) + cells).flatten(1)
    shares.scatter_add_(1, at, torch.full((), 1 / children, device=labels.device).expand(at.shape))
    return shares.unflatten(1, (1 + len(names), *shape))
