"""How good a network is on the validation pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from maxca.datasets.prepared import Prepared
from maxca.engine.comparison import similarity_of
from maxca.engine.volume import Volume
from maxca.geometry.grid import Grid
from maxca.geometry.jacobian import nondiffeomorphic_volume
from maxca.geometry.transforms import Chain, DenseField
from maxca.geometry.warp import interpolator, voxel_coordinates
from maxca.metrics import common_labels, dice, hd95
from maxca.models.distribution import TrainingDistribution, describe, learn_distribution
from maxca.models.domain import Domain
from maxca.models.load import COMPARED_MM, gain
from maxca.training.config import TrainingConfig
from maxca.training.loader import Pairs
from maxca.training.objective import mean_similarity

SPLIT = "val"
SPARE = 1 / 6
DESCRIBED = 200  # training scans at most that a model remembers the looks of


@torch.no_grad()
def validated(network: nn.Module, config: TrainingConfig, data: Prepared, fabric: Fabric) -> dict[str, float]:
    """Means over evenly spaced pairs: ``dice``, ``hd95`` in mm, ``ndv`` in percent, ``alike``, and ``score``.

    Labels are warped by nearest neighbour. The score, by which the best network is chosen, is the Dice, or the
    similarity where there are no labels; minus a tenth of the NDV in percent. ``gain`` (see ``zoo.models``) is not a
    mean but what nine pairs of ten reach.
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
        row = {"alike": float(mean_similarity(tensors, flow, config.losses))}
        i, j, k = flow.shape[2:]
        field = DenseField(flow[0], Grid((i, j, k), np.eye(4)))
        row["ndv"] = 100 * float(nondiffeomorphic_volume(field).mean())
        row["gain"] = gain(_similarity(tensors, field, config))
        if "fixed_labels" in tensors and "moving_labels" in tensors:
            at = voxel_coordinates((i, j, k), flow.device) + flow
            warped = interpolator(tensors["moving_labels"], "nearest")(at)[0].cpu().numpy()
            fixed, moving = (tensors[f"{side}_labels"][0].cpu().numpy() for side in ("fixed", "moving"))
            names = common_labels(fixed, moving)
            row["dice"] = float(np.mean(list(dice(fixed, warped, names).values()) or [0.0]))
            row["hd95"] = float(
                np.mean(list(hd95(fixed, warped, tensors["spacing"][0].tolist()).values()) or [math.inf])
            )
        rows.append(row)
    means = {name: float(np.mean([row[name] for row in rows if name in row])) for name in rows[0]}
    means["gain"] = float(np.quantile([row["gain"] for row in rows], 0.1))
    return means | {"score": means.get("dice", means["alike"]) - 0.1 * means["ndv"]}


def domain(config: TrainingConfig, data: Prepared, gained: float) -> Domain:
    """What a network trained on these scans is for.

    Args:
        config: of the run.
        data: the scans; extents may differ from theirs by a sixth.
        gained: what ``validated`` calls ``gain``; half of it must be reached on a pair.
    """
    extents = np.array([np.array(data.load(s).image.shape) * s.spacing for s in data.scans if s.split == "train"])
    least, most = extents.min(axis=0) / (1 + SPARE), extents.max(axis=0) * (1 + SPARE)
    bounds = tuple((float(a), float(b)) for a, b in np.column_stack([least, most]).round(1))
    return Domain(bounds, config.losses.similarity, round(gained / 2, 4))


def distribution(network: nn.Module, data: Prepared) -> TrainingDistribution | None:
    """What the training scans look like to a network; None where it has no encoder to see with."""
    device = next(network.parameters()).device
    scans = [scan for scan in data.scans if scan.split == "train"]
    chosen = scans[:: max(1, len(scans) // DESCRIBED)]
    found = [describe(network, data.load(scan).image.to(device).float() / 255) for scan in chosen]
    descriptors = [one for one in found if one is not None]
    return learn_distribution(descriptors) if descriptors else None


def _similarity(tensors: Mapping[str, Tensor], flow: DenseField, config: TrainingConfig) -> dict[str, float]:
    spacing = tensors["spacing"][0].tolist()
    grid = Grid(flow.grid.shape, np.diag([*spacing, 1.0]))
    mm = flow.displacement * flow.displacement.new_tensor(spacing).view(3, 1, 1, 1)
    fixed, moving = (Volume(tensors[name][0, 0].float(), grid) for name in ("fixed", "moving"))
    chains = {"affine": Chain(), "network": Chain((DenseField(mm, grid),))}
    return similarity_of(fixed, moving, config.losses.similarity, chains, COMPARED_MM)
