"""Training pairs in an order that depends on the seed and the index of a sample only.

Sample n, its pair and its augmentation, is a pure function of (seed, n). An interrupted run can be resumed, and several
processes draw the same samples as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from maxca.datasets.prepared import Prepared, PreparedScan, Voxels
from maxca.geometry.warp import interpolator, transform_coordinates, voxel_coordinates
from maxca.models.focus import focus
from maxca.training.augmentation import STILL, Augmentation, mirrored, moved, repainted, turned, warped
from maxca.training.synthesis import Synth, synthetic_pair

Sample = dict[str, Tensor | str | list[str]]


ASIDE = 1 / 8  # of a crop: largest distance of its centre from that of the labels


class Scans:
    """Prepared scans, each read once: as bytes, a data set fits in memory."""

    def __init__(self, data: Prepared) -> None:
        self.data = data
        self._kept: dict[str, Voxels] = {}

    def __call__(self, scan: PreparedScan) -> Voxels:
        """The voxels of a scan."""
        if scan.name not in self._kept:
            self._kept[scan.name] = self.data.load(scan)
        return self._kept[scan.name]


class Pairs(Dataset[Sample]):
    """Samples by index.

    Args:
        scans: with the voxels.
        split: of the pairs.
        augmentation: of the pairs; without it, sample n is the n-th pair.
        seed: of order and augmentation.
        shape: crop or pad images to this shape; None keeps an axis. With augmentation, crops are centred near the
            labels, if available; otherwise they are placed as in a registration: see ``focus``.
    """

    def __init__(
        self,
        scans: Scans,
        split: str,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        shape: tuple[int | None, int | None, int | None] = (None, None, None),
    ) -> None:
        self._load = scans
        self.pairs = scans.data.pairs(split)
        self.augmentation = augmentation
        self.seed = seed
        self.shape = shape
        self._middles: dict[str, list[float]] = {}  # of labels, in voxels

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> Sample:
        """``fixed``, ``moving`` (1, I, J, K), optionally ``*_labels`` (I, J, K) int16; ``spacing`` (3,) and ``name``.

        Each image is interpolated once, on the grid of the fixed one, through all transforms.
        """
        how = self.augmentation or STILL
        random = np.random.default_rng((self.seed, number))
        pair = number % len(self.pairs) if self.augmentation is None else random.integers(len(self.pairs))
        fixed, moving = self.pairs[pair]
        size = self._load(fixed).image.shape
        i, j, k = (n if wanted is None else wanted for n, wanted in zip(size, self.shape, strict=True))
        shape = (i, j, k)
        across = np.array(moving.to_voxel) @ np.linalg.inv(np.array(fixed.to_voxel))
        where = np.eye(4)
        where[:3, 3] = self._corner(fixed, moving, across, shape, random)
        where = where @ mirrored(how, shape, random) @ turned(how, fixed.spacing, shape, random)
        sample: Sample = {"name": f"{fixed.name} and {moving.name}", "spacing": torch.tensor(fixed.spacing)}
        for name, scan, matrix in (("fixed", fixed, where), ("moving", moving, across @ where)):
            voxels = self._load(scan)
            at = voxel_coordinates(shape)
            bend = warped(how, shape, random)
            at = transform_coordinates(
                matrix @ moved(how, fixed.spacing, shape, random), at if bend is None else at + bend
            )
            image = interpolator(voxels.image.unsqueeze(0).float() / 255, "linear")(at)[0]
            sample[name] = repainted(image, how, int(random.integers(2**32))).unsqueeze(0)
            if voxels.labels is not None:
                sample[f"{name}_labels"] = interpolator(voxels.labels.unsqueeze(0), "nearest")(at)[0]
        return sample

    def _corner(
        self,
        scan: PreparedScan,
        moving: PreparedScan,
        across: np.ndarray,
        shape: tuple[int, int, int],
        random: np.random.Generator,
    ) -> list[int]:
        """The first voxel of a crop of this shape in a scan."""
        voxels = self._load(scan)
        size = voxels.image.shape
        corner = [(n - m) // 2 for n, m in zip(size, shape, strict=True)]
        if all(n <= m for n, m in zip(size, shape, strict=True)):
            return corner
        if self.augmentation is None:
            at = transform_coordinates(across, voxel_coordinates(size))
            other = interpolator(self._load(moving).image.unsqueeze(0).float(), "linear")(at)[0]
            low, _ = focus(voxels.image.float(), other, shape)
            return [a if n > m else middle for a, n, m, middle in zip(low, size, shape, corner, strict=True)]
        if voxels.labels is None:
            return corner
        if scan.name not in self._middles:
            found = torch.nonzero(voxels.labels).double()
            self._middles[scan.name] = found.mean(dim=0).tolist() if len(found) else [n / 2 for n in size]
        for axis, (n, m, middle) in enumerate(zip(size, shape, self._middles[scan.name], strict=True)):
            if n > m:
                off = random.uniform(-ASIDE, ASIDE) * m
                corner[axis] = int(np.clip(round(middle - m / 2 + off), 0, n - m))
        return corner


class SyntheticPairs(Dataset[Sample]):
    """Pairs of synthetic images, by index.

    Args:
        scans: with label maps to render; may be empty.
        how: the settings.
        seed: of the images.
    """

    def __init__(self, scans: Scans, how: Synth, seed: int = 0) -> None:
        self.how = how
        self.seed = seed
        self.pairs = Pairs(scans, "train", seed=seed)

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, number: int) -> Sample:
        """As in ``Pairs``, always with labels."""
        random = np.random.default_rng((self.seed, number))
        labels, name, spacing = None, f"synthetic pair {number}", torch.ones(3)
        if len(self.pairs) and random.random() < self.how.real:
            real = self.pairs[int(random.integers(len(self.pairs)))]
            fixed, moving = real.get("fixed_labels"), real.get("moving_labels")
            if isinstance(fixed, Tensor) and isinstance(moving, Tensor) and isinstance(real["spacing"], Tensor):
                # Maps of two subjects, or one map twice, for which the deformation is entirely synthetic.
                both = (fixed.float(), (moving if random.random() < 0.5 else fixed).float())
                labels, name, spacing = both, f"{name} from {real['name']}", real["spacing"]
        pieces = synthetic_pair(self.how, int(random.integers(2**32)), labels)
        sample: Sample = {"name": name, "spacing": spacing}
        for key, tensor in pieces.items():
            sample[key] = tensor.round().short() if key.endswith("_labels") else tensor.unsqueeze(0)
        return sample


def batches(pairs: Dataset[Sample], numbers: Iterable[int], batch: int, workers: int, pin: bool) -> Iterator[Sample]:
    """Batches of the samples with these indices, in this order; see ``stacked``."""
    loader: DataLoader[Sample] = DataLoader(
        pairs,
        batch_size=batch,
        sampler=list(numbers),
        num_workers=workers,
        collate_fn=stacked,
        pin_memory=pin,
        persistent_workers=False,
        worker_init_fn=_one_thread if workers else None,
        multiprocessing_context="spawn" if workers else None,
    )
    return iter(loader)


def stacked(samples: Sequence[Sample]) -> Sample:
    """One batch; images of different sizes are padded with background at the end of each axis."""
    batch: Sample = {"name": [str(sample["name"]) for sample in samples]}
    common = [set(sample) for sample in samples]
    for key in sorted(set.intersection(*common) - {"name"}):
        tensors = [tensor for sample in samples if isinstance(tensor := sample[key], Tensor)]
        images = tensors[0].ndim >= 3
        batch[key] = torch.stack([_widened(t, tensors) for t in tensors] if images else tensors)
    return batch


def _widened(tensor: Tensor, others: Sequence[Tensor]) -> Tensor:
    i, j, k = (max(other.shape[axis] for other in others) - tensor.shape[axis] for axis in (-3, -2, -1))
    return F.pad(tensor, (0, k, 0, j, 0, i))


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
