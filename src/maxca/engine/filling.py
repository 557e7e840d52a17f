"""Excluded regions filled by the motion of their surroundings.

The similarity says nothing inside an excluded region, and little at its border. After every step of the optimisation
the field in it is replaced by local affines, each fitted to the field in a shell around the region, nearer parts with
more weight: moving least squares. A region whose surroundings move rigidly is moved rigidly, and keeps its volume.

Source: Levin, Mathematics of Computation 67(224), 1998.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from maxca.engine.lattice import Lattice
from maxca.engine.volume import Volume, every, steps_within
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.geometry.grid import triple
from maxca.geometry.separable import Separable, gaussian, per_axis
from maxca.geometry.warp import transform_vectors

BLEND = 1.0  # nodes: σ of the transition around a region
LEAST = 0.01  # of a node's cell: less of a region or of its shell is nothing
EVERYWHERE = 1e-3  # weight of the whole shell, relative to that near a node
FLAT = 0.1  # of the spacing of the nodes: directions in which the shell extends less are not fitted


@dataclass(frozen=True, eq=False)
class Region:
    """An excluded region of an image.

    Args:
        shape: one channel: its mask, on any grid.
        shell: one channel: a mask of its surroundings, on the same grid.
        reach: σ of the weights of the surroundings, mm.
        moving: it is a part of the moving image, otherwise of the fixed one.
    """

    shape: Volume
    shell: Volume
    reach: float
    moving: bool = False


class Filling:
    """Fills excluded regions, as a constraint of the deformation.

    Args:
        regions: of the pair.
        affine: fixed world points → moving world points, applied after the field.
    """

    def __init__(self, regions: Sequence[Region], affine: Affine) -> None:
        self.regions, self.affine = regions, affine

    def at(self, lattice: Lattice) -> FillingAtLevel:
        """The regions at the nodes of a level."""
        return FillingAtLevel(self, lattice)

    def held(self, field: DenseField) -> DenseField:
        """The field itself, which was filled at the nodes."""
        return field


class FillingAtLevel:
    """See ``Filling``."""

    def __init__(self, filling: Filling, lattice: Lattice) -> None:
        self.grid, self.affine = lattice.node_grid, filling.affine
        self.regions = [_OnNodes(region, self.grid) for region in filling.regions]

    def held(self, displacement: Float[Tensor, "1 3 a b d"]) -> Float[Tensor, "1 3 a b d"]:
        """The displacement of the nodes, in mm along the axes of the fixed grid, with the regions filled."""
        field = DenseField(transform_vectors(self.grid.direction, displacement)[0], self.grid)
        chain = Chain((self.affine,)) @ Chain((field,))
        out = displacement.clone()
        for region in self.regions:
            place = region.place(chain)
            if place is not None:
                here = (0, slice(None), *place.box)
                filled = extrapolated(displacement[here], place.shell, place.grid, region.reach)
                out[here] += place.weight * (filled - displacement[here])
        return out


class _Place(NamedTuple):
    """Where a region is on the nodes.

    Args:
        box: of nodes around it.
        grid: of the box.
        weight: (A, B, D) of the filling.
        shell: (A, B, D) weights of its surroundings.
    """

    box: tuple[slice, slice, slice]
    grid: Grid
    weight: Tensor
    shell: Tensor


class _OnNodes:
    """A region on a grid of nodes."""

    def __init__(self, region: Region, grid: Grid) -> None:
        both = Volume(torch.cat([region.shape.channels, region.shell.channels]), region.shape.grid)
        self.masks = every(both, steps_within(both.grid, grid.smallest_spacing))
        self.grid, self.reach = grid, region.reach
        self.moving, self.fixed = region.moving, None if region.moving else self._placed(Chain())

    def place(self, chain: Chain) -> _Place | None:
        """Where it is under a map, fixed world points → moving world points; None if it is smaller than the nodes."""
        return self._placed(chain) if self.moving else self.fixed

    def _placed(self, chain: Chain) -> _Place | None:
        grid = self.grid
        inside, shell = chain.resample(self.masks.channels, self.masks.grid, grid)
        shell = shell * (1 - inside)
        index = torch.nonzero(torch.maximum(inside, shell) > LEAST).cpu().numpy()
        if not bool((inside > LEAST).any() & (shell > LEAST).any()):
            return None
        sigmas = BLEND * grid.smallest_spacing / grid.spacing
        margin = np.ceil(4 * sigmas)
        low = (index.min(axis=0) - margin).clip(0).astype(int)
        high = np.minimum(index.max(axis=0) + margin + 1, grid.shape).astype(int)
        box = triple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        around = grid.box(low, high)
        blend = per_axis(gaussian, around.shape, (1, 1, 1), sigmas).to(inside.device)
        weight = torch.maximum(inside[box], (2 * blend(inside[box])).clamp_(max=1))
        return _Place(box, around, weight, shell[box])


def extrapolated(
    vectors: Float[Tensor, "3 a b d"], weight: Float[Tensor, "a b d"], grid: Grid, reach: float
) -> Float[Tensor, "3 a b d"]:
    """A field from its values where there is weight: at each node, the affine that fits the values around it best.

    Args:
        vectors: values at the nodes.
        weight: of the values, at least 0, not all 0.
        grid: of the nodes.
        reach: σ of the Gaussian weights of the surroundings of a node, mm; at least the spacing of the nodes.
    """
    sigmas = [
        max(reach, spacing) / spacing if n > 1 else 0.0 for spacing, n in zip(grid.spacing, grid.shape, strict=True)
    ]
    means = per_axis(gaussian, grid.shape, (1, 1, 1), sigmas).to(vectors.device)
    axes = [torch.arange(n, device=vectors.device) * float(mm) for n, mm in zip(grid.shape, grid.spacing, strict=True)]
    at = torch.stack(torch.meshgrid(*(axis - axis.mean() for axis in axes), indexing="ij")).to(vectors.dtype)
    known = torch.cat([torch.ones_like(at[:1]), at, vectors])  # 1, x, d
    products = (known[:, None] * at[None]).flatten(0, 1)  # x, x xᵀ, d xᵀ
    local = _both(means, weight * torch.cat([known, products])).double()
    total = local[0].clamp(min=1e-30)
    x, d = local[1:4] / total, local[4:7] / total
    moments = (local[7:] / total).view(7, 3, *grid.shape)
    spread = moments[1:4] - x[:, None] * x[None]
    together = moments[4:7] - d[:, None] * x[None]
    flat = (FLAT * grid.smallest_spacing) ** 2 * torch.eye(3, dtype=torch.float64, device=vectors.device)
    slopes = torch.linalg.solve(spread.permute(2, 3, 4, 0, 1) + flat, together.permute(2, 3, 4, 1, 0))
    away = (at.double() - x).permute(1, 2, 3, 0)
    return (d + torch.einsum("abdj,abdji->iabd", away, slopes)).to(vectors.dtype)


def _both(means: Separable, values: Tensor) -> Tensor:
    """Means around each node, with a little of the mean over all, for nodes that are far from any weight."""
    return means(values) + EVERYWHERE * values.mean(dim=(1, 2, 3), keepdim=True)
