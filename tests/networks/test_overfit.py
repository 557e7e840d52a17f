"""A tiny CorrXCA learns one real pair by heart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import maxca
from maxca.engine.volume import normalise
from maxca.geometry import Affine, Chain, Grid
from maxca.io.images import read
from maxca.io.pairs import read_pairs
from maxca.losses.overlap import one_hot, soft_dice
from maxca.losses.regularity import diffusion
from maxca.losses.similarity import LocalNCC, dissimilarity, local_window
from maxca.networks import warp

STEPS = 150


def on_one_grid(images: tuple[Path, Path], interpolation: str) -> list[Tensor]:
    """Both (1, 1, I, J, K), the middle of the moving grid on that of the fixed one."""
    fixed, moving = (read(path) for path in images)
    shift = np.eye(4)
    shift[:3, 3] = moving.grid.center - fixed.grid.center
    values = [torch.as_tensor(image.data.astype(np.float32)) for image in (fixed, moving)]
    if interpolation == "linear":
        values = [normalise(v) for v in values]
    there = Chain((Affine(shift),)).resample(values[1][None], moving.grid, fixed.grid, interpolation)
    return [values[0][None, None], there[None]]


@pytest.mark.slow
def test_a_tiny_corrxca_overfits_one_pair_of_hippocampi(data_folder: Callable[[str], Path]) -> None:
    pair = read_pairs(data_folder("hippocampus") / "pairs_val.csv")[0]
    fixed, moving = on_one_grid((pair.fixed, pair.moving), "linear")
    labels = [
        one_hot(t[0].round().int(), [1, 2]) for t in on_one_grid((pair.fixed_labels, pair.moving_labels), "labels")
    ]
    small_fixed, small_moving = (F.avg_pool3d(x, 2, ceil_mode=True) for x in (fixed, moving))
    grid = Grid(tuple(small_fixed.shape[2:]), np.diag([2.0, 2.0, 2.0, 1.0]))
    measure = LocalNCC(small_fixed[0, 0], local_window(grid, 125))
    torch.manual_seed(0)
    network = maxca.build_network("corrxca_tiny")
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(STEPS):
        flow = network(small_fixed, small_moving).flow
        loss = dissimilarity(measure, warp(small_moving, flow)[0, 0]) + 0.06 * diffusion(flow)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    flow = 2 * F.interpolate(flow.detach(), size=fixed.shape[2:], mode="trilinear", align_corners=False)
    before, after = (float(soft_dice(labels[0], warp(labels[1], f))) for f in (torch.zeros_like(flow), flow))
    assert after >= before + 0.15
