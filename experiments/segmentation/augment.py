"""Random shapes, contrasts and artefacts for segmentation networks, for a batch at once on any device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Variation:
    """Ranges of the augmentation.

    Args:
        spacing: mm of the voxels, for rotations.
        rotate: greatest angle around each axis, degrees.
        scale: largest relative change of the length of each axis.
        shift: greatest translation along each axis, voxels.
        nodes: of the coarse and of the fine elastic grid, along the longest axis.
        elastic: standard deviation of the displacement of each, voxels.
        mirror: probability of a reflection along the first axis.
        inverted: probability of a decreasing curve of intensities.
        curve: probability of an arbitrary, also inverted, curve of intensities.
        painted: probability of an image synthesised from the labels.
        head: probability of a synthetic scalp around a skull-stripped brain.
    """

    spacing: tuple[float, float, float]
    rotate: tuple[float, float, float]
    scale: float
    shift: tuple[float, float, float]
    nodes: tuple[int, int] = (6, 12)
    elastic: tuple[float, float] = (3.5, 1.2)
    mirror: float = 0.5
    inverted: float = 0.2
    curve: float = 0.2
    painted: float = 0.12
    head: float = 0.2


def uniform(batch: int, low: float, high: float, like: Tensor) -> Tensor:
    """(B, 1, 1, 1, 1) uniform random numbers."""
    return torch.rand(batch, 1, 1, 1, 1, device=like.device) * (high - low) + low


def chance(batch: int, share: float, like: Tensor) -> Tensor:
    """(B, 1, 1, 1, 1) bool, each true with probability ``share``."""
    return torch.rand(batch, 1, 1, 1, 1, device=like.device) < share


def smooth_field(batch: int, channels: int, shape: Sequence[int], nodes: int, device: torch.device) -> Tensor:
    """(B, channels, I, J, K) of unit variance at its nodes, about ``nodes`` of them along the longest axis."""
    step = max(shape) / nodes
    counts = [max(2, round(n / step)) for n in shape]
    field = torch.randn(batch, channels, *counts, device=device)
    middle = [max(c, min(n, 2 * c)) for n, c in zip(shape, counts, strict=True)]
    field = F.interpolate(field, size=middle, mode="trilinear", align_corners=True)
    kernel = [3 if m > 3 else 1 for m in middle]
    field = F.avg_pool3d(field, kernel, stride=1, padding=[k // 2 for k in kernel], count_include_pad=False)
    return F.interpolate(field, size=list(shape), mode="trilinear", align_corners=True)


def reshaped(images: Tensor, labels: Tensor, swap: Tensor, how: Variation) -> tuple[Tensor, Tensor]:
    """Spatial augmentation: affine, elastic, mirrored.

    Args:
        images: (B, 1, I, J, K).
        labels: (B, 1, I, J, K) class indices.
        swap: for each class, its counterpart on the other side.
        how: what may vary.
    """
    batch, _, *shape = images.shape
    device = images.device
    size = torch.tensor(how.spacing, device=device)
    angle = (torch.rand(batch, 3, device=device) * 2 - 1) * torch.tensor(how.rotate, device=device) * (math.pi / 180)
    turn = torch.zeros(batch, 3, 3, device=device)
    for axis, (a, b) in enumerate(((1, 2), (2, 0), (0, 1))):
        turn[:, a, b], turn[:, b, a] = -angle[:, axis], angle[:, axis]
    linear = torch.matrix_exp(turn + 0.05 * how.scale * torch.randn(batch, 3, 3, device=device))
    linear = linear * torch.exp((torch.rand(batch, 1, 3, device=device) * 2 - 1) * how.scale)
    linear = linear / size[:, None] * size
    mirrored = torch.rand(batch, device=device) < how.mirror
    linear[:, 0] *= torch.where(mirrored, -1.0, 1.0)[:, None]
    offset = (torch.rand(batch, 3, device=device) * 2 - 1) * torch.tensor(how.shift, device=device)
    half = torch.tensor([(n - 1) / 2 for n in shape], device=device)
    axes = [torch.linspace(-h, h, n, device=device) for h, n in zip(half.tolist(), shape, strict=True)]
    centred = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    at = (linear @ centred + offset[:, :, None]).view(batch, 3, *shape)
    for nodes, width in zip(how.nodes, how.elastic, strict=True):
        strength = uniform(batch, 0, 1.5 * width, images)
        at = at + smooth_field(batch, 3, shape, nodes, device) * strength / size.view(1, 3, 1, 1, 1)
    unit = (at / half.clamp(min=0.5).view(1, 3, 1, 1, 1)).flip(1).permute(0, 2, 3, 4, 1)
    images = F.grid_sample(images, unit, mode="bilinear", align_corners=True)
    labels = F.grid_sample(labels.float(), unit, mode="nearest", align_corners=True).long()
    return images, torch.where(mirrored.view(-1, 1, 1, 1, 1), swap[labels], labels)


def repainted(images: Tensor, labels: Tensor, tissues: Tensor, how: Variation) -> Tensor:
    """Intensity augmentation: contrast, curves, synthesis from labels, bias, blur, noise, a scalp; then normalisation.

    Args:
        images: (B, 1, I, J, K) in [0, 1], 0 outside the head.
        labels: (B, 1, I, J, K) class indices.
        tissues: the tissue of each class.
        how: what may vary.
    """
    batch, _, *shape = images.shape
    inside = (images > 0) | (labels > 0)
    x = images.clamp(0, 1) ** torch.exp(uniform(batch, -0.4, 0.4, images))
    falling = (1.05 - x).clamp(0, 1) ** torch.exp(uniform(batch, -0.5, 0.5, images))
    x = torch.where(chance(batch, how.inverted, x), falling, x)
    x = torch.where(chance(batch, how.curve, x), _curved(x), x)
    x = torch.where(chance(batch, how.painted, x), _painted(labels, tissues), x)
    x = x * torch.exp(smooth_field(batch, 1, shape, 4, x.device) * uniform(batch, 0, 0.25, x))
    x = torch.where(inside, x, torch.zeros_like(x))
    if how.head:
        x = torch.where(chance(batch, how.head, x), _in_head(x, inside), x)
    soft = F.avg_pool3d(x, 3, stride=1, padding=1)
    x = torch.where(chance(batch, 0.3, x), torch.lerp(x, soft, uniform(batch, 0, 1, x)), x)
    if torch.rand(()) < 0.15:  # a scan with thick slices
        step = [1, 1, 1]
        step[int(torch.randint(3, ()))] = int(torch.randint(2, 5, ()))
        if all(n % s == 0 for n, s in zip(shape, step, strict=True)):
            x = F.interpolate(F.avg_pool3d(x, step, stride=step), size=shape, mode="trilinear", align_corners=False)
    x = x + torch.randn_like(x) * uniform(batch, 0, 0.06, x) * chance(batch, 0.7, x)
    quiet = chance(batch, 0.8, x) & ~inside
    return normalised(torch.where(quiet & (x.abs() < 0.1), torch.zeros_like(x), x))


def normalised(images: Tensor) -> Tensor:
    """Each image (B, 1, I, J, K) to [0, 1]: its 0.5th percentile to 0, the 99.5th of what is brighter to 1."""
    out = []
    for image in images:
        bulk = image.flatten()[:: max(1, image.numel() // 200_000)].float()
        low = torch.quantile(bulk, 0.005)
        bright = bulk[bulk > low]
        high = torch.quantile(bright, 0.995) if len(bright) > 100 else low + 1
        out.append(((image - low) / (high - low).clamp(min=1e-6)).clamp(0, 1))
    return torch.stack(out)


def _curved(x: Tensor) -> Tensor:
    """Intensities mapped by a random curve of seven knots, one per example."""
    knots = torch.rand(len(x), 7, device=x.device)
    position = x.clamp(0, 1).flatten(1) * 5.999
    low = position.long()
    left, right = knots.gather(1, low), knots.gather(1, low + 1)
    return torch.lerp(left, right, position - low).view_as(x)


def _painted(labels: Tensor, tissues: Tensor) -> Tensor:
    """An image with a random intensity per tissue, a small offset per class, and a texture."""
    kinds = int(tissues.max()) + 1
    batch = len(labels)
    base = torch.rand(batch, kinds, device=labels.device)[:, tissues]
    values = base + 0.05 * torch.randn(batch, len(tissues), device=labels.device)
    painted = values.gather(1, labels.flatten(1)).view(labels.shape)
    painted = painted + 0.04 * torch.randn_like(painted)
    return F.avg_pool3d(painted, 3, stride=1, padding=1).clamp(0, 1)


def _in_head(x: Tensor, inside: Tensor) -> Tensor:
    """The brain within synthetic fluid, bone and scalp of random intensity."""
    batch, _, *shape = x.shape
    small = F.max_pool3d(inside.float(), 4, stride=4, ceil_mode=True)
    shells = [small]
    for _ in range(3):
        width = 1 + int(torch.randint(2, ()))
        grown = shells[-1]
        for _ in range(width):
            grown = F.max_pool3d(grown, 3, stride=1, padding=1)
        shells.append(grown)
    layers = torch.zeros_like(small)
    for outer, inner in zip(shells[1:], shells[:-1], strict=True):
        layers = layers + (outer - inner) * uniform(batch, 0, 1, x)
    layers = F.interpolate(layers, size=shape, mode="trilinear", align_corners=False)
    layers = layers * torch.exp(0.3 * smooth_field(batch, 1, shape, 10, x.device))
    return torch.where(inside, x, layers)
