"""Joint label fusion.

Source: Wang, Suh, Das, Pluta, Craige, Yushkevich, IEEE Trans. PAMI 35(3), 2013, with votes of whole patches. As in
ANTs' ``antsJointFusion``, patches are normalised to mean 0 and variance 1, and negative weights are set to 0.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maxca.workflows.labelling.fusion.patches import NOISE, offsets
from maxca.workflows.labelling.fusion.stack import Slab

CHUNK = 4096  # voxels whose patches are in memory at once


def joint_weights(
    slab: Slab,
    voxels: Int[Tensor, " m"],
    matches: Int[Tensor, "n m"],
    radii: tuple[int, int, int],
    alpha: float,
    beta: float,
) -> Float[Tensor, "n m"]:
    """The weight of each atlas at each voxel; the weights at a voxel add up to 1.

    They minimise the expected error of the weighted vote, if two atlases err together as often as their patches
    differ from the scan together.

    Args:
        slab: with the scan and the atlases.
        voxels: in the flattened slab.
        matches: steps from these voxels to the matching ones of each atlas.
        radii: of a patch.
        alpha: ridge: the larger, the more equal the weights.
        beta: exponent of the common differences: the larger, the more different the weights.
    """
    patch = offsets(radii, slab.target.shape)
    target, images = slab.target.flatten(), slab.images.flatten(1)
    least = (NOISE * slab.target.var()).sqrt() + 1e-12
    count, size = len(images), len(patch)
    ones, ridge = torch.ones(count, 1), alpha * torch.eye(count)
    weights = torch.empty(count, len(voxels))
    for begin in range(0, len(voxels), CHUNK):
        part = slice(begin, begin + CHUNK)
        seen = _normalised(target[voxels[part, None] + patch], least)
        differences = torch.empty(len(seen), count, size)
        for number, image in enumerate(images):
            where = (voxels[part] + matches[number, part])[:, None] + patch
            differences[:, number] = (_normalised(image[where], least) - seen).abs()
        common = torch.bmm(differences, differences.mT) / max(size - 1, 1)
        factor, _ = torch.linalg.cholesky_ex(common.pow(beta) + ridge)
        found = torch.cholesky_solve(ones.expand(len(seen), -1, -1), factor)[..., 0]
        found = found.nan_to_num(1.0).clamp(min=0)
        weights[:, part] = (found / found.sum(1, keepdim=True)).nan_to_num(1 / count).T
    return weights


def _normalised(patches: Float[Tensor, "m p"], least: Tensor) -> Float[Tensor, "m p"]:
    centred = patches - patches.mean(1, keepdim=True)
    spread = (centred.square().sum(1, keepdim=True) / max(patches.shape[1] - 1, 1)).sqrt()
    return centred / torch.maximum(spread, least)
