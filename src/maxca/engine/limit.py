"""A largest displacement of the deformation."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from maxca.engine.lattice import Lattice
from maxca.geometry import Affine, DenseField
from maxca.geometry.repair import unfolded
from maxca.geometry.warp import transform_vectors

ROUNDED = 1 / 4000  # of a voxel: see ``DenseField.rounded``
ROUNDS = 8  # most repairs of folds


class Limit:
    """No point moves farther than ``mm`` from where the affine puts it.

    Longer displacements are shortened, along their direction, after every step. Linear interpolation between nodes
    then stays within the limit too.

    Args:
        mm: in moving space.
        affine: fixed world points → moving world points, applied after the field.
    """

    def __init__(self, mm: float, affine: Affine) -> None:
        self.mm, self.linear = mm, affine.matrix[:3, :3]

    def at(self, lattice: Lattice) -> LimitAtLevel:
        """The limit at the nodes of a level."""
        return LimitAtLevel(self, lattice)

    def held(self, field: DenseField) -> DenseField:
        """A field within the limit, also after it is rounded, without folds."""
        least = self.mm - ROUNDED * float(np.abs(self.linear).sum()) * field.grid.smallest_spacing
        for _ in range(ROUNDS):
            field = DenseField(_shortened(field.displacement[None], self.linear, max(least, 0.0))[0], field.grid)
            repaired = unfolded(field)  # a weighted mean, which is within the limit too
            if repaired is field:
                break
            field = repaired
        return field


class LimitAtLevel:
    """See ``Limit``."""

    def __init__(self, limit: Limit, lattice: Lattice) -> None:
        self.mm, self.linear = limit.mm, limit.linear @ lattice.node_grid.direction

    def held(self, displacement: Float[Tensor, "1 3 a b d"]) -> Float[Tensor, "1 3 a b d"]:
        """The displacement of the nodes, in mm along the axes of the fixed grid, within the limit."""
        return _shortened(displacement, self.linear, self.mm)


def _shortened(displacement: Float[Tensor, "1 3 a b d"], linear: np.ndarray, mm: float) -> Float[Tensor, "1 3 a b d"]:
    length = transform_vectors(linear, displacement).norm(dim=1, keepdim=True)
    return displacement * torch.clamp(mm / length.clamp(min=1e-12), max=1)
