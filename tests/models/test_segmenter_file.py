"""A segmentation model comes back from its file as it was, and a damaged file is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from maxca.errors import MaxcaError
from maxca.models.load import load_model
from maxca.models.segmentation import Segmenter
from maxca.models.segmentation_file import load_any, load_segmenter, save_segmenter
from maxca.networks.segmentation import SegmentationUNet

NAMES = {0: "background", 4: "third ventricle", 1000: "cortex"}
EXTENT = ((10.0, 20.0), (10.0, 30.0), (5.0, 20.0))


def small() -> Segmenter:
    torch.manual_seed(0)
    network = SegmentationUNet(3, channels=(4, 6), fold=(2, 2, 1), strides=((2, 2, 2),), depth=1, embedding=5)
    return Segmenter(
        network.eval(),
        NAMES,
        spacing=(1.5, 1.5, None),
        shape=(128, 128, None),
        extent_mm=EXTENT,
        confidence=0.8,
        share=0.4,
        finest_mm=1.25,
        calibration=(-0.1, 1.2),
        mirror=(0, 2, 1),
    )


def saved(folder: Path, **changes: Any) -> Path:
    """A file whose description has other values."""
    path = folder / "small.safetensors"
    save_segmenter(small(), path)
    if changes:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["maxca"])
        save_file(load_file(path), path, {"maxca": json.dumps(about | changes)})
    return path


def test_a_model_comes_back_as_it_was(tmp_path: Path) -> None:
    before, after = small(), load_any(saved(tmp_path))
    assert isinstance(after, Segmenter)
    for name in ("names", "spacing", "shape", "extent_mm", "confidence", "share", "finest_mm", "calibration", "mirror"):
        assert getattr(after, name) == getattr(before, name), name
    assert list(after.names) == list(before.names) and after.name == "small"
    assert after.source is not None and after.source["path"].endswith("small.safetensors")
    image = torch.rand(1, 1, 8, 8, 4)
    torch.testing.assert_close(after.network(image), before.network(image), atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": [[0, "background"], [4, "a"]]},
        {"labels": [[4, "a"], [0, "background"], [5, "b"]]},
        {"labels": [[0, "background"], [4, "a"], [4, "b"]]},
        {"network": {"classes": 3, "channels": [4, 6]}},
        {"network": {"classes": 3, "block": "anything"}},
        {"network": {"classes": 10**9, "channels": [4, 6]}},
        {"spacing": [0.0, 1.0, 1.0]},
        {"share": 1.0},
        {"confidence": 2.0},
        {"extent_mm": [[1.0, 2.0]]},
        {"calibration": [0.0]},
        {"mirror": [0, 1]},
        {"mirror": [0, 1, 3]},
        {"mirror": [1, 2, 0]},
        {"format": 2},
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = saved(tmp_path, **changes)
    with pytest.raises(MaxcaError, match=r"small\.safetensors"):
        load_segmenter(path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    state = load_file(path)
    state["classes.bias"][0] = float("nan")
    save_file(state, path, about)
    with pytest.raises(MaxcaError, match="NaN"):
        load_segmenter(path)


def test_a_segmentation_model_is_no_registration_model(tmp_path: Path) -> None:
    with pytest.raises(MaxcaError, match=r"small\.safetensors: a segmentation model"):
        load_model(saved(tmp_path))


def test_a_block_without_a_name_is_not_saved(tmp_path: Path) -> None:
    network = SegmentationUNet(3, channels=(4, 6), strides=((2, 2, 2),), finest=lambda channels: torch.nn.Identity())
    with pytest.raises(ValueError, match="cannot be saved by name"):
        save_segmenter(replace(small(), network=network), tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_an_unknown_block_in_a_file_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path, network=small().network.arguments | {"finest": {"name": "squeeze"}})
    with pytest.raises(MaxcaError, match=r"small\.safetensors: .*squeeze"):
        load_segmenter(path)
