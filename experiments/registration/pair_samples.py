"""Random samples of packed pairs on a device: augmentation, interpolation and padding for a batch at once."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from maxca.geometry.warp import sample_unit, unit_coordinates
from maxca.networks import FlowOptions
from maxca.training.variation import smooth_field, uniform

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Task:
    """Data, network and augmentation of a task.

    Args:
        shape: voxels of the training images; 0 for all.
        labels: their number.
        flow: of the network.
        window: of local NCC, voxels along each axis.
        flips: axes that are mirrored at random, for the pair.
        turn, zoom: of the pair around the third axis, degrees, and relative.
        rotate, scale, shift: of each image, degrees, relative and mm.
        apart: distance of the nodes of elastic deformations, voxels.
        elastic: largest standard deviation at the nodes for the pair, and for each image, voxels.
    """

    shape: Triple
    labels: int
    flow: FlowOptions
    window: Triple
    flips: tuple[int, ...]
    turn: float
    zoom: float
    rotate: float
    scale: float
    shift: float
    apart: Triple
    elastic: tuple[float, float]


TASKS = {
    "hearts": Task(
        shape=(112, 112, 0),
        labels=3,
        flow=FlowOptions(finest=1, velocity=True, flat=2),
        window=(7, 7, 3),
        flips=(0, 1),
        turn=180.0,
        zoom=0.2,
        rotate=3.0,
        scale=0.05,
        shift=2.0,
        apart=(16, 16, 4),
        elastic=(2.5, 0.8),
    ),
    "hippocampi": Task(
        shape=(40, 56, 40),
        labels=2,
        flow=FlowOptions(finest=1, velocity=True),
        window=(7, 7, 7),
        flips=(0,),
        turn=0.0,
        zoom=0.0,
        rotate=8.0,
        scale=0.08,
        shift=1.5,
        apart=(10, 10, 10),
        elastic=(1.5, 0.5),
    ),
}


class Scans:
    """All scans of a split on the device, padded at the end of each axis to a common shape.

    Args:
        arrays: of pack_pairs.py.
        split: ``"train"`` or ``"val"``.
        device: for the voxels.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], split: str, device: torch.device) -> None:
        stems = sorted(k.removesuffix("/image") for k in arrays if k.startswith(split + "/") and k.endswith("/image"))
        self.subjects = [stem.split("/")[1] for stem in stems]
        self.sizes = [arrays[f"{stem}/image"].shape for stem in stems]
        whole = np.max(self.sizes, axis=0)

        def stacked(what: str) -> Tensor:
            padded = [np.pad(arrays[f"{s}/{what}"], [(0, w - n) for w, n in zip(whole, size, strict=True)])
                      for s, size in zip(stems, self.sizes, strict=True)]  # fmt: skip
            return torch.from_numpy(np.stack(padded)[:, None]).to(device)

        self.images, self.labels = stacked("image"), stacked("labels")
        self.to_voxel = np.stack([arrays[f"{s}/to_voxel"] for s in stems])
        self.spacing = np.stack([arrays[f"{s}/spacing"] for s in stems])
        self.middles = [
            np.argwhere(arrays[f"{s}/labels"] > 0).mean(axis=0) if arrays[f"{s}/labels"].any() else np.array(n) / 2
            for s, n in zip(stems, self.sizes, strict=True)
        ]
        same = str(arrays["kind"]) == "intra"
        numbers = range(len(stems))
        self.pairs = [
            (a, b) for a in numbers for b in numbers if a != b and (self.subjects[a] == self.subjects[b]) == same
        ]

    def across(self, fixed: int, moving: int) -> np.ndarray:
        """(4, 4) from the voxels of one scan to those of another."""
        return self.to_voxel[moving] @ np.linalg.inv(self.to_voxel[fixed])


Batch = dict[str, Tensor]


