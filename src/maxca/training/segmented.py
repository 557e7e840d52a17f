"""Validation of a segmentation network: Dice of its labels, its confidence, and the calibration of its overlap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from maxca.datasets.prepared import PreparedScan
from maxca.geometry import Affine, Chain
from maxca.metrics import common_labels, dice
from maxca.models.guide import SegmentedPair
from maxca.models.segmentation import CoarseSegmentation, Segmenter
from maxca.training.labelled import volume_of
from maxca.training.loader import Scans
from maxca.training.validation import SPARE, SPLIT

IDENTITY = (0.0, 1.0)
T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """The result of a validation.

    Args:
        row: for the log; empty without validation scans.
        dice: of each label, mean over the scans in which it occurs.
        least_confidence: of an image of the model's domain: 1 minus it may exceed that of the validation scans by a
            sixth.
        calibration: see ``Segmenter``.
    """

    row: dict[str, float]
    dice: dict[int, float]
    least_confidence: float = 0.0
    calibration: tuple[float, float] = IDENTITY


class SegmentationValidation:
    """Measures a segmentation network on evenly spaced validation scans with labels.

    Args:
        scans: prepared scans, shared with the training.
        most: number of scans, and of the pairs for the calibration.
    """

    def __init__(self, scans: Scans, most: int) -> None:
        self.scans, self.most = scans, most
        held_out = sorted((s for s in scans.data.scans if s.split == SPLIT), key=lambda scan: scan.name)
        labelled = [scan for scan in held_out if scans(scan).labels is not None]
        self.chosen = _spread(labelled, most)

    @torch.no_grad()
    def __call__(self, segmenter: Segmenter, device: torch.device) -> Measured:
        """Segment the scans.

        Args:
            segmenter: with its network on the device.
            device: of the network.
        """
        if not self.chosen:
            return Measured({}, {})
        each: list[dict[int, float]] = []
        coarse: dict[str, CoarseSegmentation] = {}
        for scan in self.chosen:
            volume = volume_of(self.scans, scan, device)
            found = segmenter(volume)
            coarse[scan.name] = segmenter.coarse(found)
            labels = Chain().resample(segmenter.labels(found)[None].int(), found.grid, volume.grid, "nearest")[0]
            reference = self._labels(scan)
            present = [n for n in np.unique(reference).tolist() if n and n in segmenter.names]
            each.append(dice(reference, labels.cpu().numpy(), present))
        found_in = {n: [row[n] for row in each if n in row] for n in segmenter.names}
        scores = {n: float(np.mean(values)) for n, values in found_in.items() if values}
        least = min(one.confidence for one in coarse.values())
        means = [float(np.mean(list(row.values()))) for row in each if row]
        mean = float(np.mean(means)) if means else 0.0
        row = {"dice": mean, "confidence": least, "score": mean}
        bound = max(0.0, 1 - (1 + SPARE) * (1 - least))
        return Measured(row, scores, round(bound, 4), self._calibration(segmenter, coarse))

    def _labels(self, scan: PreparedScan) -> np.ndarray:
        labels = self.scans(scan).labels
        assert labels is not None
        return labels.numpy()

    def _calibration(self, segmenter: Segmenter, coarse: dict[str, CoarseSegmentation]) -> tuple[float, float]:
        """A line through the origin from the overlap of two segmentations to the Dice of the reference labels.

        Each label of each pair of scans is a point, at the position of the scans in the prepared data.
        """
        model = replace(segmenter, calibration=IDENTITY)
        points = []
        pairs = replace(self.scans.data, scans=tuple(self.chosen)).pairs(SPLIT)
        for fixed, moving in _spread(pairs, self.most):
            chain = _between(fixed, moving)
            overlap = SegmentedPair(model, coarse[fixed.name], coarse[moving.name]).overlap(chain)
            a, b = self._labels(fixed), self._labels(moving)
            there, here = (volume_of(self.scans, scan).grid for scan in (moving, fixed))
            warped = chain.resample(torch.as_tensor(b)[None], there, here, "nearest")[0].numpy()
            points += [(overlap[n], score) for n, score in dice(a, warped, common_labels(a, b)).items() if n in overlap]
        predicted, true = np.array(points).reshape(-1, 2).T
        if not predicted @ predicted > 0:
            return IDENTITY
        return 0.0, round(float(predicted @ true / (predicted @ predicted)), 3)


def _between(fixed: PreparedScan, moving: PreparedScan) -> Chain:
    """From the fixed to the moving image of ``volume_of``, by the position of both in the common world."""
    to_fixed, to_moving = (np.diag([*s.spacing, 1.0]) @ np.array(s.to_voxel) for s in (fixed, moving))
    return Chain((Affine(to_moving @ np.linalg.inv(to_fixed)),))


def _spread(items: list[T], most: int) -> list[T]:
    """Some of the items, at most ``most``, evenly spaced."""
    count = min(most, len(items))
    return [items[n] for n in np.linspace(0, len(items) - 1, count).round().astype(int)] if count else []
