"""Segmentation models: the labels of an image, and the same labels as vectors that can guide a registration.

Each label is a fixed random unit vector, the background zero; an image of labels is the expected vector at each
voxel. The squared difference of two such images is small where the labels agree, its cost is independent of their
number, and uncertain labels pull less than certain ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from maxca.engine.volume import FAINT, Volume, content_box, crop, margin_of, normalise, resampled
from maxca.geometry import Chain, Grid
from maxca.geometry.grid import triple
from maxca.models.domain import outside_extent
from maxca.models.load import CropShape, Spacing
from maxca.networks.segmentation import SegmentationUNet, folded, unfolded
from maxca.runtime import fast_bfloat16

DIMENSIONS = 16  # of the vectors: the squared distances of 142 labels are from 0.5 to 3.6
MARGIN_MM = 2.0  # around the content of an image
MOST = 30_000_000  # voxels of an image on the grid of the network
BYTES_PER_VOXEL = 250  # of that grid: measured peak of brain-names
CHUNK = 4_000_000  # voxels times classes whose probabilities are held at once
BACKGROUND = "background"


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A prediction for one image.

    Args:
        embeddings: (I/a, J/b, K/c, a·b·c, D) of the network, for an image folded by a, b, c.
        inside: the same shape without D: the content of the image.
        grid: of the image, (I, J, K).
        image: the input of the network.
    """

    embeddings: Float[Tensor, "i j k parts d"]
    inside: Tensor
    grid: Grid
    image: Float[Tensor, "1 1 _ _ _"]


