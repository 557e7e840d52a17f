"""Models on disk: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import maxca
from maxca.blocks import MAXCA
from maxca.errors import MaxcaError
from maxca.models.load import Model, load_model
from maxca.networks import NetworkConfig

CONFIG = NetworkConfig("corrxca_tiny", {"block": [partial(MAXCA, heads=2, region=3), "conv"], "levels": 2})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "heart.safetensors"
    Model(CONFIG.build(), CONFIG, (1.5, 1.5, 3.0), shape=(96, 96, None)).save(path)
    return path


def rewritten(path: Path, **changes: object) -> Path:
    """The same weights with another description."""
    about = {"format": 1, "network": CONFIG.as_plain(), "spacing": None, **changes}
    save_file(load_file(path), path, metadata={"maxca": json.dumps(about)})
    return path


def test_a_model_comes_back_as_it_was(file: Path) -> None:
    model = maxca.load_model(file)
    assert model.name == "heart"
    assert model.spacing == (1.5, 1.5, 3.0)
    assert model.shape == (96, 96, None)
    assert model.config.as_plain() == CONFIG.as_plain()
    assert not model.network.training
    again = file.with_name("again.safetensors")
    model.save(again)
    assert again.read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format": 2}, "format is 2, this version supports 1"),
        ({"network": {"name": "corrxca_huge", "arguments": {}}}, "unknown network 'corrxca_huge'"),
        ({"network": {"name": "corrxca_tiny", "arguments": {"depth": 3}}}, "depth"),
        ({"network": {"name": "corrxca_tiny", "arguments": {}}}, "Missing key"),
        ({"network": {"name": "corrxca_tiny"}}, "arguments"),
        ({"spacing": [1, 0, 1]}, "spacing"),
        ({"spacing": [1, 1]}, "not enough values"),
        ({"shape": [96, 0, None]}, "input shape"),
        ({"shape": [96]}, "not enough values"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_in_one_line(file: Path, changes: dict, complaint: str) -> None:
    with pytest.raises(MaxcaError, match=complaint) as error:
        load_model(rewritten(file, **changes))
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(MaxcaError, match="no such model file"):
        load_model(path)
    path.write_text("weights")
    with pytest.raises(MaxcaError, match="not a model file"):
        load_model(path)
    torch.save({"a": torch.zeros(1)}, path)  # a pickle
    with pytest.raises(MaxcaError, match="not a model file"):
        load_model(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(MaxcaError, match="without the description of a network"):
        load_model(path)


def test_a_block_without_a_name_cannot_be_saved(tmp_path: Path) -> None:
    config = NetworkConfig("corrxca_tiny", {"block": lambda channels: torch.nn.Identity()})
    with pytest.raises(ValueError, match="cannot be saved by name"):
        Model(config.build(), config).save(tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_half_the_size_is_nearly_the_same_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = NetworkConfig("corrxca_tiny", {})
    model = Model(config.build(), config, (1.5, 1.5, None), refine=0)
    model.save(tmp_path / "whole.safetensors")
    model.save(tmp_path / "half.safetensors", half=True)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.65 * sizes[0]
    again = load_model(tmp_path / "half.safetensors")
    assert (again.spacing, again.refine) == ((1.5, 1.5, None), 0)
    for ours, theirs in zip(again.network.parameters(), model.network.parameters(), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
