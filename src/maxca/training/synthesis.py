"""Images that were never scanned: label maps, from noise or from real ones, painted in random contrasts.

A network that learns on them alone knows shapes and no contrast, so it aligns any with any.
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
BENT = (16.0, 32.0)  # voxels between the nodes of a motion, rough and smooth


@dataclass(frozen=True)
class Synth:
    """How images are made up.

    Args:
        shape: of label maps made from noise.
        labels: how many of them a map has.
        real: share of the samples whose label map is a real one, where there are some.
        warp: voxels by which each image of a pair is bent, standard deviation along an axis, at most.
        blur: greatest σ in voxels of the blur of an image.
        bias: coefficient of a slow change of intensity.
        noise: greatest standard deviation of noise.
    """

    shape: Shape = (64, 64, 64)
    labels: int = 16
    real: float = 0.5
    warp: float = 2.0
    blur: float = 1.0
    bias: float = 0.4
    noise: float = 0.05


def synthetic_pair(how: Synth, seed: int, labels: tuple[Tensor, Tensor] | None = None) -> dict[str, Tensor]:
    """Two images of one made-up thing, or of two real ones, each bent and painted by itself.

    Args:
        how: the recipe.
        seed: the same seed gives the same pair.
        labels: (I, J, K) whole numbers twice, real label maps on one grid; one map is made from noise unless given.

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
    apart = 8.0 + 8.0 * float(torch.rand((), generator=random))  # such shapes are larger than what bends them
    noise = torch.stack([smooth_noise(shape, apart, random) for _ in range(count)])
    middle = torch.stack(torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")).norm(dim=0)
    labels = noise.argmax(dim=0).float()
    return labels * (middle + 0.15 * smooth_noise(shape, apart, random) < 0.95)


def painted(labels: Tensor, how: Synth, random: torch.Generator) -> Tensor:
    """(I, J, K) in [0, 1]: a random grey for each label, then blur, bias, gamma and noise."""
    names, index = labels.unique(return_inverse=True)
    greys = torch.rand(len(names), generator=random)
    if float(torch.rand((), generator=random)) < 0.75 and names[0] == 0:
        greys[0] = 0.0  # most scans have a dark background
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
    """(3, I, J, K) voxels of a smooth motion, ``amount`` its standard deviation along an axis.

    Up to 2 it folds next to nothing: of 64³ voxels less than a thousandth at 2, none at 1.5.
    """
    rough, smooth = (torch.stack([smooth_noise(shape, apart, random) for _ in range(3)]) for apart in BENT)
    flow = rough + smooth
    return flow * (amount / flow.std().clamp(min=1e-6))


def smooth_noise(shape: Shape, apart: float, random: torch.Generator) -> Tensor:
    """Noise of standard deviation 1, linear between nodes about ``apart`` voxels from each other."""
    nodes = [max(2, round(n / apart) + 1) if n > 1 else 1 for n in shape]
    noise = torch.randn(1, 1, *nodes, generator=random)
    fine = F.interpolate(noise, size=shape, mode="trilinear", align_corners=True)[0, 0]
    return (fine - fine.mean()) / fine.std().clamp(min=1e-6)


def _smoothed(image: Tensor, sigma: float) -> Tensor:
    return per_axis(gaussian, image.shape, (1, 1, 1), (sigma,) * 3)(image)
