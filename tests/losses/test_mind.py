"""MIND-SSC against its definition, differentiated by autograd."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maxca.geometry import Grid
from maxca.losses.mind import MindSSC


def slow_mind(volume: Tensor, distances: tuple[int, int, int], patch: tuple[int, int, int]) -> Tensor:
    """(P, I, J, K): the descriptors by their definition, differentiable."""
    shape = volume.shape
    axes = [a for a in range(3) if distances[a]]
    offsets = [np.eye(3, dtype=int)[a] * sign * distances[a] for a in axes for sign in (1, -1)]
    places = np.stack(np.indices(shape), axis=-1)

    def at(offset: np.ndarray) -> Tensor:
        i, j, k = np.moveaxis((places + offset).clip(0, np.array(shape) - 1), -1, 0)
        return volume[i, j, k]

    patches = []
    for a, b in combinations(offsets, 2):
        if (a + b == 0).all():
            continue
        square = (at(a) - at(b)).square()[None, None]
        width = tuple(2 * r + 1 for r in patch)
        patches.append(F.avg_pool3d(square, width, stride=1, padding=patch, count_include_pad=False)[0, 0])
    relative = torch.stack(patches) - torch.stack(patches).amin(dim=0)
    variance = relative.mean(dim=0)
    typical = variance.mean().detach()
    return torch.exp(-relative / variance.clamp(1e-3 * typical + 1e-9, 1e3 * typical + 1e-9))


@pytest.mark.parametrize(
    ("shape", "spacing", "distances", "patch"),
    [
        ((9, 12, 10), (1.0, 1.0, 1.0), (2, 2, 2), (1, 1, 1)),
        ((12, 11, 6), (1.0, 1.0, 3.0), (2, 2, 1), (1, 1, 0)),
        ((14, 13, 1), (1.0, 1.0, 8.0), (2, 2, 0), (1, 1, 0)),
    ],
    ids=["volume", "thick slices", "slice"],
)
@pytest.mark.parametrize("masked", [False, True])
def test_mind_and_its_gradient(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    distances: tuple[int, int, int],
    patch: tuple[int, int, int],
    masked: bool,
) -> None:
    rng = np.random.default_rng(0)
    fixed, warped = (torch.from_numpy(rng.random(shape)).float() for _ in range(2))
    mask = torch.from_numpy(rng.random(shape)).float() if masked else None
    weight = torch.ones(shape) if mask is None else mask
    weight = F.avg_pool3d(weight[None, None], [2 * r + 1 for r in patch], 1, patch, count_include_pad=False)[0, 0]
    warped.requires_grad_()
    apart = (slow_mind(warped, distances, patch) - slow_mind(fixed, distances, patch)).square().mean(dim=0)
    slow = 1 - (apart * weight).sum() / weight.sum()
    (gradient,) = torch.autograd.grad(slow, warped)
    score = MindSSC(fixed, Grid(shape, np.diag([*spacing, 1.0])), mask)(warped.detach())
    assert float(score.value) == pytest.approx(float(slow), rel=1e-5)
    torch.testing.assert_close(score.gradient, gradient * warped.numel(), rtol=1e-3, atol=1e-3)
