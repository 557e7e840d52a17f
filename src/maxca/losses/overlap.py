"""Overlap of labels as a loss."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor


def one_hot(labels: Int[Tensor, "n i j k"], names: Sequence[int]) -> Float[Tensor, "n labels i j k"]:
    """One-hot encoding: a channel for each label value."""
    return torch.stack([labels == name for name in names], dim=1).float()


def soft_dice(a: Float[Tensor, "n labels i j k"], b: Float[Tensor, "n labels i j k"]) -> Tensor:
    """Mean Dice of the labels present in both, 2 Σab / (Σa² + Σb²); 0 if there is none.

    Source: Milletari et al., 3DV 2016.
    """
    dims = (2, 3, 4)
    present = (a.sum(dims) > 0) & (b.sum(dims) > 0)
    scores = 2 * (a * b).sum(dims) / (a.square().sum(dims) + b.square().sum(dims)).clamp(min=1e-6)
    return (scores * present).sum() / present.sum().clamp(min=1)


def channels(labels: Tensor, names: Sequence[int]) -> Tensor:
    """The index of each label in a sorted list of values, starting at 1; 0 for all others; int64."""
    known = torch.tensor(names, device=labels.device)
    place = torch.searchsorted(known, labels.long()).clamp(max=len(names) - 1)
    return torch.where(known[place] == labels, place + 1, 0)


def warped_dice(
    fixed: Int[Tensor, "*points"], moving: Int[Tensor, "i j k"], at: Float[Tensor, "3 *points"], names: Sequence[int]
) -> Tensor:
    """``soft_dice`` of labels and of labels interpolated between voxels, without one-hot channels.

    A point of the warped image has at most eight labels, those of the surrounding voxels. Their contributions are
    summed directly, at a cost independent of the number of labels.

    Args:
        fixed: labels at points.
        moving: labels to interpolate; there is no label outside.
        at: the positions, in voxels of ``moving``.
        names: the labels to evaluate, sorted; at least one.
    """
    known, points = channels(moving, names).flatten(), at.flatten(1)
    here, low = channels(fixed, names).flatten(), points.detach().floor()
    past = points - low
    looked, shares = [], []
    for corner in product((0, 1), repeat=3):
        inside = torch.ones_like(here, dtype=torch.bool)
        place, share = torch.zeros_like(here), torch.ones_like(points[0])
        for axis, (step, n) in enumerate(zip(corner, moving.shape, strict=True)):
            index = low[axis].long() + step
            inside &= (index >= 0) & (index < n)
            place = place * n + index.clamp(0, n - 1)
            share = share * (past[axis] if step else 1 - past[axis])
        looked.append(torch.where(inside, known[place], 0))
        shares.append(share)
    label, weight = torch.stack(looked), torch.stack(shares)
    alike = torch.stack([(weight * (label == one)).sum(dim=0) for one in label])  # the total of a corner's label
    both = (weight * (label == here)).sum(dim=0)
    sums = weight.new_zeros(4, 1 + len(names))
    common = sums[0].index_add(0, here, both)
    squares = sums[1].index_add(0, label.flatten(), (weight * alike).flatten())
    theirs = sums[2].index_add(0, label.flatten(), weight.detach().flatten())
    ours = sums[3].index_add(0, here, torch.ones_like(both))
    present = ((ours > 0) & (theirs > 0))[1:]
    scores = (2 * common / (ours + squares).clamp(min=1e-6))[1:]
    return (scores * present).sum() / present.sum().clamp(min=1)
