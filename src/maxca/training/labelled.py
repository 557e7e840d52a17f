"""Labelled scans as training samples of a segmentation network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from maxca.datasets.prepared import PreparedScan
from maxca.engine.volume import Volume, content_box, margin_of
from maxca.geometry import Grid
from maxca.geometry.grid import triple
from maxca.models.segmentation import MARGIN_MM
from maxca.training.loader import Sample, Scans

AT_LABELS = 2 / 3  # of the crops contain a voxel of a random label


class LabelledScan(NamedTuple):
    """The content of a scan, as the trained model crops it: image (I, J, K) uint8, and class indices, int16."""

    image: Tensor
    classes: Tensor


class LabelledScans(Dataset[Sample]):
    """Samples by number, before augmentation: it takes place on the device of the training, see ``training.variation``.

    Args:
        scans: with the voxels.
        chosen: those with labels to train on.
        numbers: of all their labels in ascending order, which is that of the classes.
        seed: of order and augmentation.
    """

    def __init__(self, scans: Scans, chosen: Sequence[PreparedScan], numbers: Sequence[int], seed: int) -> None:
        self.chosen, self.seed = chosen, seed
        self.contents = [_content(scans, scan, numbers) for scan in chosen]
        self.crop: tuple[int, ...] | None = None  # None: all of a scan

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, number: int) -> Sample:
        """``image`` (1, I, J, K) uint8, ``classes`` (1, I, J, K) int16, ``name``, and how it is to be augmented.

        ``centre`` (3,) is the voxel at the centre of the training image, ``seed`` () that of the augmentation.
        """
        random = np.random.default_rng((self.seed, number))
        index = int(random.integers(len(self.chosen)))
        image, classes = self.contents[index]
        return {
            "name": self.chosen[index].name,
            "image": image.unsqueeze(0),
            "classes": classes.unsqueeze(0),
            "centre": torch.tensor(self._centre(classes, random), dtype=torch.float32),
            "seed": torch.tensor(int(random.integers(2**32))),
        }

    def _centre(self, classes: Tensor, random: np.random.Generator) -> list[float]:
        """The middle of a scan, or of a random part along axes where the crop is smaller."""
        size = classes.shape
        crop = self.crop or size
        if all(n <= m for n, m in zip(size, crop, strict=True)):
            return [(n - 1) / 2 for n in size]
        at = [random.uniform(0, n - 1) for n in size]
        present = [name for name in classes.unique().tolist() if name]
        if present and random.random() < AT_LABELS:
            voxels = torch.nonzero(classes == present[int(random.integers(len(present)))])
            at = voxels[int(random.integers(len(voxels)))].tolist()
        return [
            (n - 1) / 2 if n <= m else float(np.clip(x, (m - 1) / 2, n - 1 - (m - 1) / 2))
            for x, n, m in zip(at, size, crop, strict=True)
        ]


def _content(scans: Scans, scan: PreparedScan, numbers: Sequence[int]) -> LabelledScan:
    voxels = scans(scan)
    assert voxels.labels is not None
    low, high = content_box(volume_of(scans, scan), MARGIN_MM)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    classes = np.searchsorted(numbers, voxels.labels[box].numpy()).astype(np.int16)
    return LabelledScan(voxels.image[box], torch.as_tensor(classes))


def volume_of(scans: Scans, scan: PreparedScan, device: torch.device | None = None) -> Volume:
    """A prepared scan as an image with axes right, anterior, superior; its first voxel is the origin."""
    image = scans(scan).image.to(device)
    return Volume(image.float() / 255, Grid(triple(image.shape), np.diag([*scan.spacing, 1.0])))


def extent_of(volume: Volume) -> np.ndarray:
    """(3,) mm: the extent of the content of an image, as the domain of a model counts it."""
    low, high = content_box(volume, margin_of(volume.grid))
    return (np.array(high) - low) * volume.grid.spacing