@dataclass(frozen=True, eq=False)
class CoarseSegmentation:
    """A prediction for one image, with one result for each fold of voxels.

    Args:
        vectors: the expected vectors, 16 channels.
        classes: (I/a, J/b, K/c) index of the most probable label.
        confidence: the mean probability of the most probable label inside the content.
    """

    vectors: Volume
    classes: Int[Tensor, "i j k"]
    confidence: float


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A trained segmentation network.

    Args:
        network: with class 0 for the background.
        names: of each label by its number, in the order of the network's classes.
        spacing: mm of its images to the right, anterior and superior; None for that of the image.
        shape: most voxels of its images; of a larger one the middle is segmented. None for any number.
        name: of the model.
        extent_mm: smallest and largest extent of its images along right, anterior and superior; None for a model that
            is used only when named explicitly.
        confidence: the smallest of an image of its domain, see ``CoarseSegmentation``.
        share: of the force, in a registration that it guides.
        finest_mm: it does not guide levels with smaller voxels.
        calibration: offset and slope from the overlap of two predictions to the expected Dice of reference labels.
        mirror: for each class its counterpart on the other side, itself if it has none; the labels are then the most
            probable on average over the image and its mirror image. None for the image alone.
        source: the ``"path"`` of its file and its ``"sha256"``; None if created in Python.
    """

    network: SegmentationUNet
    names: Mapping[int, str]
    spacing: Spacing = (1.0, 1.0, 1.0)
    shape: CropShape = (None, None, None)
    name: str = "segmentation"
    extent_mm: tuple[tuple[float, float], ...] | None = None
    confidence: float = 0.0
    share: float = 0.5
    finest_mm: float = 0.0
    calibration: tuple[float, float] = (0.0, 1.0)
    mirror: tuple[int, ...] | None = None
    source: Mapping[str, str] | None = None

    def __repr__(self) -> str:
        return f"Segmenter({self.name}: {len(self.names) - 1} labels)"

    def on(self, device: torch.device) -> Segmenter:
        """The model on a device, for evaluation."""
        return replace(self, network=self.network.eval().to(device))

    @torch.no_grad()
    def __call__(self, volume: Volume) -> Segmentation:
        """Segment an image, on a canonical grid of the network's spacing over its content."""
        content = crop(volume, *content_box(volume, MARGIN_MM))
        grid = self._grid(content.grid)
        image = normalise(resampled(content, grid, Chain()))
        size = [n + -n % multiple for n, multiple in zip(image.shape, self.network.multiple, strict=True)]
        before = [(n - have) // 2 for n, have in zip(size, image.shape, strict=True)]
        i, j, k = ((b, n - have - b) for b, n, have in zip(before, size, image.shape, strict=True))
        image = F.pad(image, (*k, *j, *i))
        grid = grid.box([-b for b in before], [n - b for n, b in zip(size, before, strict=True)])
        image = image[None, None]
        inside = folded(image > FAINT, self.network.fold)[0].permute(1, 2, 3, 0)
        return Segmentation(self._embeddings(image), inside, grid, image)

    def obstacle(self, volume: Volume) -> str:
        """Why the network cannot run on an image; empty if it can."""
        voxels = math.prod(self._grid(crop(volume, *content_box(volume, MARGIN_MM)).grid).shape)
        if voxels > MOST:
            return f"at its spacing the image has {voxels / 1e6:.0f} million voxels, more than {MOST / 1e6:.0f}"
        needed, free = voxels * BYTES_PER_VOXEL / 1e9, psutil.virtual_memory().available / 1e9
        return f"it needs about {needed:.1f} GB of memory and {free:.1f} GB are free" if needed > free else ""

    @torch.no_grad()
    def labels(self, found: Segmentation) -> Int[Tensor, "i j k"]:
        """The most probable label of every voxel; see ``mirror``."""
        best = torch.zeros(found.inside.shape, dtype=torch.long, device=found.inside.device)
        parts = self._parts(found.embeddings[found.inside])
        if self.mirror is None:
            chosen = [self.network.scores(part).argmax(-1) for part in parts]
        else:
            others = self._parts(self._mirrored(found)[found.inside])
            chosen = [self._averaged(*both).argmax(-1) for both in zip(parts, others, strict=True)]
        if chosen:
            best[found.inside] = torch.cat(chosen)
        numbers = torch.tensor(list(self.names), device=best.device)
        return numbers[unfolded(best[None], self.network.fold)[0]]

    @torch.no_grad()
    def coarse(self, found: Segmentation) -> CoarseSegmentation:
        """One result for each fold of voxels, from the mean of their embeddings inside the content."""
        weight = found.inside.to(found.embeddings)
        count = weight.sum(dim=3, keepdim=True)
        inside = count[..., 0] > 0
        mean = ((weight.unsqueeze(3) @ found.embeddings).squeeze(3) / count.clamp(min=1))[inside]
        vectors = torch.zeros(*inside.shape, DIMENSIONS, device=inside.device)
        classes = torch.zeros(inside.shape, dtype=torch.long, device=inside.device)
        parts = [torch.softmax(self.network.scores(part).float(), dim=-1) for part in self._parts(mean)]
        confidence = 0.0
        if parts:
            share = count[inside] / found.inside.shape[3]
            vectors[inside] = torch.cat([part @ self.vectors.to(part) for part in parts]) * share
            best = [part.max(dim=-1) for part in parts]
            classes[inside] = torch.cat([each.indices for each in best])
            confidence = float(torch.cat([each.values for each in best]).mean())
        return CoarseSegmentation(
            Volume(vectors.permute(3, 0, 1, 2).contiguous(), self._folded_grid(found.grid)), classes, confidence
        )

    def outside(self, fixed: Volume, moving: Volume) -> str:
        """Why a pair is outside the extent of the model's images; empty if it is inside."""
        if self.extent_mm is None:
            return "used only when named explicitly"
        return outside_extent(self.extent_mm, fixed=fixed, moving=moving)

    def unlike(self, volume: Volume, confidence: float) -> str:
        """Why an image is unlike those of the model; empty if it is not.

        Args:
            volume: the image.
            confidence: of its segmentation.
        """
        content = crop(volume, *content_box(volume, margin_of(volume.grid)))
        if self.extent_mm is not None and (against := outside_extent(self.extent_mm, input=content)):
            return against
        if confidence < self.confidence:
            return f"their mean probability is {confidence:.3f}, that of training images at least {self.confidence:.3g}"
        return ""

    @cached_property
    def vectors(self) -> Float[Tensor, "classes 16"]:
        """The vector of each class."""
        generator = torch.Generator().manual_seed(0)
        directions = F.normalize(torch.randn(len(self.names), DIMENSIONS, generator=generator), dim=1)
        directions[0] = 0
        return directions

    def _embeddings(self, image: Float[Tensor, "1 1 i j k"]) -> Float[Tensor, "a b c parts d"]:
        place = image.device
        reduced = reduced_precision(place)
        if reduced:  # in the other order its convolutions copy everything, and take four times as long
            self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        with torch.autocast(place.type, torch.bfloat16, enabled=reduced):
            embeddings: Tensor = self.network(image)
        return embeddings[0].float()

    def _mirrored(self, found: Segmentation) -> Float[Tensor, "i j k parts d"]:
        """The embeddings of the mirror image, at the voxels of the image."""
        mirrored = self._embeddings(found.image.flip(2))
        fold = self.network.fold
        return mirrored.flip(0).unflatten(3, fold).flip(3).flatten(3, 5)

    def _averaged(self, embeddings: Tensor, mirrored: Tensor) -> Float[Tensor, "n classes"]:
        """The mean probabilities of the classes of the image and its mirror image, (N, D) each."""
        first, second = (torch.softmax(self.network.scores(each), dim=-1) for each in (embeddings, mirrored))
        return (first + second[:, list(self.mirror or ())]) / 2

    def _grid(self, content: Grid) -> Grid:
        """The grid of the network's input over the content of an image, before padding."""
        grid = content.canonical.at_spacing(self.spacing)
        most = [None if limit is None else min(n, limit) for n, limit in zip(grid.shape, self.shape, strict=True)]
        return grid.centered(most)

    def _parts(self, embeddings: Tensor) -> tuple[Tensor, ...]:
        """Embeddings (N, D) in parts whose scores fit into memory."""
        return embeddings.split(CHUNK // len(self.names)) if len(embeddings) else ()

    def _folded_grid(self, grid: Grid) -> Grid:
        fold = np.array(self.network.fold)
        affine = grid.affine.copy()
        affine[:3, 3] = grid.to_world((fold - 1) / 2)
        affine[:3, :3] *= fold
        return Grid(triple(np.array(grid.shape) // fold), affine)


def reduced_precision(device: torch.device) -> bool:
    """Whether the network is evaluated in bfloat16: only where that takes a fraction of the time."""
    return device.type == "cpu" and fast_bfloat16()
