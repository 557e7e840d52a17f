"""The mean intensity of scans in template space, its sharpness, and the overlap of their labels there."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter, minimum_filter
from torch import Tensor

from maxca.engine.volume import foreground, normalise
from maxca.geometry import Affine, Chain, Grid
from maxca.io.images import Image, read
from maxca.metrics import dice
from maxca.registration.labels import labels_of

BRIGHTEST = 1000.0  # intensity of the bright tissue in a template
# Of the scans, that cover a voxel of a template, at least. A mean over all scans fades towards the faces of scans with
# different fields of view; registered to that, they are pulled to the faces, and the template never settles.
SHARED = 0.5
AMOUNT, BLUR = 0.7, 1.0  # of unsharp masking: its weight, and σ in voxels
COMPARED = 200  # most pairs of scans whose labels are compared


@dataclass(frozen=True, eq=False)
class Estimate:
    """A template, as far as it is known.

    Args:
        channels: float32 images on one grid; the first is that of the affine and of sharpness.
        covered: (I, J, K), where enough scans have values.
    """

    channels: tuple[Image, ...]
    covered: Bool[np.ndarray, "i j k"]

    @property
    def grid(self) -> Grid:
        """That of all channels."""
        return self.channels[0].grid

    @property
    def content(self) -> Bool[np.ndarray, "i j k"]:
        """Where shapes are compared."""
        return foreground(self.channels[0].data) & self.covered

    def change(self, other: Estimate) -> float:
        """1 minus the correlation with another one where both have values, the largest of all channels."""
        both = self.covered & other.covered
        pairs = zip(self.channels, other.channels, strict=True)
        return max(1 - float(np.corrcoef(a.data[both], b.data[both])[0, 1]) for a, b in pairs)


def mean_of(
    files: Mapping[str, Sequence[Path]],
    chains: Mapping[str, Chain],
    like: Image,
    *,
    mirror: Affine | None = None,
    sharpen: bool = False,
) -> Estimate:
    """The mean of the scans that cover each voxel.

    Args:
        files: of all channels, by the name of the scan.
        chains: template world points → scan world points, by name.
        like: an image on the grid of the template.
        mirror: average each scan with its mirror image too.
        sharpen: by unsharp masking.
    """
    found, first = [], np.ones(like.grid.shape, bool)
    for channel in range(min(len(each) for each in files.values())):
        images = {name: files[name][channel] for name in chains}
        mean, covered = _mean(images, chains, like.grid, mirror)
        first = covered if channel == 0 else first
        found.append(Image((sharpened(mean) if sharpen else mean).astype(np.float32), like.grid, form=like.form))
    return Estimate(tuple(found), first)


def _mean(
    images: Mapping[str, Path], chains: Mapping[str, Chain], grid: Grid, mirror: Affine | None
) -> tuple[Float[np.ndarray, "i j k"], Bool[np.ndarray, "i j k"]]:
    total, covering = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    for name, path in images.items():
        image = read(path)
        total += warped(image, chains[name], grid).numpy()
        covering += coverage(image, chains[name], grid).numpy()
    if mirror is not None:
        total, covering = symmetrised(total, grid, mirror), symmetrised(covering, grid, mirror)
    covered = covering >= SHARED * len(images)
    return BRIGHTEST * np.where(covered, total / np.maximum(covering, 1e-6), 0), covered


def warped(scan: Image, chain: Chain, grid: Grid) -> Float[Tensor, "i j k"]:
    """A scan in template space, its background 0 and its bright tissue 1."""
    values = normalise(torch.from_numpy(np.ascontiguousarray(scan.data, np.float32)))
    return chain.resample(values[None], scan.grid, grid)[0]


def coverage(scan: Image, chain: Chain, grid: Grid) -> Float[Tensor, "i j k"]:
    """1 where a scan has a value in template space, 0 outside its field of view."""
    return chain.resample(torch.ones(1, *scan.grid.shape), scan.grid, grid)[0]


def sharpened(mean: Float[np.ndarray, "i j k"]) -> Float[np.ndarray, "i j k"]:
    """Unsharp masking, within the range of intensities of the mean."""
    sigma = [BLUR if n > 1 else 0 for n in mean.shape]
    found: np.ndarray = np.clip(mean + AMOUNT * (mean - gaussian_filter(mean, sigma)), mean.min(), mean.max())
    return found


def symmetrised(mean: Float[np.ndarray, "i j k"], grid: Grid, mirror: Affine) -> Float[np.ndarray, "i j k"]:
    """The mean of a volume and its mirror image."""
    other = Chain((mirror,)).resample(torch.from_numpy(mean)[None], grid, grid)[0].numpy()
    found: np.ndarray = (mean + other) / 2
    return found


def sharpness(
    template: Float[np.ndarray, "i j k"], grid: Grid, covered: Bool[np.ndarray, "i j k"] | None = None
) -> float:
    """Mean size of the gradient within the content, per mm, relative to the mean intensity there.

    ``covered`` is where there are scans; the edge of that is not counted.
    """
    content = foreground(template)
    if covered is not None:
        content &= minimum_filter(covered, [3 if n > 1 else 1 for n in covered.shape])
    axes = [axis for axis, n in enumerate(template.shape) if n > 1]
    slopes = [np.gradient(template, grid.spacing[axis], axis=axis) for axis in axes]
    return float(np.sqrt(sum(slope**2 for slope in slopes))[content].mean() / template[content].mean())


class Overlap(NamedTuple):
    """Of the labels of scans in template space.

    Args:
        dice: mean over the pairs of scans with labels in common; None without any.
        pairs: of scans.
        apart: pairs without a label in common, which are not counted.
    """

    dice: float | None
    pairs: int
    apart: int


def overlap(labels: Sequence[Image], chains: Sequence[Chain], grid: Grid) -> Overlap:
    """Mean Dice of the labels of all pairs of scans in template space, by nearest neighbour; of many, a sample.

    Those of a pair are the labels that both scans have before they are warped: one that is moved out of the template
    has a Dice of 0.
    """
    values = [labels_of(image).astype(np.uint64) for image in labels]  # not negative
    present = [frozenset(np.unique(each).tolist()) - {0} for each in values]
    names = np.array(sorted({0}.union(*present)), np.uint64)
    maps = []
    for each, image, chain in zip(values, labels, chains, strict=True):
        numbers = torch.from_numpy(np.searchsorted(names, each).astype(np.int32))
        maps.append(chain.resample(numbers[None], image.grid, grid, "nearest")[0].numpy())
    pairs = list(combinations(range(len(maps)), 2))
    common = {(a, b): present[a] & present[b] for a, b in pairs if present[a] & present[b]}
    compared = list(common) if len(common) <= COMPARED else random.Random(0).sample(list(common), COMPARED)
    scores = []
    for a, b in compared:
        known = np.searchsorted(names, np.array(sorted(common[a, b]), np.uint64))
        scores.append(np.mean(np.nan_to_num(list(dice(maps[a], maps[b], known.tolist()).values()))))
    return Overlap(float(np.mean(scores)) if scores else None, len(pairs), len(pairs) - len(common))
