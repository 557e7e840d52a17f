"""The loss of a batch: the mean over its pairs, from all voxels or some."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from prepared_data import make

from maxca.datasets.prepared import read_prepared
from maxca.networks import Prediction
from maxca.training.loader import Pairs, Scans, batches
from maxca.training.objective import objective
from maxca.training.recipes import RECIPES

SHAPE = (16, 20, 16)


def test_each_pair_of_a_batch_counts_as_if_alone(tmp_path: Path) -> None:
    config = RECIPES["hippocampus"]()
    pairs = Pairs(Scans(read_prepared(make(tmp_path / "data", shape=SHAPE))), "train")
    network = config.network.build().eval()
    torch.nn.init.normal_(network.heads[0].conv.weight, std=0.02)
    with torch.no_grad():
        both = objective(network, next(batches(pairs, [0, 1], 2, 0, pin=False)), config.losses)
        alone = [objective(network, next(batches(pairs, [n], 1, 0, pin=False)), config.losses) for n in (0, 1)]
    for name, value in both.items():
        assert float(value) == pytest.approx(sum(float(terms[name]) for terms in alone) / 2, rel=1e-4)


def test_overlap_on_a_lattice_is_nearly_that_of_all_voxels(tmp_path: Path) -> None:
    losses = replace(RECIPES["hippocampus"]().losses, image=0.0, diffusion=0.0)
    pairs = Pairs(Scans(read_prepared(make(tmp_path / "data", shape=(32, 36, 32)))), "train")
    batch = next(batches(pairs, [0], 1, 0, pin=False))
    flow = torch.zeros(1, 3, 32, 36, 32, requires_grad=True)

    def network(_fixed: torch.Tensor, _moving: torch.Tensor) -> Prediction:
        return Prediction(flow)

    whole = objective(network, batch, losses)["overlap"]
    some = [objective(network, batch, replace(losses, lattice=2), chosen)["overlap"] for chosen in range(60)]
    assert len({float(one.detach()) for one in some}) > 4, "other voxels from step to step"
    assert float(torch.stack(some).mean().detach()) == pytest.approx(float(whole.detach()), rel=0.05)
    reached = [torch.autograd.grad(term, flow)[0].abs().sum(dim=1) > 0 for term in (whole, torch.stack(some).sum())]
    assert reached[0].sum() > 1000
    assert (reached[0] & reached[1]).sum() > 0.99 * reached[0].sum(), "in the end every voxel has its say"
