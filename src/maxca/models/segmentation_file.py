"""A segmentation model, from and to one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from maxca.models.checkpoint import read_checkpoint, read_description, save_checkpoint
from maxca.models.description import SegmentationDescription, check_description, check_weights
from maxca.models.load import FORMAT, SEGMENTATION, Model, load_model, named
from maxca.models.segmentation import BACKGROUND, Segmenter
from maxca.networks.segmentation import SegmentationUNet

ARGUMENTS = {"classes", "channels", "fold", "strides", "depth", "embedding", "finest"}


def save_segmenter(model: Segmenter, path: str | Path) -> None:
    """Write one safetensors file in half precision.

    Args:
        model: with the default blocks, or one with a name at the finest level.
        path: ends in ``.safetensors``.

    Raises:
        MaxcaError: when the file cannot be written.
        ValueError: for a block without a name.
    """
    about = {
        "format": FORMAT,
        "kind": SEGMENTATION,
        "network": model.network.arguments,
        "labels": [[number, name] for number, name in model.names.items()],
        "spacing": model.spacing,
        "shape": model.shape,
        "extent_mm": model.extent_mm,
        "confidence": model.confidence,
        "share": model.share,
        "finest_mm": model.finest_mm,
        "calibration": model.calibration,
        "mirror": model.mirror,
    }
    state = {name: tensor.half() for name, tensor in model.network.state_dict().items()}
    save_checkpoint(path, state, about)


def load_segmenter(path: str | Path, device: torch.device | str = "cpu") -> Segmenter:
    """Read a segmentation model; the weights must fit the network exactly.

    Args:
        path: a file written by ``save_segmenter``.
        device: of the network.

    Raises:
        MaxcaError: for any other file.
    """
    path = Path(path)
    state, about, digest = read_checkpoint(path)
    with named(path):
        check_description(path, about, SegmentationDescription)
        names = {number: name for number, name in about["labels"]}
        arguments = about["network"]
        if unknown := arguments.keys() - ARGUMENTS:
            raise ValueError(f"its network has unknown arguments {sorted(unknown)[:3]}")
        if len(names) != len(about["labels"]) or next(iter(names)) != 0 or arguments.get("classes") != len(names):
            raise ValueError(f"its network has {arguments.get('classes')} classes, its labels are {len(names)} with 0")
        check_weights(lambda: SegmentationUNet(**arguments), arguments, state)
        mirror = _mirror(about, len(names))
        network = SegmentationUNet(**arguments)
        network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=True)
    kept = {key: about[key] for key in ("confidence", "share", "finest_mm")}
    extent = about["extent_mm"]
    return Segmenter(
        network.eval().to(device),
        names | {0: BACKGROUND},
        tuple(about["spacing"]),
        tuple(about["shape"]),
        path.stem,
        None if extent is None else tuple((low, high) for low, high in extent),
        calibration=tuple(about["calibration"]),
        mirror=mirror,
        source={"path": str(path.resolve()), "sha256": digest},
        **kept,
    )


def _mirror(about: Mapping[str, Any], classes: int) -> tuple[int, ...] | None:
    mirror = about.get("mirror")
    if mirror is None:
        return None
    if len(mirror) != classes or any(not 0 <= n < classes or mirror[mirror[n]] != n for n in mirror):
        raise ValueError(f"its {len(mirror)} mirrored classes are not the {classes} classes in another order")
    return tuple(mirror)


def load_any(path: str | Path, device: torch.device | str = "cpu") -> Model | Segmenter:
    """A registration or a segmentation model, by the kind in its description."""
    return load_segmenter(path, device) if is_segmenter(path) else load_model(path, device)


def is_segmenter(path: str | Path) -> bool:
    """Whether a file is a segmentation model, without reading its weights."""
    return read_description(path).get("kind") == SEGMENTATION
