"""Regularity penalties of a flow: smoothness and folding.

A flow is (N, 3, I, J, K), in voxels; ``spacing`` is the size of a voxel in mm along each axis, so that a penalty is
independent of slice thickness. Axes with a single voxel are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from maxca.geometry.grid import Grid
from maxca.geometry.jacobian import nondiffeomorphic_volume
from maxca.geometry.transforms import DenseField

ISOTROPIC = (1.0, 1.0, 1.0)


def diffusion(flow: Float[Tensor, "n 3 i j k"], spacing: Sequence[float] = ISOTROPIC) -> Tensor:
    """Mean square of the nine derivatives of the displacement (diffusion regulariser), averaged over voxels.

    Source: Balakrishnan et al., IEEE TMI 38(8), 2019, for ``spacing`` 1.
    """
    mm = _in_mm(flow, spacing)
    parts = [_slope(mm, axis, spacing).square().mean() for axis in range(3) if flow.shape[2 + axis] > 1]
    return torch.stack(parts).sum() / 3 if parts else flow.sum() * 0


def bending(flow: Float[Tensor, "n 3 i j k"], spacing: Sequence[float] = ISOTROPIC) -> Tensor:
    """Bending energy: mean square of the second derivatives, in 1/mm²; 0 for any affine map.

    Source: Rueckert et al., IEEE TMI 18(8), 1999.
    """
    mm = _in_mm(flow, spacing)
    total = flow.sum() * 0
    for a in range(3):
        if flow.shape[2 + a] < 2:
            continue
        slope = _slope(mm, a, spacing)
        for b in range(a, 3):
            if slope.shape[2 + b] > 1:
                total = total + (2 if a != b else 1) * _slope(slope, b, spacing).square().mean()
    return total / 3


def folding(flow: Float[Tensor, "n 3 i j k"]) -> Tensor:
    """Fraction of the volume where the piecewise linear map folds; see ``nondiffeomorphic_volume``."""
    i, j, k = flow.shape[2:]
    grid = Grid((i, j, k), np.eye(4))
    return torch.stack([nondiffeomorphic_volume(DenseField(one, grid)).mean() for one in flow]).mean()


def _in_mm(flow: Tensor, spacing: Sequence[float]) -> Tensor:
    return flow * flow.new_tensor(list(spacing)).view(3, 1, 1, 1)


def _slope(volume: Tensor, axis: int, spacing: Sequence[float]) -> Tensor:
    """Forward differences per mm along a spatial axis; one voxel shorter."""
    return volume.diff(dim=2 + axis) / spacing[axis]
