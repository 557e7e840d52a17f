"""Networks by name and arguments: what files of every version hold builds the same network."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import maxca
from maxca.errors import MaxcaError
from maxca.models.checkpoint import read_checkpoint, save_checkpoint
from maxca.models.load import Model, load_model
from maxca.models.segmentation_file import is_segmenter
from maxca.models.zoo import find_model, shipped
from maxca.networks import FlowOptions, NetworkConfig, network_from_plain
from maxca.networks.corr import corr_network
from maxca.networks.encoder import Encoder

RUNS = sorted((Path(__file__).parents[2] / "experiments" / "runs").glob("*/run.json"))
FLOWS = st.builds(
    lambda finest, flat, velocity, composed, symmetric: FlowOptions(
        finest, velocity or symmetric, composed, symmetric, flat
    ),
    st.integers(0, 2),
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@given(flow=FLOWS)
@settings(max_examples=30, deadline=None)
def test_descriptions_of_the_first_version_and_of_this_one_are_of_one_network(flow: FlowOptions) -> None:
    config = NetworkConfig("corrxca_tiny", {"flow": flow, "region": 3})
    now = json.loads(json.dumps(config.as_plain()))
    first = {"name": "corrxca_tiny", "arguments": {"region": 3} | asdict(flow)}
    assert network_from_plain(now) == network_from_plain(first) == config
    assert network_from_plain(first).as_plain() == now


@pytest.mark.parametrize("name", [name for name in shipped() if not is_segmenter(find_model(name))])
def test_a_bundled_model_loads_from_both_versions(name: str, tmp_path: Path) -> None:
    held = read_checkpoint(find_model(name))
    network = held.about["network"]
    model = load_model(find_model(name))
    flow = model.config.arguments["flow"]
    assert flow == FlowOptions(finest=1, velocity=True, flat=2 if name == "cardiac-cine" else 0)
    flat = {key: value for key, value in network["arguments"].items() if key != "flow"} | asdict(flow)
    for number, about in enumerate(({"name": network["name"], "arguments": flat}, model.config.as_plain())):
        path = tmp_path / f"{number}.safetensors"
        save_checkpoint(path, held.state, held.about | {"network": about})
        again = load_model(path)
        assert again.config == model.config
        images = torch.rand(2, 1, 1, 16, 20, 12, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert torch.equal(again.network(*images).flow, model.network(*images).flow)


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.parent.name)
def test_the_network_of_every_kept_run_is_built(path: Path) -> None:
    about = json.loads(path.read_text())
    if "config" not in about:
        pytest.skip("a segmentation: its network is built by its own script")
    network = network_from_plain(about["config"]["network"]).build()
    assert network.flow == FlowOptions(
        finest=1, velocity=True, flat=about["config"]["network"]["arguments"].get("flat", 0)
    )


def test_a_description_of_a_later_version_is_refused(tmp_path: Path) -> None:
    config = NetworkConfig("corrxca_tiny")
    Model(config.build(), config).save(tmp_path / "now.safetensors")
    held = read_checkpoint(tmp_path / "now.safetensors")
    later = held.about | {"network": held.about["network"] | {"version": 3}}
    save_checkpoint(tmp_path / "later.safetensors", held.state, later)
    with pytest.raises(MaxcaError, match=r"later\.safetensors.*version 3.*reads 1 to 2; update maxca"):
        load_model(tmp_path / "later.safetensors")


@pytest.mark.parametrize(
    ("flow", "complaint"),
    [
        ({"finest": "a"}, "finest"),
        ({"speed": 1}, "speed"),
        ({"finest": 10**12}, "no level"),
        (3, "mapping"),
        ([], "list"),
    ],
)
def test_damaged_flow_options_are_refused_in_one_line(flow: Any, complaint: str, tmp_path: Path) -> None:
    config = NetworkConfig("corrxca_tiny")
    Model(config.build(), config).save(tmp_path / "m.safetensors")
    held = read_checkpoint(tmp_path / "m.safetensors")
    network = held.about["network"] | {"arguments": {"flow": flow}}
    save_checkpoint(tmp_path / "m.safetensors", held.state, held.about | {"network": network})
    with pytest.raises(MaxcaError, match=rf"m\.safetensors.*{complaint}") as error:
        load_model(tmp_path / "m.safetensors")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["voxelmorph_tiny", "transmorph_tiny"])
@pytest.mark.parametrize("field", [each.name for each in fields(FlowOptions) if each.name != "velocity"])
def test_a_network_with_one_flow_takes_no_options_of_several(name: str, field: str) -> None:
    with pytest.raises(ValueError, match=f"does not support .*{field}"):
        maxca.build_network(name, flow={"velocity": True, field: field not in ("finest", "flat") or 1})


class Pooled(nn.Module):
    """An encoder of another kind: a 1x1x1 convolution of the image, averaged ever more coarsely."""

    def __init__(self, channels: int, factors: list[tuple[int, int, int]]) -> None:
        super().__init__()
        self.widths = [channels * 2**level for level in range(len(factors) + 1)]
        self.factors = factors
        self.convs = nn.ModuleList(nn.Conv3d(1, width, 1) for width in self.widths)

    def forward(self, image: Tensor) -> list[Tensor]:
        features = [self.convs[0](image)]
        for conv, factor in zip(self.convs[1:], self.factors, strict=True):
            image = nn.functional.avg_pool3d(image, factor)
            features.append(conv(image))
        return features


@pytest.mark.parametrize("name", ["corrxca_tiny", "corrmlp_tiny", "nice_net_tiny", "nice_trans_tiny"])
def test_an_encoder_is_injected(name: str) -> None:
    network = maxca.build_network(name, encoder=Pooled)
    assert isinstance(network.encoder, Pooled)
    fixed, moving = torch.rand(2, 1, 1, 13, 18, 9)
    assert network(fixed, moving).flow.shape == (1, 3, 13, 18, 9)
    with pytest.raises(ValueError, match="encoder of 3 levels has"):
        maxca.build_network(name, encoder=lambda channels, factors: Encoder(channels + 1, factors))
    with pytest.raises(ValueError, match="cannot be saved by name"):
        NetworkConfig(name, {"encoder": Pooled}).as_plain()


def test_injecting_the_default_changes_no_weight() -> None:
    torch.manual_seed(0)
    one = corr_network(4, 4, 2)
    torch.manual_seed(0)
    other = corr_network(4, 4, 2, encoder=Encoder)
    assert list(one.state_dict()) == list(other.state_dict())
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
