"""Settings of the optimisation for each effort, for images of any size and spacing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from maxca.engine.volume import Steps, steps_within
from maxca.geometry import Grid
from maxca.losses.similarity import WINDOW
from maxca.options import EffortName

Combine = Literal["never", "smoother", "always"]  # "smoother": if trials increase the smoothness

COARSEST = 48  # voxels along the longest axis at the first level: fewer resolve no anatomy, more cost time
SMOOTHNESS = 2.0  # smallest spacings; see docs/decisions/2026-11-27-relaxation.md
SLICE_SMOOTHNESS = 3.0  # of a slice, where as many voxels have a larger extent
SMOOTHER = 3.0  # between contrasts; see docs/decisions/2026-11-21-affine-and-optimiser.md
STEADIER = 2.0  # for changes of one subject; see experiments/longitudinal.py
STEPS = 50  # most steps per level; coarse ones cost little
AFFORDABLE = 8_000_000  # voxels times steps at full resolution that take seconds: minimum for small images


@dataclass(frozen=True)
class Level:
    """One scale of the optimisation.

    Args:
        factor: voxel size of the level, in multiples of the smallest spacing of the fixed image.
        steps: maximum number of steps.
        window: voxels in a window of local NCC: 125 is 5 along each axis.
        nodes: distance of the field's nodes, in voxels of the level.
    """

    factor: int
    steps: int
    window: int = WINDOW
    nodes: int = 2

    def voxels(self, grid: Grid) -> int:
        """Number of voxels of the level for a fixed image on ``grid``."""
        return int(np.prod(grid.every(level_steps(grid, self.factor)).shape))


@dataclass(frozen=True)
class Settings:
    """Settings of the optimisation.

    Args:
        levels: from coarse to fine.
        similarity: a key of ``losses.similarity.SIMILARITIES``.
        smoothness: regularisation: Gaussian σ of the update in mm at the finest level; coarser levels scale it.
        stride: length of a step, the largest motion of any node, in voxels of the level.
        momentum: fraction of the last step added to the next.
        relaxation: σ of the smoothing of the whole field after each step, as a fraction of ``smoothness``.
        patience: a level ends if the similarity has not increased by ``tolerance`` in this many steps.
        tolerance: see ``patience``.
        axes: of the fixed grid, along which points move.
        trials: whether trials may increase the smoothness, see ``engine.support``.
        combine: whether mutual information is maximised together with the similarity.
    """

    levels: tuple[Level, ...]
    similarity: str = "lncc"
    smoothness: float = 3.0
    stride: float = 0.5
    momentum: float = 0.9
    relaxation: float = 0.25
    patience: int = 5
    tolerance: float = 2e-3
    axes: tuple[bool, bool, bool] = (True, True, True)
    trials: bool = False
    combine: Combine = "never"


@dataclass(frozen=True)
class Effort:
    """Amount of computation of an effort.

    Args:
        voxels: the finest level has at most this many, and never more than the image.
        fine: minimum number of steps at full resolution, where one takes as long as eight at half; more for small
            images.
    """

    voxels: int
    fine: int


EFFORT: dict[EffortName, Effort] = {
    "fast": Effort(voxels=1_000_000, fine=8),
    "balanced": Effort(voxels=8_000_000, fine=12),
    "accurate": Effort(voxels=30_000_000, fine=30),
}


def settings_for(
    grid: Grid,
    effort: EffortName,
    similarity: str = "lncc",
    smoothness: float | None = None,
) -> Settings:
    """Levels and regularisation for a fixed image.

    Args:
        grid: its grid, cropped to content.
        effort: ``"fast"``, ``"balanced"`` or ``"accurate"``.
        similarity: the measure to maximise.
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
    cheap = AFFORDABLE // int(np.prod(grid.shape))
    levels = tuple(Level(f, STEPS if f > 1 else min(max(work.fine, cheap), STEPS)) for f in factors)
    usual = SLICE_SMOOTHNESS if grid.thin_axes else SMOOTHNESS
    return Settings(levels, similarity, smoothness or usual * grid.smallest_spacing)


def between_contrasts(settings: Settings) -> Settings:
    """Settings for two images of different contrast: smoother, because similarity is less specific.

    Args:
        settings: for two images of one contrast.
    """
    return replace(settings, smoothness=SMOOTHER * settings.smoothness)


def within_subject(settings: Settings) -> Settings:
    """Settings for one subject at two times: smoother, because changes are small and noise is as strong.

    Args:
        settings: for two subjects.
    """
    return replace(settings, smoothness=STEADIER * settings.smoothness)


def refining(settings: Settings, steps: int | None = None) -> Settings:
    """Settings of the refinement of a predicted field.

    Args:
        settings: for a pair without one.
        steps: maximum number at the finest level alone; None for the unchanged two finest levels.
    """
    if steps is None:
        return replace(settings, levels=settings.levels[-2:])
    finest = settings.levels[-1]
    return replace(settings, levels=(replace(finest, steps=min(steps, finest.steps)),) if steps else ())


def level_steps(grid: Grid, factor: int) -> Steps:
    """Strides of the voxels of the fixed grid at a level."""
    return steps_within(grid, factor * grid.smallest_spacing)
