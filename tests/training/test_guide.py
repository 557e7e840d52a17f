"""Heads that name labels while a network is trained: what they ask, what they teach, and that they stay behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from prepared_data import make
from torch import Tensor

from maxca.datasets.prepared import read_prepared
from maxca.errors import MaxcaError
from maxca.losses.overlap import soft_dice
from maxca.networks import build_network
from maxca.training.config import Losses
from maxca.training.guide import GuidedPrediction, guided, label_names, segmentation
from maxca.training.loader import Pairs, Scans, batches
from maxca.training.objective import objective

SHAPE = (5, 6, 7)  # odd: the network pads to 8


def labelled() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    fixed, moving = (torch.randint(0, 3, (2, *SHAPE), generator=generator).short() * 4 for _ in range(2))
    return {"fixed_labels": fixed, "moving_labels": moving}


def sure(labels: Tensor, names: list[int]) -> Tensor:
    """Logits of who knows: (N, 1 + names, 8, 8, 8)."""
    wide = torch.zeros(len(labels), 8, 8, 8)
    wide[:, :5, :6, :7] = labels
    return torch.stack([(wide == name).float() for name in [0, *names]], dim=1) * 200 - 100


def test_the_right_names_cost_nothing_and_wrong_ones_much() -> None:
    batch, flow = labelled(), torch.zeros(2, 3, *SHAPE)
    both = sure(torch.cat([batch["fixed_labels"], batch["moving_labels"]]), [4, 8])
    right = GuidedPrediction(flow, None, [both, both[:2]], (8, 8, 8), [((8, 8, 8), 1)] * 2)
    assert float(segmentation(right, batch, [4, 8])) == pytest.approx(0, abs=1e-6)
    swapped = GuidedPrediction(
        flow, None, [both[2:]], (8, 8, 8), [((8, 8, 8), 1)]
    )  # those of the moving images, for the fixed ones
    assert float(segmentation(swapped, batch, [4, 8])) > 10


@pytest.mark.parametrize("apart", [1, 2, 3])
def test_coarse_voxels_are_asked_for_the_share_of_each_label(apart: int) -> None:
    batch, flow = labelled(), torch.zeros(2, 3, *SHAPE)
    generator = torch.Generator().manual_seed(1)
    logits = [torch.randn(n, 3, *shape, generator=generator) for n, shape in ((4, (4, 4, 8)), (2, (2, 1, 1)))]
    both = torch.cat([batch["fixed_labels"], batch["moving_labels"]])
    channels = F.pad(torch.stack([both == name for name in (0, 4, 8)], dim=1).float(), (0, 1, 0, 2, 0, 3))
    expected = 0.0
    for x in logits:
        target = F.adaptive_avg_pool3d(channels[: len(x)], x.shape[2:])[..., ::apart, ::apart, ::apart]
        log = x[..., ::apart, ::apart, ::apart].log_softmax(dim=1)
        expected += float(1 - (target * log).sum(dim=1).mean() - soft_dice(log.exp()[:, 1:], target[:, 1:])) / 2
    seen = [x[..., ::apart, ::apart, ::apart] for x in logits]
    levels = [((4, 4, 8), apart), ((2, 1, 1), apart)]
    asked = segmentation(GuidedPrediction(flow, None, seen, (8, 8, 8), levels), batch, [4, 8])
    assert float(asked) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["corrxca_tiny", "nice_net_tiny"])
def test_every_weight_of_the_encoder_and_the_heads_learns(name: str, tmp_path: Path) -> None:
    data = read_prepared(make(tmp_path / "data", shape=(16, 20, 16)))
    names = label_names(Scans(data))
    network = guided(build_network(name), len(names))
    batch = next(batches(Pairs(Scans(data), "train"), [0], 1, 0, pin=False))
    tensors = {key: value for key, value in batch.items() if isinstance(value, Tensor)}
    losses = Losses(image=0.0, diffusion=0.0, segmentation=1.0)
    objective(network, tensors, losses, names=names)["loss"].backward()
    learning = [*network.network.encoder.named_parameters(), *network.encoder_heads.named_parameters()]
    learning += network.decoder_head.named_parameters()
    assert not [key for key, weight in learning if weight.grad is None or not weight.grad.any()]


def test_heads_change_nothing_about_the_answer() -> None:
    network = build_network("corrxca_tiny").eval()
    for head in network.heads:
        torch.nn.init.normal_(head.conv.weight, std=0.1)
    fixed, moving = torch.rand(2, 1, 1, 9, 10, 11)
    with torch.no_grad():
        torch.testing.assert_close(guided(network, 3)(fixed, moving).flow, network(fixed, moving).flow)


def test_a_lattice_asks_fewer_voxels_of_the_finer_levels() -> None:
    network = build_network("corrxca_tiny")
    fixed, moving = torch.rand(2, 1, 1, 32, 32, 32)
    with torch.no_grad():
        all_of, some = guided(network, 3)(fixed, moving), guided(network, 3, 4)(fixed, moving)
    assert {apart for _, apart in all_of.levels} == {1}
    assert [(level[0], apart) for level, apart in some.levels] == [(16, 4), (8, 2), (32, 4)]
    for logits, (level, apart) in zip(some.logits, some.levels, strict=True):
        assert logits.shape[2] == -(-level[0] // apart)


def test_a_batch_counts_as_its_pairs_alone(tmp_path: Path) -> None:
    data = read_prepared(make(tmp_path / "data", shape=(16, 20, 16)))
    names = label_names(Scans(data))
    network = guided(build_network("corrxca_tiny"), len(names)).eval()
    losses = replace(Losses(), image=0.0, segmentation=1.0)
    pairs = Pairs(Scans(data), "train")
    with torch.no_grad():
        both, *alone = (
            float(
                objective(network, next(batches(pairs, n, len(n), 0, pin=False)), losses, names=names)["segmentation"]
            )
            for n in ([0, 1], [0], [1])
        )
    assert both == pytest.approx(sum(alone) / 2, rel=1e-4)


def test_other_networks_are_refused() -> None:
    with pytest.raises(MaxcaError, match="coarse-to-fine"):
        guided(build_network("voxelmorph_tiny"), 2)
