"""Synthetic images: label maps, from noise or from real scans, rendered in random contrasts.

A network trained on them alone depends on shapes and not on contrast.
Source of the recipe: Hoffmann et al., "SynthMorph", IEEE TMI 41(3), 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from maxca.geometry.separable import gaussian, per_axis
from maxca.geometry.warp import sample, voxel_coordinates

Shape = tuple[int, int, int]
BENT = (16.0, 32.0)  # voxels between the nodes of a displacement, coarse and fine


@dataclass(frozen=True)
class Synth:
    """Settings of the synthetic images.

    Args:
        shape: of label maps from noise.
        labels: number of labels of a map.
        real: fraction of the samples with a real label map, if available.
        warp: largest standard deviation along an axis of the displacement of each image, voxels.
        blur: largest σ of the smoothing of an image, voxels.
        bias: coefficient of a bias field.
        noise: largest standard deviation of noise.
    """

    shape: Shape = (64, 64, 64)
    labels: int = 16
    real: float = 0.5
    warp: float = 2.0
    blur: float = 1.0
    bias: float = 0.4
    noise: float = 0.05


def synthetic_pair(how: Synth, seed: int, labels: tuple[Tensor, Tensor] | None = None) -> dict[str, Tensor]:
    """Two synthetic images of one label map, or of two real ones, each deformed and rendered independently.

    Args:
        how: the settings.
        seed: the same seed gives the same pair.
        labels: two real label maps (I, J, K) on one grid; by default one map from noise.

    Returns:
        ``fixed`` and ``moving`` (I, J, K) in [0, 1], ``fixed_labels`` and ``moving_labels`` (I, J, K).
    """
    random = torch.Generator().manual_seed(seed)
    if labels is None:
        labels = (noise_labels(how.shape, how.labels, random),) * 2
    pair = {}
    for side, shapes in zip(("fixed", "moving"), labels, strict=True):
        moved = _bent(shapes, how.warp, random)
        pair[side] = painted(moved, how, random)
        pair[f"{side}_labels"] = moved
    return pair


def noise_labels(shape: Shape, count: int, random: torch.Generator) -> Tensor:
    """(I, J, K) float: each voxel gets the label whose smooth noise is highest there; 0 is background."""
    apart = 8.0 + 8.0 * float(torch.rand((), generator=random))  # such shapes are larger than the displacement
    noise = torch.stack([smooth_noise(shape, apart, random) for _ in range(count)])
    middle = torch.stack(torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")).norm(dim=0)
    labels = noise.argmax(dim=0).float()
    return labels * (middle + 0.15 * smooth_noise(shape, apart, random) < 0.95)


def painted(labels: Tensor, how: Synth, random: torch.Generator) -> Tensor:
    """(I, J, K) in [0, 1]: a random intensity per label, then blur, bias, gamma and noise."""
    names, index = labels.unique(return_inverse=True)
    greys = torch.rand(len(names), generator=random)
    if float(torch.rand((), generator=random)) < 0.75 and names[0] == 0:
        greys[0] = 0.0  # like the dark background of most scans
    spread = 0.03 + 0.05 * torch.rand(len(names), generator=random)
    texture = torch.randn(labels.shape, generator=random)
    image = greys[index] + spread[index] * texture * (greys[index] > 0)
    sigma = how.blur * float(torch.rand((), generator=random))
    image = _smoothed(image, sigma) if sigma > 0.2 else image
    i, j, k = labels.shape
    slow = smooth_noise((i, j, k), min(i, j, k) / 3, random)
    image = image * torch.exp(how.bias * slow / slow.abs().max().clamp(min=1e-6))
    image = image + how.noise * float(torch.rand((), generator=random)) * torch.randn(image.shape, generator=random)
    low, high = torch.quantile(image.flatten()[::7], torch.tensor([0.005, 0.995])).tolist()
    image = ((image - low) / max(high - low, 1e-6)).clamp(0, 1)
    return image ** float(torch.exp(0.3 * torch.randn((), generator=random)))


def _bent(labels: Tensor, amount: float, random: torch.Generator) -> Tensor:
    """The label map under a smooth random warp, by nearest neighbour."""
    i, j, k = labels.shape
    flow = bend((i, j, k), amount * float(torch.rand((), generator=random)), random)
    at = (voxel_coordinates((i, j, k), torch.device("cpu")) + flow).round()
    limits = torch.tensor([i - 1, j - 1, k - 1]).view(1, 3, 1, 1, 1)
    return sample(labels[None, None], at.clamp(min=0).minimum(limits.float()))[0, 0].round()


def bend(shape: Shape, amount: float, random: torch.Generator) -> Tensor:
    """(3, I, J, K) smooth displacement in voxels with a standard deviation of ``amount`` along an axis.

    Up to 2 there is hardly any folding: of 64³ voxels less than a thousandth at 2, none at 1.5.
    """
    rough, smooth = (torch.stack([smooth_noise(shape, apart, random) for _ in range(3)]) for apart in BENT)
    flow = rough + smooth
    return flow * (amount / flow.std().clamp(min=1e-6))


def smooth_noise(shape: Shape, apart: float, random: torch.Generator) -> Tensor:
    """Noise of standard deviation 1, linear between nodes about ``apart`` voxels apart."""
    nodes = [max(2, round(n / apart) + 1) if n > 1 else 1 for n in shape]
    noise = torch.randn(1, 1, *nodes, generator=random)
    fine = F.interpolate(noise, size=shape, mode="trilinear", align_corners=True)[0, 0]
    return (fine - fine.mean()) / fine.std().clamp(min=1e-6)


def _smoothed(image: Tensor, sigma: float) -> Tensor:
    return per_axis(gaussian, image.shape, (1, 1, 1), (sigma,) * 3)(image)
