"""A U-Net that labels an image: features on a coarse grid, class scores at every voxel.

The first layer folds neighbouring voxels into channels and the head unfolds them again, so that all convolutions run on
a grid a few times smaller than the image while labels keep its full resolution. Class scores are products of a voxel's
embedding with one vector per class: their cost in the network does not depend on the number of classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxca.blocks.layers import Conv3d, at_least_float32
from maxca.networks.perlevel import Blocks, describe, per_level

Block = Callable[[int], nn.Module]
Factors = tuple[int, int, int]


class InstanceNorm(nn.Module):
    """Zero mean and unit variance of every channel of every example, then a learnt scale and shift.

    Written out so that bfloat16 inputs in channels-last order are neither copied nor summed in bfloat16.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(1, channels, 1, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, I, J, K) → the same shape and type."""
        values, space = at_least_float32(x), (2, 3, 4)
        mean = values.mean(dim=space, keepdim=True)
        # torch.var_mean takes ten times as long on a CPU.
        power = torch.linalg.vector_norm(values, dim=space, keepdim=True).square() / prod(x.shape[2:])
        variance = (power - mean.square()).clamp(min=0)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return torch.addcmul((self.bias - mean * scale).to(x.dtype), x, scale.to(x.dtype))


class ConvUnit(nn.Module):
    """leaky_relu(norm(conv(x))); 3x3x3, or ``stride`` voxels wide and apart where it goes to a coarser level."""

    def __init__(self, inputs: int, outputs: int, stride: Factors | None = None) -> None:
        super().__init__()
        self.conv = Conv3d(inputs, outputs, 3, padding=1) if stride is None else nn.Conv3d(
            inputs, outputs, stride, stride=stride
        )  # fmt: skip
        self.norm = InstanceNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, I, J, K) → (N, outputs, …)."""
        return F.leaky_relu(self.norm(self.conv(x)), 0.1)


def conv_unit(channels: int) -> nn.Module:
    """The default block: one more convolution."""
    return ConvUnit(channels, channels)


class SegmentationUNet(nn.Module):
    """Embeddings of every voxel of an image, and a vector per class to compare them with.

    Args:
        classes: including the background.
        channels: of each level, finest first.
        fold: voxels along each axis that the first layer folds into channels.
        strides: voxels along each axis that become one from a level to the next, one fewer than levels.
        depth: blocks per level of the encoder.
        embedding: numbers per voxel that the class scores are made from.
        block: channels → a shape-preserving module; after the first convolution of each level of encoder and decoder.
        finest: another block for the finest level, or its name in ``BLOCKS``, or a name with arguments.
    """

    def __init__(
        self,
        classes: int,
        channels: Sequence[int] = (24, 48, 96, 192),
        fold: Factors = (2, 2, 2),
        strides: Sequence[Factors] = ((2, 2, 2),) * 3,
        depth: int = 2,
        embedding: int = 32,
        block: Block = conv_unit,
        finest: Blocks | None = None,
    ) -> None:
        super().__init__()
        self.fold, self.strides, self.embedding = fold, tuple(strides), embedding
        self.channels, self.depth, self.finest = tuple(channels), depth, finest
        levels = len(channels)
        first = block if finest is None else per_level(finest, 1)[0]
        self.stem = ConvUnit(prod(fold), channels[0])
        self.down = nn.ModuleList(
            nn.Sequential(*[(first if n == 0 else block)(channels[n]) for _ in range(1 if n == 0 else depth)])
            for n in range(levels)
        )
        self.coarser = nn.ModuleList(ConvUnit(channels[n], channels[n + 1], self.strides[n]) for n in range(levels - 1))
        self.finer = nn.ModuleList(nn.Conv3d(channels[n + 1], channels[n], 1) for n in range(levels - 1))
        self.up = nn.ModuleList(
            nn.Sequential(ConvUnit(2 * channels[n], channels[n]), (first if n == 0 else block)(channels[n]))
            for n in range(levels - 1)
        )
        self.head = nn.Conv3d(channels[0], prod(fold) * embedding, 1)
        self.classes = nn.Linear(embedding, classes)

    @property
    def arguments(self) -> dict[str, Any]:
        """Those of the constructor as plain data, for a network whose ``block`` is the default.

        Raises:
            ValueError: for a block of the finest level that has no name.
        """
        named = {} if self.finest is None else {"finest": describe(self.finest)}
        return named | {
            "classes": self.classes.out_features,
            "channels": list(self.channels),
            "fold": list(self.fold),
            "strides": [list(each) for each in self.strides],
            "depth": self.depth,
            "embedding": self.embedding,
        }

    @property
    def multiple(self) -> Factors:
        """Image sizes the network takes are multiples of this."""
        steps = [self.fold, *self.strides]
        return tuple(prod(step[axis] for step in steps) for axis in range(3))  # type: ignore[return-value]

    def forward(self, image: Tensor) -> Tensor:
        """(N, 1, I, J, K), sizes multiples of ``multiple`` → (N, I/f, J/f, K/f, f³, D) embeddings; see ``scores``."""
        x = self.stem(folded(image, self.fold))
        skips = []
        for n, blocks in enumerate(self.down):
            x = blocks(x)
            if n < len(self.coarser):
                skips.append(x)
                x = self.coarser[n](x)
        for n in reversed(range(len(self.up))):
            scale = [float(s) for s in self.strides[n]]
            x = F.interpolate(self.finer[n](x), scale_factor=scale, mode="trilinear", align_corners=False)
            x = self.up[n](torch.cat([x, skips[n]], dim=1))
        return self.head(x).permute(0, 2, 3, 4, 1).unflatten(-1, (prod(self.fold), self.embedding))

    def scores(self, embeddings: Tensor) -> Tensor:
        """(…, D) → (…, classes), before the softmax."""
        return self.classes(embeddings)


def folded(image: Tensor, fold: Factors) -> Tensor:
    """(N, 1, I, J, K) → (N, a·b·c, I/a, J/b, K/c): neighbouring voxels become channels."""
    n, _, i, j, k = image.shape
    a, b, c = fold
    return image.reshape(n, i // a, a, j // b, b, k // c, c).permute(0, 2, 4, 6, 1, 3, 5).reshape(
        n, a * b * c, i // a, j // b, k // c
    )  # fmt: skip


def unfolded(values: Tensor, fold: Factors) -> Tensor:
    """(N, I/a, J/b, K/c, a·b·c) → (N, I, J, K): the inverse of ``folded`` for one number per voxel."""
    n, i, j, k, _ = values.shape
    a, b, c = fold
    return values.reshape(n, i, j, k, a, b, c).permute(0, 1, 4, 2, 5, 3, 6).reshape(n, i * a, j * b, k * c)
