"""How good a network is on the validation pairs."""

from __future__ import annotations

import math

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from maxca.data.loader import Pairs
from maxca.data.prepared import Prepared
from maxca.geometry.grid import Grid
from maxca.geometry.jacobian import nondiffeomorphic_volume
from maxca.geometry.transforms import DenseField
from maxca.geometry.warp import interpolator, voxel_coordinates
from maxca.metrics import dice, hd95
from maxca.training.config import TrainingConfig
from maxca.training.objective import alikeness

SPLIT = "val"


@torch.no_grad()
def validated(network: nn.Module, config: TrainingConfig, data: Prepared, fabric: Fabric) -> dict[str, float]:
    """Means over evenly spaced pairs: ``dice``, ``hd95`` in mm, ``ndv`` in percent, ``alike``, and ``score``.

    Labels are warped by nearest neighbour. The score, by which the best network is chosen, is the Dice, or the
    similarity where there are no labels; minus a tenth of the NDV in percent.
    Nothing, where there are no such pairs.
    """
    pairs = Pairs(data, SPLIT, shape=config.shape)
    if not len(pairs):
        return {}
    count = min(config.validation_pairs, len(pairs))
    numbers = np.linspace(0, len(pairs) - 1, count).round().astype(int).tolist()
    network.eval()
    rows = []
    for number in numbers:
        sample = pairs[number]
        tensors = {k: fabric.to_device(v.unsqueeze(0)) for k, v in sample.items() if isinstance(v, torch.Tensor)}
        with fabric.autocast():
            flow = network(tensors["fixed"], tensors["moving"]).flow
        row = {"alike": float(alikeness(tensors, flow, config.losses))}
        i, j, k = flow.shape[2:]
        field = DenseField(flow[0], Grid((i, j, k), np.eye(4)))
        row["ndv"] = 100 * float(nondiffeomorphic_volume(field).mean())
        if "fixed_labels" in tensors and "moving_labels" in tensors:
            at = voxel_coordinates((i, j, k), flow.device) + flow
            warped = interpolator(tensors["moving_labels"], "nearest")(at)[0].cpu().numpy()
            fixed = tensors["fixed_labels"][0].cpu().numpy()
            row["dice"] = float(np.mean(list(dice(fixed, warped).values()) or [0.0]))
            row["hd95"] = float(
                np.mean(list(hd95(fixed, warped, tensors["spacing"][0].tolist()).values()) or [math.inf])
            )
        rows.append(row)
    means = {name: float(np.mean([row[name] for row in rows if name in row])) for name in rows[0]}
    return means | {"score": means.get("dice", means["alike"]) - 0.1 * means["ndv"]}
