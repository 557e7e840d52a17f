"""A prepared folder of balls with two labels, as small as one can be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from maxca.datasets.prepared import FORMAT, MANIFEST, SCANS


def make(folder: Path, count: int = 5, shape: tuple[int, int, int] = (12, 14, 10), *, labels: bool = True) -> Path:
    """``count`` subjects, the last two to validate on."""
    (folder / SCANS).mkdir(parents=True)
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    rows = []
    for n in range(count):
        random = torch.Generator().manual_seed(n)
        centre = 0.3 * torch.rand(3, generator=random) - 0.15
        distance = sum((a - c).square() for a, c in zip(axes, centre, strict=True)).sqrt()
        ball = (0.7 - distance).clamp(0, 0.4) / 0.4
        image = (255 * (ball * (0.8 + 0.2 * torch.rand(shape, generator=random)))).to(torch.uint8)
        tensors = {"image": image}
        if labels:
            tensors["labels"] = ((distance < 0.6).short() + (distance < 0.35).short()).to(torch.int16)
        save_file(tensors, folder / SCANS / f"s{n}.safetensors")
        row = {"name": f"s{n}", "subject": f"s{n}", "split": "val" if n >= count - 2 else "train", "group": ""}
        rows.append(row | {"spacing": [1.0, 1.0, 1.0], "to_voxel": np.eye(4).tolist()})
    about = {"format": FORMAT, "kind": "inter", "scans": rows}
    (folder / MANIFEST).write_text(json.dumps(about))
    return folder
