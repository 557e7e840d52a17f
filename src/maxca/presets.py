"""Settings of the optimisation by effort, for an image of any size and spacing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from maxca.geometry import Grid
from maxca.losses.similarity import SimilarityName
from maxca.optimise import Level, Settings, level_steps, smallest_spacing

EffortName = Literal["fast", "balanced", "accurate"]
EFFORTS: tuple[EffortName, ...] = get_args(EffortName)

COARSEST = 48  # voxels along the longest axis at the first level: fewer hold no anatomy, more cost time


@dataclass(frozen=True)
class Effort:
    """How much work to do.

    Args:
        voxels: the finest level has at most this many, and never more than the image.
        coarse: steps at each level but the finest.
        fine: steps at the finest level.
    """

    voxels: int
    coarse: int
    fine: int


EFFORT: dict[EffortName, Effort] = {
    "fast": Effort(voxels=1_000_000, coarse=50, fine=20),
    "balanced": Effort(voxels=8_000_000, coarse=50, fine=12),
    "accurate": Effort(voxels=30_000_000, coarse=50, fine=30),
}


def settings_for(
    grid: Grid,
    effort: EffortName,
    similarity: SimilarityName = "lncc",
    smoothness: float | None = None,
) -> Settings:
    """Levels and regularisation for a fixed image.

    Args:
        grid: its grid, cropped to content.
        effort: ``"fast"``, ``"balanced"`` or ``"accurate"``.
        similarity: what the optimisation climbs.
        smoothness: see ``Settings``; by default from the smallest spacing.
    """
    work = EFFORT[effort]
    finest = 1
    while np.prod(grid.every(level_steps(grid, finest)).shape) > work.voxels:
        finest *= 2
    coarsest = finest
    while max(grid.every(level_steps(grid, coarsest)).shape) > COARSEST:
        coarsest *= 2
    factors = [coarsest // 2**n for n in range(int(np.log2(coarsest / finest)) + 1)]
    levels = tuple(Level(f, work.fine if f == finest else work.coarse) for f in factors)
    return Settings(levels, similarity, smoothness or 3 * smallest_spacing(grid))
