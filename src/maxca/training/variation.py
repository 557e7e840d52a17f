"""Random shapes, contrasts and artefacts of labelled scans, for a batch at once on its device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from maxca.engine.volume import normalise
from maxca.geometry.warp import sample_unit, unit_coordinates

Shape = tuple[int, int, int]

THICK = 3.0  # ratio of spacings from which slices are thick


@dataclass(frozen=True)
class Variation:
    """Ranges of the augmentation of scans for a segmentation network.

    Args:
        rotate: largest angle around each axis, degrees.
        tilt: that around the axes within thick slices.
        scale: largest relative change of the length of each axis.
        shift: largest translation along each axis, as a fraction of the training image.
        nodes: of the coarse and of the fine elastic grid, along the longest axis.
        elastic: standard deviation of the displacement of each, as a fraction of the distance of its nodes.
        mirror: probability of a reflection along the first axis, where the counterpart of each label is known.
        inverted: probability of a decreasing curve of intensities.
        curve: probability of an arbitrary, also inverted, curve of intensities.
        painted: probability of an image whose labels have random intensities.
        head: probability of a synthetic scalp around a skull-stripped brain.
    """

    rotate: float = 15.0
    tilt: float = 5.0
    scale: float = 0.12
    shift: float = 0.06
    nodes: tuple[int, int] = (6, 12)
    elastic: tuple[float, float] = (0.12, 0.08)
    mirror: float = 0.5
    inverted: float = 0.0
    curve: float = 0.0
    painted: float = 0.0
    head: float = 0.0


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What is known of the scans besides their voxels.

    Args:
        spacing: mm along the three axes.
        swap: for each class, its counterpart on the other side, on the device; None if unknown: no reflections.
        tissues: the tissue of each class, on the device; classes of one tissue are painted alike.
    """

    spacing: tuple[float, float, float]
    swap: Tensor | None
    tissues: Tensor


def uniform(batch: int, low: float, high: float, random: torch.Generator) -> Tensor:
    """(B, 1, 1, 1, 1) uniform random numbers."""
    return torch.rand(batch, 1, 1, 1, 1, device=random.device, generator=random) * (high - low) + low


def chance(batch: int, share: float, random: torch.Generator) -> Tensor:
    """(B, 1, 1, 1, 1) bool, each true with probability ``share``."""
    return uniform(batch, 0, 1, random) < share


def smooth_field(
    batch: int, channels: int, shape: Sequence[int], apart: Sequence[float], random: torch.Generator
) -> Tensor:
    """(B, channels, I, J, K) of unit variance at its nodes, which are about ``apart`` voxels apart."""
    counts = [max(2, round(n / mm)) for n, mm in zip(shape, apart, strict=True)]
    field = torch.randn(batch, channels, *counts, device=random.device, generator=random)
    middle = [max(c, min(n, 2 * c)) for n, c in zip(shape, counts, strict=True)]
    field = F.interpolate(field, size=middle, mode="trilinear", align_corners=True)
    return F.interpolate(_soft(field), size=list(shape), mode="trilinear", align_corners=True)


