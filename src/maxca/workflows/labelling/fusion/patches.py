"""Patches of voxels: their offsets, means over them, and the best match of a patch in an atlas."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maxca.workflows.labelling.fusion.stack import Slab

FLAT = 1e-6  # relative to the mean variance: a patch with less matches nothing
NOISE = 1e-3  # relative to the mean variance: a patch with less has no structure that could be compared


def offsets(radii: tuple[int, int, int], shape: tuple[int, ...]) -> Int[Tensor, " n"]:
    """The steps in a flattened volume from a voxel to those of its patch, the nearest first.

    Args:
        radii: voxels along each axis.
        shape: of the volume.
    """
    steps = torch.cartesian_prod(*(torch.arange(-radius, radius + 1) for radius in radii))
    steps = steps[steps.square().sum(1).argsort(stable=True)]
    return (steps[:, 0] * shape[1] + steps[:, 1]) * shape[2] + steps[:, 2]


def means(volume: Float[Tensor, "*batch a b d"], radii: tuple[int, int, int]) -> Float[Tensor, "*batch a b d"]:
    """The mean over the patch of each voxel; not valid within a radius of the outside."""
    for axis, radius in enumerate(radii, start=volume.ndim - 3):
        size = 2 * radius + 1
        total = volume.narrow(axis, 0, volume.shape[axis] - size + 1).clone()
        for step in range(1, size):
            total += volume.narrow(axis, step, total.shape[axis])
        padding = [(radius, radius) if a == axis else (0, 0) for a in range(volume.ndim - 1, -1, -1)]
        volume = torch.nn.functional.pad(total / size, [n for both in padding for n in both])
    return volume


def correlation(slab: Slab, atlas: int, radii: tuple[int, int, int]) -> Float[Tensor, "a b d"]:
    """The correlation of the patches of an atlas with those of the scan, from -1 to 1."""
    target, image = slab.target, slab.images[atlas]
    middle, other = means(target, radii), means(image, radii)
    variance = (means(target * target, radii) - middle**2).clamp(min=0)
    others = (means(image * image, radii) - other**2).clamp(min=0)
    noise, noises = NOISE * variance.mean() + 1e-12, NOISE * others.mean() + 1e-12
    common = means(image * target, radii) - middle * other
    return common / torch.sqrt((variance + noise) * (others + noises))


def best_matches(
    slab: Slab, atlas: int, voxels: Int[Tensor, " m"], radii: tuple[int, int, int], reach: tuple[int, int, int]
) -> Int[Tensor, " m"]:
    """For patches of the scan, the steps to the patches of an atlas that correlate best with them.

    Args:
        slab: with the scan and the atlases.
        atlas: its number.
        voxels: the middles of the patches, in the flattened slab.
        radii: of a patch.
        reach: voxels along each axis within which patches of the atlas are compared.
    """
    steps = offsets(reach, slab.target.shape)
    if len(steps) == 1:
        return torch.zeros_like(voxels)
    image = slab.images[atlas]
    other = means(image, radii)
    variance = (means(image * image, radii) - other**2).clamp(min=0)
    spread = (variance + FLAT * variance.mean() + 1e-12).sqrt().flatten()
    middle, other = means(slab.target, radii).flatten()[voxels], other.flatten()
    best = torch.full(voxels.shape, -torch.inf)
    found = torch.zeros_like(voxels)
    for step in steps.tolist():
        # The rolled image has at each voxel the value at the voxel plus the step; what wraps around is halo.
        product = means((image.flatten().roll(-step)).view_as(image) * slab.target, radii).flatten()[voxels]
        there = voxels + step
        score = (product - other[there] * middle) / spread[there]
        better = score > best
        best[better], found[better] = score[better], step
    return found
