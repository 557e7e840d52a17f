"""Validation of a network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from maxca.datasets.prepared import PreparedScan
from maxca.engine.comparison import similarity_of
from maxca.engine.volume import Volume
from maxca.geometry.grid import Grid
from maxca.geometry.jacobian import nondiffeomorphic_volume
from maxca.geometry.transforms import Chain, DenseField
from maxca.geometry.warp import interpolator, voxel_coordinates
from maxca.metrics import common_labels, dice, label_scores
from maxca.models.distribution import TrainingDistribution, describe, learn_distribution
from maxca.models.domain import Domain
from maxca.models.load import COMPARED_MM, gain
from maxca.training.config import TrainingConfig
from maxca.training.loader import Pairs, Sample, Scans
from maxca.training.objective import mean_similarity

SPLIT = "val"
SPARE = 1 / 6
DESCRIBED = 200  # most training scans whose descriptors are stored in a model


class Validation:
    """Measures a network on evenly spaced validation pairs.

    Scans are read once per run, including the training scans, whose extents and descriptors are stored in the model.

    Args:
        config: of the run.
        scans: prepared scans, shared with the training.
    """

    def __init__(self, config: TrainingConfig, scans: Scans) -> None:
        self.config, self.scans = config, scans
        self.pairs = Pairs(scans, SPLIT, shape=config.shape)
        count = min(config.validation_pairs, len(self.pairs))
        self.numbers = np.linspace(0, len(self.pairs) - 1, count).round().astype(int).tolist() if count else []

    @torch.no_grad()
    def __call__(self, network: nn.Module, fabric: Fabric) -> dict[str, float]:
        """Means over the pairs; see ``LOG_COLUMNS`` in ``training.run``. Empty without pairs.

        ``gain`` (see ``models.load``) is not a mean but the value reached by nine of ten pairs.
        """
        if not self.numbers:
            return {}
        network.eval()
        rows = [self._row(network, self.pairs[number], fabric) for number in self.numbers]
        means = {name: float(np.mean([row[name] for row in rows if name in row])) for name in rows[0]}
        means["gain"] = float(np.quantile([row["gain"] for row in rows], 0.1))
        return means | {"score": means.get("dice", means["alike"]) - 0.1 * means["ndv"]}

    def _row(self, network: nn.Module, sample: Sample, fabric: Fabric) -> dict[str, float]:
        tensors = {k: fabric.to_device(v.unsqueeze(0)) for k, v in sample.items() if isinstance(v, torch.Tensor)}
        with fabric.autocast():
            flow = network(tensors["fixed"], tensors["moving"]).flow
        row = {"alike": float(mean_similarity(tensors, flow, self.config.losses))}
        i, j, k = flow.shape[2:]
        field = DenseField(flow[0], Grid((i, j, k), np.eye(4)))
        row["ndv"] = 100 * float(nondiffeomorphic_volume(field).mean())
        row["gain"] = gain(_similarity(tensors, field, self.config))
        if "fixed_labels" in tensors and "moving_labels" in tensors:
            at = voxel_coordinates((i, j, k), flow.device) + flow
            warped = interpolator(tensors["moving_labels"], "nearest")(at)[0].cpu().numpy()
            fixed, moving = (tensors[f"{side}_labels"][0].cpu().numpy() for side in ("fixed", "moving"))
            names = common_labels(fixed, moving)
            scores = label_scores(fixed, warped, tensors["spacing"][0].tolist(), names)
            row["dice_before"] = float(np.mean(list(dice(fixed, moving, names).values()) or [0.0]))
            row["dice"] = float(np.mean(list(scores.dice.values()) or [0.0]))
            row["hd95"] = float(np.mean(list(scores.hd95.values()) or [math.inf]))
        return row

    def known(self, network: nn.Module, gained: float) -> tuple[Domain, TrainingDistribution | None]:
        """Properties of the training data stored in a model: its domain, and the distribution of its training images.

        Args:
            network: the trained network.
            gained: ``gain`` of the validation; half of it is required on a pair.
        """
        training = [scan for scan in self.scans.data.scans if scan.split == "train"]
        return self._domain(training, gained), self._distribution(network, training)

    def _domain(self, training: Sequence[PreparedScan], gained: float) -> Domain:
        """Extents may differ from those of the training scans by a sixth."""
        if not training:  # a recipe of synthetic images
            training = self.scans.data.scans
        extents = [np.array(self.scans(scan).image.shape) * scan.spacing for scan in training]
        return Domain(with_spare(extents), self.config.losses.similarity, round(gained / 2, 4))

    def _distribution(self, network: nn.Module, training: Sequence[PreparedScan]) -> TrainingDistribution | None:
        """Descriptors of some training scans; None for a network without an encoder."""
        device = next(network.parameters()).device
        chosen = training[:: max(1, len(training) // DESCRIBED)]
        found = [describe(network, self.scans(scan).image.to(device).float() / 255) for scan in chosen]
        descriptors = [one for one in found if one is not None]
        return learn_distribution(descriptors) if descriptors else None


def with_spare(extents: Sequence[np.ndarray]) -> tuple[tuple[float, float], ...]:
    """Smallest and largest of extents (3,) in mm along each axis, and a sixth more on both sides, three digits."""
    least, most = np.min(extents, axis=0) / (1 + SPARE), np.max(extents, axis=0) * (1 + SPARE)
    return tuple((float(f"{a:.3g}"), float(f"{b:.3g}")) for a, b in zip(least, most, strict=True))


def _similarity(tensors: Mapping[str, Tensor], flow: DenseField, config: TrainingConfig) -> dict[str, float]:
    spacing = tensors["spacing"][0].tolist()
    grid = Grid(flow.grid.shape, np.diag([*spacing, 1.0]))
    mm = flow.displacement * flow.displacement.new_tensor(spacing).view(3, 1, 1, 1)
    fixed, moving = (Volume(tensors[name][0, 0].float(), grid) for name in ("fixed", "moving"))
    chains = {"affine": Chain(), "network": Chain((DenseField(mm, grid),))}
    return similarity_of(fixed, moving, config.losses.similarity, chains, COMPARED_MM)
