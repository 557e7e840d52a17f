"""Labels of an image as predicted by a segmentation network, and as vectors that can guide a registration.

Each label is a fixed random unit vector, the background zero; an image of labels is the expected vector at each
voxel. The squared difference of two such images is small where the labels agree, its cost is independent of their
number, and uncertain labels pull less than certain ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from maxca.engine.volume import FAINT, Volume, content_box, crop, normalise, resampled
from maxca.geometry import Chain, Grid
from maxca.geometry.grid import triple
from maxca.models.load import CropShape, Spacing
from maxca.networks.segmentation import SegmentationUNet, folded, unfolded

DIMENSIONS = 16  # of the vectors: the squared distances of 142 labels are from 0.5 to 3.6
MARGIN_MM = 2.0  # around the content of an image
CHUNK = 4_000_000  # voxels times classes whose probabilities are held at once


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A prediction for one image.

    Args:
        embeddings: (I/a, J/b, K/c, a·b·c, D) of the network, for an image folded by a, b, c.
        inside: the same shape without D: the content of the image.
        grid: of the image, (I, J, K).
    """

    embeddings: Float[Tensor, "i j k parts d"]
    inside: Tensor
    grid: Grid


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A trained segmentation network.

    Args:
        network: with class 0 for the background.
        numbers: label of each class, in the order of the network.
        spacing: mm of its images to the right, anterior and superior; None for that of the image.
        shape: most voxels of its images; of a larger one the middle is segmented. None for any number.
    """

    network: SegmentationUNet
    numbers: tuple[int, ...]
    spacing: Spacing = (1.0, 1.0, 1.0)
    shape: CropShape = (None, None, None)

    @torch.no_grad()
    def __call__(self, volume: Volume) -> Segmentation:
        """Segment an image, on a canonical grid of the network's spacing over its content."""
        content = crop(volume, *content_box(volume, MARGIN_MM))
        grid = content.grid.canonical.at_spacing(self.spacing)
        most = [None if limit is None else min(n, limit) for n, limit in zip(grid.shape, self.shape, strict=True)]
        grid = grid.centered(most)
        image = normalise(resampled(content, grid, Chain()))
        size = [n + -n % multiple for n, multiple in zip(image.shape, self.network.multiple, strict=True)]
        before = [(n - have) // 2 for n, have in zip(size, image.shape, strict=True)]
        i, j, k = ((b, n - have - b) for b, n, have in zip(before, size, image.shape, strict=True))
        image = F.pad(image, (*k, *j, *i))
        grid = grid.box([-b for b in before], [n - b for n, b in zip(size, before, strict=True)])
        inside = folded(image[None, None] > FAINT, self.network.fold)[0].permute(1, 2, 3, 0)
        return Segmentation(self.network(image[None, None])[0], inside, grid)

    def labels(self, found: Segmentation) -> Int[Tensor, "i j k"]:
        """The most probable label of every voxel."""
        best = torch.zeros(found.inside.shape, dtype=torch.long, device=found.inside.device)
        picked = found.embeddings[found.inside]
        rows = CHUNK // len(self.numbers)
        if len(picked):
            best[found.inside] = torch.cat([self.network.scores(part).argmax(-1) for part in picked.split(rows)])
        numbers = torch.tensor(self.numbers, device=best.device)
        return numbers[unfolded(best[None], self.network.fold)[0]]

    def expected(self, found: Segmentation) -> Volume:
        """The expected vector at every fold of voxels, (16, I/a, J/b, K/c)."""
        vectors = self.vectors().to(found.embeddings)
        out = torch.zeros(*found.inside.shape, DIMENSIONS, device=found.embeddings.device)
        picked = found.embeddings[found.inside]
        rows = CHUNK // len(self.numbers)
        if len(picked):
            out[found.inside] = torch.cat(
                [torch.softmax(self.network.scores(part).float(), -1) @ vectors for part in picked.split(rows)]
            )
        fold = np.array(self.network.fold)
        affine = found.grid.affine.copy()
        affine[:3, 3] = found.grid.to_world((fold - 1) / 2)
        affine[:3, :3] *= fold
        channels = out.mean(dim=3).permute(3, 0, 1, 2).contiguous()
        return Volume(channels, Grid(triple(channels.shape[1:]), affine))

    def vectors(self) -> Float[Tensor, "classes 16"]:
        """The vector of each class."""
        generator = torch.Generator().manual_seed(0)
        directions = F.normalize(torch.randn(len(self.numbers), DIMENSIONS, generator=generator), dim=1)
        directions[0] = 0
        return directions
