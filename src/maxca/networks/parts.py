"""Common parts of networks: predictions, flow heads, and warping, composition and integration of flows.

A flow is (N, 3, I, J, K) in voxels of its grid; component c moves along axis c. It maps a fixed voxel to the position
in the moving image at which its value is sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from maxca.blocks import layers as layout
from maxca.blocks.layers import Conv3d, at_least_float32, channels_first, cut_ends, to_whole
from maxca.geometry.warp import Padding, sample_unit, unit_coordinates, voxel_coordinates

Shape = torch.Size | tuple[int, int, int]
Factors = tuple[int, int, int]  # 2 for an axis that is halved from one level to the next, otherwise 1


class Prediction(NamedTuple):
    """The prediction of a network for a pair.

    Attributes:
        flow: (N, 3, I, J, K), voxels, the total displacement: fixed voxel → moving voxel; at least float32.
        affine: (N, 3, 4), voxel → voxel, its linear part, from networks that predict one.
    """

    flow: Tensor
    affine: Tensor | None = None


class FlowHead(nn.Module):
    """A 3x3x3 convolution to three channels, initialised so small that the flow is almost 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv3d(channels, 3, 3, padding=1)
        # Published: 1e-5, for which the deeper networks predict up to 0.003 voxels before training.
        nn.init.normal_(self.conv.weight, std=1e-6)
        nn.init.constant_(self.conv.get_parameter("bias"), 0.0)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, I, J, K) → (N, 3, I, J, K), at least float32."""
        return at_least_float32(self.conv(features))


def warp(
    volume: Float[Tensor, "n c i j k"], flow: Float[Tensor, "n 3 i j k"], padding: Padding = "zeros"
) -> Float[Tensor, "n c i j k"]:
    """The volume warped by a flow: out(x) = volume(x + flow(x)).

    Args:
        volume: image or features.
        flow: in voxels.
        padding: ``"zeros"``: 0 outside; ``"border"``: the edge is repeated.
    """
    shape = volume.shape[2:]
    moved = voxel_coordinates(shape, flow.device) + at_least_float32(flow)
    values = volume.to(moved.dtype)
    return sample_unit(values, unit_coordinates(moved, shape), padding=padding).to(volume.dtype)


def compose(first: Float[Tensor, "n 3 i j k"], second: Float[Tensor, "n 3 i j k"]) -> Float[Tensor, "n 3 i j k"]:
    """The flow of x ↦ second(first(x)), of two flows."""
    return first + warp(second, first, "border")


def integrate(velocity: Float[Tensor, "n 3 i j k"], steps: int = 5) -> Float[Tensor, "n 3 i j k"]:
    """The flow after unit time of a stationary velocity, by scaling and squaring; the inverse is that of minus it.

    Source: Arsigny et al., MICCAI 2006.
    """
    flow = velocity / 2**steps
    for _ in range(steps):
        flow = compose(flow, flow)
    return flow


def upsample_flow(flow: Float[Tensor, "n 3 i j k"], factors: Factors) -> Tensor:
    """The same motion in voxels of a grid finer by a factor along each axis; corners stay on corners."""
    shape = [n * factor for n, factor in zip(flow.shape[2:], factors, strict=True)]
    fine = F.interpolate(flow, size=shape, mode="trilinear", align_corners=True)
    return fine * fine.new_tensor(factors).view(3, 1, 1, 1)


def padded(volume: Float[Tensor, "n c i j k"], multiple: int | Factors) -> Float[Tensor, "n c a b d"]:
    """The volume padded with zeros at the end of each axis to a ``multiple``, of all axes or of each."""
    multiples = (multiple,) * 3 if isinstance(multiple, int) else multiple
    i, j, k = to_whole(volume.shape[2:], multiples)
    # For an exporter the sizes are symbols, so the need for padding must not be a condition.
    return F.pad(volume, (0, k, 0, j, 0, i)) if torch.compiler.is_compiling() or i or j or k else volume


def cropped(volume: Float[Tensor, "n c a b d"], shape: Shape) -> Float[Tensor, "n c i j k"]:
    """The first ``shape`` voxels along each axis."""
    return channels_first(cut_ends(layout.channels_last(volume), shape))


def check_pair(fixed: Tensor, moving: Tensor) -> None:
    """Check the input of a network.

    Raises:
        ValueError: unless both are (N, 1, I, J, K) of one shape.
    """
    if fixed.shape != moving.shape or fixed.ndim != 5 or fixed.shape[1] != 1:
        raise ValueError(
            f"a network takes two volumes (N, 1, I, J, K) on one grid, received {tuple(fixed.shape)} and "
            f"{tuple(moving.shape)}"
        )


def channels_last(volume: Tensor) -> Tensor:
    """The volume in channels-last memory layout, for fast convolutions and norms."""
    return volume.contiguous(memory_format=torch.channels_last_3d)


def instance_norm(x: Float[Tensor, "n c i j k"]) -> Float[Tensor, "n c i j k"]:
    """Mean 0 and variance 1 of each channel of each example; a channel of a single voxel becomes 0.

    Not ``F.instance_norm``: in torch 2.13 its gradient is wrong where one example is channels-last.
    """
    return torch.group_norm(x, x.shape[1])


def halved(x: Float[Tensor, "n c i j k"], factors: Factors = (2, 2, 2)) -> Tensor:
    """Means of 2x2x2 voxels, of a volume of even size, like ``avg_pool3d``, in any precision and layout.

    An axis with a factor of 1 is unchanged.
    """
    for axis, factor in enumerate(factors):
        if factor == 2:
            first, second = x.unflatten(2 + axis, (-1, 2)).unbind(3 + axis)
            x = first + second
    return x / prod(factors)


class ConvLayer(nn.Module):
    """3x3x3 convolution and LeakyReLU₀.₂."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = Conv3d(channels_in, channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, I, J, K) → (N, C', I, J, K)."""
        return F.leaky_relu(self.conv(x), 0.2)


class Upsample(nn.Module):
    """Upsampling by 2, or by ``factors``: transposed convolution, then layer norm over the channels."""

    def __init__(self, channels_in: int, channels_out: int, factors: Factors = (2, 2, 2)) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose3d(channels_in, channels_out, factors, stride=factors)
        self.norm = nn.LayerNorm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, I, J, K) → (N, C', 2I, 2J, 2K)."""
        y = self.conv(x).permute(0, 2, 3, 4, 1)
        return self.norm(y).permute(0, 4, 1, 2, 3)


def widths(channels: int, levels: int) -> Sequence[int]:
    """c, 2c, 4c, …, finest first."""
    return [channels * 2**level for level in range(levels)]
