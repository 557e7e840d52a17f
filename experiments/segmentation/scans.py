"""Packed scans as tensors of one shape."""

from __future__ import annotations

import io
import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Triple = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Scans:
    """Scans of one kind in one frame, on the device.

    Args:
        images: (S, 1, I, J, K) uint8, 0 is background.
        labels: (S, 1, I, J, K) uint8 class indices.
        names: of the scans.
    """

    images: Tensor
    labels: Tensor
    names: list[str]


def opened(folder: Path, task: str) -> Any:
    """The arrays that ``pack.py`` wrote for a task: plain, or compressed with xz."""
    plain, small = folder / f"{task}.npz", folder / f"{task}.npz.xz"
    raw = plain.read_bytes() if plain.exists() else lzma.decompress(small.read_bytes())
    return np.load(io.BytesIO(raw))


def load(arrays: Any, part: str, frame: Triple, device: torch.device) -> Scans:
    """The scans of a part, ``"train"`` or ``"val"``, centred in a frame."""
    names = [key[:-6] for key in arrays.files if key.startswith(part) and key.endswith("_image")]
    images, labels = (
        torch.stack([framed(torch.from_numpy(arrays[f"{n}_{kind}"]), frame) for n in names]).unsqueeze(1).to(device)
        for kind in ("image", "labels")
    )
    return Scans(images, labels, names)


def framed(volume: Tensor, frame: Triple) -> Tensor:
    """The middle of a volume in a frame, with zeros around where the frame is larger."""
    for axis, n in enumerate(frame):
        have = volume.shape[axis]
        if have > n:
            volume = volume.narrow(axis, (have - n) // 2, n)
    pads: list[int] = []
    for n, have in zip(reversed(frame), reversed(volume.shape), strict=True):
        pads += [(n - have) // 2, n - have - (n - have) // 2]
    return F.pad(volume, pads)
