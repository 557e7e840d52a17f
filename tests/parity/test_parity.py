"""Our blocks and CorrMLP against recordings of the published implementations, and against a plain reference."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from parity.reference import maxca as plain_maxca
from parity.reference import xca as plain_xca
from torch import Tensor, nn

import maxca
from maxca.blocks import MAXCA, XCA, load_published
from maxca.networks import warp

DATA = Path(__file__).parent / "data"
SHARED = Path(__file__).parents[3] / "shared" / "parity"
BLOCKS = sorted(DATA.glob("maxca_block_*.npz"))
LAYERS = sorted(DATA.glob("*_xca_*.npz"))
CORRMLP = SHARED / "corrmlp_enc4_dec8.npz"


class Recording:
    """Parameters, inputs, outputs and gradients of one run of a published module."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            tensors = {k: torch.from_numpy(v) for k, v in file.items() if v.dtype.kind == "f"}
            self.config = {k.removeprefix("config/"): v.tolist() for k, v in file.items() if k.startswith("config/")}
        self.state = {k.removeprefix("param/"): v for k, v in tensors.items() if k.startswith("param/")}
        self.inputs = [tensors[f"input/{n}"] for n in range(2) if f"input/{n}" in tensors]
        self.gradients = [tensors[f"grad_input/{n}"] for n in range(len(self.inputs))]
        self.outputs = [tensors[f"output/{n}"] for n in range(2) if f"output/{n}" in tensors]
        self.seed = tensors["grad_seed"]


def recorded_block(path: Path) -> tuple[MAXCA, Recording]:
    recording = Recording(path)
    block = MAXCA(recording.config["channels"], heads=recording.config["heads"], region=recording.config["region"])
    load_published(block, recording.state)
    return block, recording


def recorded_layer(path: Path) -> tuple[XCA, Recording]:
    recording = Recording(path)
    tokens = "within" if path.name.startswith("regional") else "across"
    layer = XCA(recording.config["channels"], recording.config["heads"], recording.config["region"], tokens)
    load_published(layer, recording.state)
    return layer, recording


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("plain", [False, True], ids=["ours", "reference"])
@pytest.mark.parametrize("path", BLOCKS, ids=lambda p: p.stem)
def test_the_block_gives_what_the_published_one_gave(path: Path, plain: bool) -> None:
    block, recording = recorded_block(path)
    x = recording.inputs[0].clone().requires_grad_()
    out = plain_maxca(block, x) if plain else block(x)
    assert relative(out, recording.outputs[0]) <= 1e-5
    (out * recording.seed).sum().backward()
    assert relative(x.grad, recording.gradients[0]) <= 1e-4


@pytest.mark.parametrize("plain", [False, True], ids=["ours", "reference"])
@pytest.mark.parametrize("path", LAYERS, ids=lambda p: p.stem)
def test_the_layers_give_what_the_published_ones_gave(path: Path, plain: bool) -> None:
    layer, recording = recorded_layer(path)
    x = recording.inputs[0].clone().requires_grad_()
    volume = x.permute(0, 4, 1, 2, 3)  # recorded channels-last
    out = (plain_xca(layer, volume) if plain else layer(volume)).permute(0, 2, 3, 4, 1)
    assert relative(out, recording.outputs[0]) <= 1e-5
    (out * recording.seed).sum().backward()
    assert relative(x.grad, recording.gradients[0]) <= 1e-4


@pytest.mark.parametrize("path", BLOCKS, ids=lambda p: p.stem)
def test_half_precision_stays_near(path: Path) -> None:
    block, recording = recorded_block(path)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = block(recording.inputs[0])
    assert relative(out.float(), recording.outputs[0]) <= 2e-2


@pytest.mark.parametrize("path", BLOCKS, ids=lambda p: p.stem)
def test_parameters_get_the_gradients_of_the_reference(path: Path) -> None:
    block, recording = recorded_block(path)
    (plain_maxca(block, recording.inputs[0]) * recording.seed).sum().backward()
    expected = {name: p.grad.clone() for name, p in block.named_parameters()}
    block.zero_grad()
    (block(recording.inputs[0]) * recording.seed).sum().backward()
    for name, p in block.named_parameters():
        assert relative(p.grad, expected[name]) <= 1e-3, name


@pytest.mark.parametrize("tokens", ["within", "across"])
def test_covariances_are_those_of_the_reference(tokens: Literal["within", "across"]) -> None:
    torch.manual_seed(0)
    layer = XCA(8, 2, (3, 4, 2), tokens, temperature=9, normalise=False).double()
    assert layer.temperature.eq(9).all()
    x = torch.randn(2, 8, 7, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(layer(x), plain_xca(layer, x))
    covariances = layer(x)
    layer.normalise = True
    assert not torch.allclose(layer(x), covariances, rtol=1e-3)


@pytest.mark.skipif(not CORRMLP.is_file(), reason="the recording of CorrMLP is not here")
def test_corrmlp_gives_the_published_flow_and_image() -> None:
    recording = Recording(CORRMLP)
    network = maxca.build_network("corrmlp", encoder_channels=4, decoder_channels=8)
    load_published(network, recording.state)
    fixed, moving = (x.clone().requires_grad_() for x in recording.inputs)
    flow = network(fixed, moving).flow
    assert relative(flow, recording.outputs[1]) <= 1e-4
    assert relative(warp(moving, flow), recording.outputs[0]) <= 1e-4
    (flow * recording.seed).sum().backward()
    assert relative(fixed.grad, recording.gradients[0]) <= 1e-3
    assert relative(moving.grad, recording.gradients[1]) <= 1e-3


def test_loading_is_strict() -> None:
    _, recording = recorded_block(BLOCKS[0])
    wrong: nn.Module = MAXCA(recording.config["channels"] * 2, heads=2)
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_published(wrong, recording.state)
    with pytest.raises(RuntimeError, match="Missing key"):
        load_published(wrong, {})