class Samples:
    """Random samples on the device.

    Args:
        scans: to draw from.
        task: their augmentation.
        seed: of the order and the augmentation.
    """

    def __init__(self, scans: Scans, task: Task, seed: int) -> None:
        self.scans, self.task = scans, task
        self.host = np.random.default_rng(seed)
        self.random = torch.Generator(scans.images.device).manual_seed(seed)
        self.alike: dict[int, list[tuple[int, int]]] = defaultdict(list)  # pairs by the slices of a batch
        for pair in scans.pairs:
            self.alike[self.slices(pair)].append(pair)

    def slices(self, pair: tuple[int, int]) -> int:
        """Voxels along the third axis of the sample of a pair."""
        slices = int(self.scans.sizes[pair[0]][2])
        return self.task.shape[2] or slices + slices % 2  # as a network with halvings pads them

    def draw(self, batch: int) -> Batch:
        """A batch with augmentation."""
        slices = self.slices(self.scans.pairs[self.host.integers(len(self.scans.pairs))])
        group = self.alike[slices]
        pairs = [group[n] for n in self.host.integers(len(group), size=batch)]
        return self.sampled(pairs, slices, augmented=True)

    def sampled(self, pairs: list[tuple[int, int]], slices: int, *, augmented: bool) -> Batch:
        """Images (N, 1, I, J, K) in [0, 1] and labels (N, I, J, K) of pairs, on one grid, interpolated once."""
        task, scans, device = self.task, self.scans, self.scans.images.device
        shape = (task.shape[0], task.shape[1], slices)
        where = np.stack([self._where(fixed, shape, augmented) for fixed, _ in pairs])
        axes = [torch.arange(n, device=device, dtype=torch.float32) for n in shape]
        at = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
        still = torch.zeros((), device=device)
        shared = self._elastic(len(pairs), shape, task.elastic[0]) if augmented else still
        batch: Batch = {"spacing": torch.from_numpy(scans.spacing[[f for f, _ in pairs]]).float().to(device)}
        for side, name in enumerate(("fixed", "moving")):
            chosen = [pair[side] for pair in pairs]
            across = np.stack([scans.across(*p) if side else np.eye(4) for p in pairs])
            matrix, own = across @ where, still
            if augmented:
                matrix = matrix @ np.stack([self._moved(scans.spacing[f], shape) for f, _ in pairs])
                own = self._elastic(len(pairs), shape, task.elastic[1])
            points = (at + shared + own).expand(len(pairs), -1, -1, -1, -1).flatten(2)
            linear = torch.from_numpy(matrix[:, :3]).float().to(device)
            index = (linear[:, :, :3] @ points + linear[:, :, 3:]).view(len(pairs), 3, *shape)
            index_of = torch.as_tensor(chosen, device=device)
            unit = unit_coordinates(index, tuple(scans.images.shape[2:]))
            image = sample_unit(scans.images[index_of].float() / 255, unit, padding="zeros")
            labels = sample_unit(scans.labels[index_of].float(), unit, nearest=True, padding="zeros")
            batch[name] = self._repainted(image) if augmented else image
            batch[f"{name}_labels"] = labels[:, 0].round().long()
        return batch

    def _where(self, scan: int, shape: Triple, augmented: bool) -> np.ndarray:
        """(4, 4) from the grid of the sample to the voxels of the fixed scan."""
        task, random, scans = self.task, self.host, self.scans
        out = (np.array(shape) - 1) / 2
        size = np.array(scans.sizes[scan])
        middle = np.floor(np.where(size > shape, scans.middles[scan], (size - 1) / 2) - out) + out  # on voxels
        linear = np.eye(3)
        if augmented:
            middle = middle + np.where(size > shape, random.uniform(-1 / 8, 1 / 8, 3) * shape, 0)
            angle, zoom = math.radians(random.uniform(-task.turn, task.turn)), 1 + random.uniform(-task.zoom, task.zoom)
            c, s = math.cos(angle) * zoom, math.sin(angle) * zoom
            linear[:2, :2] = [[c, -s], [s, c]]
            for axis in task.flips:
                linear[:, axis] *= random.choice((-1, 1))
        return np.vstack([np.c_[linear, middle - linear @ out], [0, 0, 0, 1]])

    def _moved(self, spacing: np.ndarray, shape: Triple) -> np.ndarray:
        """(4, 4) on voxels: a small rotation, scaling and translation of one image."""
        task, random = self.task, self.host
        turn = Rotation.from_euler("xyz", random.uniform(-task.rotate, task.rotate, 3), degrees=True).as_matrix()
        scaled = np.diag(spacing * (1 + random.uniform(-task.scale, task.scale, 3)))
        linear = np.diag(1 / spacing) @ turn @ scaled
        middle = (np.array(shape) - 1) / 2
        offset = middle - linear @ middle + random.uniform(-task.shift, task.shift, 3) / spacing
        return np.vstack([np.c_[linear, offset], [0, 0, 0, 1]])

    def _elastic(self, batch: int, shape: Triple, most: float) -> Tensor:
        """(N, 3, I, J, K) a smooth displacement in voxels; none across thick slices."""
        field = smooth_field(batch, 3, shape, self.task.apart, self.random) * uniform(batch, 0, most, self.random)
        return field * field.new_tensor([n == self.task.apart[0] for n in self.task.apart]).view(1, 3, 1, 1, 1)

    def _repainted(self, images: Tensor) -> Tensor:
        """Images with other contrast, bias and noise."""
        n, random = len(images), self.random
        x = images.clamp(0, 1) ** torch.exp(uniform(n, -0.25, 0.25, random))
        bias = smooth_field(n, 1, x.shape[2:], [max(x.shape) / 3] * 3, random)
        x = x * torch.exp(bias * uniform(n, 0, 0.2, random))
        noise = torch.randn(x.shape, device=x.device, generator=random)
        return (x + noise * uniform(n, 0, 0.03, random)).clamp(0, 1)


def warped_dice(flow: Tensor, batch: Batch, labels: int) -> float:
    """Mean Dice over the labels that both images have, warped by nearest neighbour.

    Args:
        flow: (1, 3, I, J, K), voxels.
        batch: one pair.
        labels: their number.
    """
    shape = tuple(flow.shape[2:])
    axes = [torch.arange(n, device=flow.device, dtype=torch.float32) for n in shape]
    at = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None] + flow
    moving = batch["moving_labels"][:, None].float()
    warped = sample_unit(moving, unit_coordinates(at, shape), nearest=True, padding="zeros")[:, 0]
    found = []
    for label in range(1, 1 + labels):
        a, b = batch["fixed_labels"] == label, warped == label
        if a.any() and (batch["moving_labels"] == label).any():
            found.append(2 * float((a & b).sum()) / float(a.sum() + b.sum()))
    return float(np.mean(found))
