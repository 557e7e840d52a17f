"""Training pairs in an order that depends on the seed and the number of a sample alone.

Sample n is a pure function of (seed, n): which pair, and how it is varied. An interrupted run goes on where it was, and
several processes share the samples of a step as one would take them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from maxca.data.augment import Augmentation, augmented
from maxca.data.prepared import Prepared, PreparedScan, Voxels
from maxca.data.synth import Synth, synthetic_pair

Sample = dict[str, Tensor | str]


class Pairs(Dataset[Sample]):
    """Samples by number.

    Args:
        data: prepared scans.
        split: whose pairs.
        augmentation: how they vary, or None: sample n is then the n-th pair as it is.
        seed: decides order and variation.
        shape: cut or widen images around their middle to this; None keeps an axis.
    """

    def __init__(
        self,
        data: Prepared,
        split: str,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        shape: tuple[int | None, int | None, int | None] = (None, None, None),
    ) -> None:
        self.data = data
        self.pairs = data.pairs(split)
        self.augmentation = augmentation
        self.seed = seed
        self.shape = shape
        self._kept: dict[str, Voxels] = {}  # a scan takes part in many pairs; as bytes, a data set fits in memory

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> Sample:
        """``fixed``, ``moving`` (1, I, J, K), perhaps ``*_labels`` (I, J, K) int16; ``spacing`` (3,) and ``name``."""
        fixed, moving = self.pairs[number % len(self.pairs)]
        variation = 0
        if self.augmentation is not None:
            random = np.random.default_rng((self.seed, number))
            fixed, moving = self.pairs[random.integers(len(self.pairs))]
            variation = int(random.integers(2**32))
        sides = {"fixed": self._load(fixed), "moving": self._load(moving)}
        pieces = {name: voxels.image.float() / 255 for name, voxels in sides.items()}
        pieces |= {f"{name}_labels": v.labels.float() for name, v in sides.items() if v.labels is not None}
        if self.augmentation is not None:
            pieces = augmented(pieces, self.augmentation, variation)
        sample: Sample = {"name": f"{fixed.name} and {moving.name}", "spacing": torch.tensor(fixed.spacing)}
        for name, tensor in pieces.items():
            tensor = fitted(tensor, self.shape)
            sample[name] = tensor.round().short() if name.endswith("_labels") else tensor.unsqueeze(0)
        return sample

    def _load(self, scan: PreparedScan) -> Voxels:
        if scan.name not in self._kept:
            self._kept[scan.name] = self.data.load(scan)
        return self._kept[scan.name]


class MadeUp(Dataset[Sample]):
    """Pairs of images that were never scanned, by number.

    Args:
        data: prepared scans, some of whose label maps are painted; none are needed.
        how: the recipe.
        seed: decides everything.
    """

    def __init__(self, data: Prepared, how: Synth, seed: int = 0) -> None:
        self.data = data
        self.how = how
        self.seed = seed
        self.scans = [scan for scan in data.scans if scan.split == "train"]

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, number: int) -> Sample:
        """As in ``Pairs``, always with labels."""
        random = np.random.default_rng((self.seed, number))
        labels, name, spacing = None, f"made up {number}", (1.0, 1.0, 1.0)
        if self.scans and random.random() < self.how.real:
            scan = self.scans[random.integers(len(self.scans))]
            held = self.data.load(scan).labels
            if held is not None:
                labels, name, spacing = held.float(), f"{name} from {scan.name}", scan.spacing
        pieces = synthetic_pair(self.how, int(random.integers(2**32)), labels)
        sample: Sample = {"name": name, "spacing": torch.tensor(spacing)}
        for key, tensor in pieces.items():
            sample[key] = tensor.round().short() if key.endswith("_labels") else tensor.unsqueeze(0)
        return sample


def batches(pairs: Dataset[Sample], numbers: Iterable[int], batch: int, workers: int, pin: bool) -> Iterator[Sample]:
    """Batches of the samples with these numbers, in this order."""
    loader: DataLoader[Sample] = DataLoader(
        pairs,
        batch_size=batch,
        sampler=list(numbers),
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=False,
        worker_init_fn=_one_thread if workers else None,
        multiprocessing_context="spawn" if workers else None,
    )
    return iter(loader)


def fitted(volume: Tensor, shape: tuple[int | None, int | None, int | None]) -> Tensor:
    """A volume (I, J, K) cut or filled up with zeros around its middle."""
    for axis, wanted in enumerate(shape):
        count = volume.shape[axis]
        if wanted is None or wanted == count:
            continue
        if wanted < count:
            volume = volume.narrow(axis, (count - wanted) // 2, wanted)
        else:
            before = (wanted - count) // 2
            sizes = [list(volume.shape), list(volume.shape)]
            sizes[0][axis], sizes[1][axis] = before, wanted - count - before
            volume = torch.cat([volume.new_zeros(sizes[0]), volume, volume.new_zeros(sizes[1])], dim=axis)
    return volume


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