def reshaped(
    images: Tensor,
    labels: Tensor,
    anatomy: Anatomy,
    how: Variation,
    random: torch.Generator,
    *,
    shape: Shape | None = None,
    centre: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Spatial augmentation: affine, elastic, mirrored; each image is interpolated once.

    Args:
        images: (B, 1, I, J, K).
        labels: (B, 1, I, J, K) class indices.
        anatomy: of the scans.
        how: what may vary.
        random: on the device of the images.
        shape: of the results; by default that of the images.
        centre: (B, 3) voxels in the images at the centre of the results; by default their middle.
    """
    batch, _, *whole = images.shape
    device = images.device
    size = torch.tensor(anatomy.spacing, device=device) / min(anatomy.spacing)
    out = list(shape or whole)
    mirror = 0.0 if anatomy.swap is None else how.mirror
    mirrored = torch.rand(batch, device=device, generator=random) < mirror
    linear = _linear(batch, size, _angles(anatomy.spacing, out, how), how.scale, random)
    linear[:, 0] *= torch.where(mirrored, -1.0, 1.0)[:, None]
    offset = (torch.rand(batch, 3, device=device, generator=random) * 2 - 1) * how.shift
    offset = offset * torch.tensor(out, device=device)
    middle = torch.tensor([(n - 1) / 2 for n in whole], device=device) if centre is None else centre
    axes = [torch.arange(n, device=device) - (n - 1) / 2 for n in out]
    centred = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    at = (linear @ centred + (offset + middle)[:, :, None]).view(batch, 3, *out)
    for nodes, fraction in zip(how.nodes, how.elastic, strict=True):
        apart = max(float(n * s) for n, s in zip(out, size, strict=True)) / nodes  # smallest spacings
        field = smooth_field(batch, 3, out, [apart / float(s) for s in size], random)
        at = at + field * uniform(batch, 0, 1.5 * fraction * apart, random) / size.view(1, 3, 1, 1, 1)
    unit = unit_coordinates(at, images.shape[2:])
    images = sample_unit(images, unit, padding="zeros")
    labels = sample_unit(labels.float(), unit, nearest=True, padding="zeros").long()
    if anatomy.swap is not None:
        labels = torch.where(mirrored.view(-1, 1, 1, 1, 1), anatomy.swap[labels], labels)
    return images, labels


def _angles(spacing: Sequence[float], shape: Sequence[int], how: Variation) -> list[float]:
    """The largest angle around each axis in degrees: less where it takes thick slices into each other."""
    angles = [0.0] * 3
    for a, b in combinations(range(3), 2):
        thick = max(spacing[a], spacing[b]) > THICK * min(spacing[a], spacing[b])
        flat = min(shape[a], shape[b]) == 1
        angles[3 - a - b] = 0.0 if flat else min(how.tilt, how.rotate) if thick else how.rotate
    return angles


def _linear(batch: int, size: Tensor, angles: Sequence[float], scale: float, random: torch.Generator) -> Tensor:
    """(B, 3, 3) on voxels of this relative size: rotations up to some degrees, shears and scalings."""
    device = size.device
    angle = (torch.rand(batch, 3, device=device, generator=random) * 2 - 1) * torch.tensor(angles, device=device)
    turn = torch.zeros(batch, 3, 3, device=device)
    for axis, (a, b) in enumerate(((1, 2), (2, 0), (0, 1))):
        turn[:, a, b], turn[:, b, a] = -angle[:, axis] * math.pi / 180, angle[:, axis] * math.pi / 180
    shear = 0.05 * scale * torch.randn(batch, 3, 3, device=device, generator=random)
    lengths = torch.exp((torch.rand(batch, 1, 3, device=device, generator=random) * 2 - 1) * scale)
    return torch.matrix_exp(turn + shear) * lengths / size[:, None] * size


def repainted(images: Tensor, labels: Tensor, anatomy: Anatomy, how: Variation, random: torch.Generator) -> Tensor:
    """Intensity augmentation: contrast, curves, synthesis from labels, bias, blur, noise, a scalp; then normalisation.

    Args:
        images: (B, 1, I, J, K) in [0, 1], 0 outside the content.
        labels: (B, 1, I, J, K) class indices.
        anatomy: of the scans.
        how: what may vary.
        random: on the device of the images.
    """
    batch, _, *shape = images.shape
    inside = (images > 0) | (labels > 0)
    x = images.clamp(0, 1) ** torch.exp(uniform(batch, -0.4, 0.4, random))
    falling = (1.05 - x).clamp(0, 1) ** torch.exp(uniform(batch, -0.5, 0.5, random))
    x = torch.where(chance(batch, how.inverted, random), falling, x)
    x = torch.where(chance(batch, how.curve, random), _curved(x, random), x)
    if how.painted:
        painted = torch.where(labels > 0, _painted(labels, anatomy.tissues, random), _curved(x, random))
        x = torch.where(chance(batch, how.painted, random), painted, x)
    bias = smooth_field(batch, 1, shape, [max(shape) / 4] * 3, random)
    x = x * torch.exp(bias * uniform(batch, 0, 0.25, random))
    x = torch.where(inside, x, torch.zeros_like(x))
    if how.head:
        x = torch.where(chance(batch, how.head, random), _in_head(x, inside, random), x)
    x = _blurred(x, random)
    noise = torch.randn(x.shape, device=x.device, generator=random)
    x = x + noise * uniform(batch, 0, 0.06, random) * chance(batch, 0.7, random)
    quiet = chance(batch, 0.8, random) & ~inside
    x = torch.where(quiet & (x.abs() < 0.1), torch.zeros_like(x), x)
    return torch.stack([normalise(image[0])[None] for image in x])


def _blurred(x: Tensor, random: torch.Generator) -> Tensor:
    """Some images smoothed, and sometimes all with thick slices."""
    batch, _, *shape = x.shape
    x = torch.where(chance(batch, 0.3, random), torch.lerp(x, _soft(x), uniform(batch, 0, 1, random)), x)
    thick, axis, voxels = torch.rand(3, device=x.device, generator=random).tolist()
    step = [1, 1, 1]
    step[int(3 * axis)] = 2 + int(3 * voxels)
    if thick < 0.15 and all(n % s == 0 for n, s in zip(shape, step, strict=True)):
        x = F.interpolate(F.avg_pool3d(x, step, stride=step), size=shape, mode="trilinear", align_corners=False)
    return x


def _soft(x: Tensor) -> Tensor:
    """(B, C, I, J, K), the mean of 3x3x3 voxels; axes of fewer than three are kept."""
    kernel = [3 if n > 2 else 1 for n in x.shape[2:]]
    return F.avg_pool3d(x, kernel, stride=1, padding=[k // 2 for k in kernel], count_include_pad=False)


def _curved(x: Tensor, random: torch.Generator) -> Tensor:
    """Intensities mapped by a random curve of seven knots, one per example."""
    knots = torch.rand(len(x), 7, device=x.device, generator=random)
    position = x.clamp(0, 1).flatten(1) * 5.999
    low = position.long()
    left, right = knots.gather(1, low), knots.gather(1, low + 1)
    return torch.lerp(left, right, position - low).view_as(x)


def _painted(labels: Tensor, tissues: Tensor, random: torch.Generator) -> Tensor:
    """An image with a random intensity per tissue, a small offset per class, and a texture."""
    batch, device = len(labels), labels.device
    base = torch.rand(batch, int(tissues.max()) + 1, device=device, generator=random)[:, tissues]
    values = base + 0.05 * torch.randn(batch, len(tissues), device=device, generator=random)
    painted = values.gather(1, labels.flatten(1)).view(labels.shape)
    painted = painted + 0.04 * torch.randn(painted.shape, device=device, generator=random)
    return _soft(painted).clamp(0, 1)


def _in_head(x: Tensor, inside: Tensor, random: torch.Generator) -> Tensor:
    """The brain within synthetic fluid, bone and scalp of random intensity."""
    batch, _, *shape = x.shape
    small = F.max_pool3d(inside.float(), 4, stride=4, ceil_mode=True)
    shells = [small]
    for wide in torch.rand(3, device=x.device, generator=random).tolist():
        grown = shells[-1]
        for _ in range(1 + int(2 * wide)):
            grown = F.max_pool3d(grown, 3, stride=1, padding=1)
        shells.append(grown)
    layers = torch.zeros_like(small)
    for outer, inner in zip(shells[1:], shells[:-1], strict=True):
        layers = layers + (outer - inner) * uniform(batch, 0, 1, random)
    layers = F.interpolate(layers, size=shape, mode="trilinear", align_corners=False)
    layers = layers * torch.exp(0.3 * smooth_field(batch, 1, shape, [max(shape) / 10] * 3, random))
    return torch.where(inside, x, layers)
