"""Overlap of labels as a loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def one_hot(labels: Int[Tensor, "n i j k"], names: Sequence[int]) -> Float[Tensor, "n labels i j k"]:
    """A channel for each name, 1 where the label is that."""
    return torch.stack([labels == name for name in names], dim=1).float()


def soft_dice(a: Float[Tensor, "n labels i j k"], b: Float[Tensor, "n labels i j k"]) -> Tensor:
    """Mean Dice of the labels that both hold, 2 Σab / (Σa² + Σb²); 0 where there is none.

    Source: Milletari et al., 3DV 2016.
    """
    dims = (2, 3, 4)
    present = (a.sum(dims) > 0) & (b.sum(dims) > 0)
    scores = 2 * (a * b).sum(dims) / (a.square().sum(dims) + b.square().sum(dims)).clamp(min=1e-6)
    return (scores * present).sum() / present.sum().clamp(min=1)
