"""Smoothness by pair: does the similarity of windows that the optimisation has not seen tell which one is best?

    python experiments/held_out.py PAIRS -o held_out.csv --kinds lung,kidney

PAIRS is a folder of folders with a ``pairs.csv``, as ``benchmarks/any_organ.py`` makes them. A third of the fixed
image, blocks of eight voxels of the finest level of ``fast``, is masked out of the optimisation at 1, 2, 4 and 8 times
the default smoothness. The table has the gain of local NCC over the affine in the windows of the blocks, weighted by
the square of what is left to gain under the affine, and the error of the registration that sees the whole image: that
of the landmarks in mm, or 1 minus the Dice of the labels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pair_rows import add_rows, overlap
from scipy.ndimage import binary_erosion

from maxca.engine.affine import align
from maxca.engine.deformable import optimise
from maxca.engine.settings import between_contrasts, settings_for
from maxca.engine.volume import Volume, every, steps_within
from maxca.geometry import Chain, Grid
from maxca.io.images import read
from maxca.io.pairs import Pair, read_pairs
from maxca.io.points import read_points
from maxca.losses.similarity import LocalNCC, similarity_measure
from maxca.options import RegistrationOptions
from maxca.registration.inputs import SideInputs
from maxca.registration.pair import prepare, read_pair

FACTORS = (1, 2, 4, 8)
BLOCK, SHARE, CENTRE = 8.0, 0.35, 2.0  # voxels of the finest level; of the image; voxels of a block not evaluated
COLUMNS = ("kind", "factor", "smoothness_mm", "affine_error", "error", "held_out_gain", "plain_gain")


def blocks(grid: Grid, mm: float) -> np.ndarray:
    """(I, J, K) bool: blocks of about ``mm`` that are held out."""
    wide = [max(1, round(mm / s)) if n > 1 else 1 for s, n in zip(grid.spacing, grid.shape, strict=True)]
    random = np.random.default_rng(0)
    chosen = random.random([-(-n // w) + 1 for n, w in zip(grid.shape, wide, strict=True)]) < SHARE
    index = [(np.arange(n) + random.integers(w)) // w for n, w in zip(grid.shape, wide, strict=True)]
    return np.asarray(chosen[np.ix_(*index)])


def centres(held: np.ndarray, grid: Grid, mm: float) -> np.ndarray:
    """The voxels of blocks that are more than ``mm`` from their faces."""
    for axis, (s, n) in enumerate(zip(grid.spacing, grid.shape, strict=True)):
        if n > 1:
            width = 2 * round(mm / s) + 1
            held = binary_erosion(held, np.ones([width if a == axis else 1 for a in range(3)]), border_value=1)
    return held


@dataclass(frozen=True, eq=False)
class Judge:
    """Local NCC of the windows in held-out blocks.

    Args:
        measure: of the fixed image at the finest level.
        fixed: its grid.
        moving: the moving image at that level.
        weight: of the windows.
    """

    measure: LocalNCC
    fixed: Grid
    moving: Volume
    weight: torch.Tensor

    def windows(self, chain: Chain) -> torch.Tensor:
        """Squared local NCC of every window."""
        measure = self.measure
        warped = chain.resample(self.moving.values[None], self.moving.grid, self.fixed)[0]
        mean = measure.window(warped)
        variance = (measure.window(warped * warped) - mean**2).clamp(min=0) + measure.noise
        cross = measure.window(measure.fixed * warped) - measure.mean * mean
        return cross**2 / ((measure.variance + measure.noise) * variance)

    def gain(self, before: Chain, after: Chain, power: int) -> float:
        """Mean gain, weighted by a power of what is left to gain."""
        start = self.windows(before)
        weight = self.weight * (1 - start).clamp(min=0) ** power
        return float(((self.windows(after) - start) * weight).sum() / weight.sum().clamp(min=1e-6))


def judge_of(fixed: Volume, moving: Volume, held: np.ndarray, mm: float) -> Judge:
    """The judge of a pair at the spacing of the finest level."""
    inside = torch.as_tensor(centres(held, fixed.grid, CENTRE * mm), dtype=torch.float32)
    seen = every(Volume(fixed.channels, fixed.grid, inside), steps_within(fixed.grid, mm))
    measure = similarity_measure("lncc", seen.values, seen.grid, None)
    assert isinstance(measure, LocalNCC) and seen.mask is not None
    weight = (measure.window(seen.mask) > 0.5).float() * measure.weight
    return Judge(measure, seen.grid, every(moving, steps_within(moving.grid, mm)), weight)


def error(row: Pair, chain: Chain) -> float:
    """Mean distance of landmarks in mm, or 1 minus the mean Dice of the labels."""
    if row.fixed_points is not None and row.moving_points is not None:
        here, there = (read_points(path).coordinates for path in (row.fixed_points, row.moving_points))
        return float(np.linalg.norm(chain.map_points(here) - there, axis=1).mean())
    assert row.fixed_labels is not None and row.moving_labels is not None
    return 1 - overlap(chain, read(row.fixed_labels), read(row.moving_labels))


def rows_of(folder: Path) -> list[dict[str, object]]:
    """One row for each smoothness."""
    (row,) = read_pairs(folder / "pairs.csv")
    pair = read_pair(SideInputs(row.fixed), SideInputs(row.moving), RegistrationOptions())
    volumes = prepare(pair, torch.device("cpu"))
    fixed, moving = volumes.upright, volumes.moving
    found = align(volumes.fixed, moving)
    usual = settings_for(fixed.grid, "fast")
    usual = usual if found.same_contrast else between_contrasts(usual)
    mm = usual.levels[-1].factor * fixed.grid.smallest_spacing
    held = blocks(fixed.grid, BLOCK * mm)
    partly = Volume(fixed.channels, fixed.grid, torch.as_tensor(~held, dtype=torch.float32))
    judge, before = judge_of(fixed, moving, held, mm), Chain((found.affine,))
    out: list[dict[str, object]] = []
    for factor in FACTORS:
        settings = replace(usual, smoothness=usual.smoothness * factor)
        unseen, whole = (Chain((optimise(v, moving, found.affine, settings)[0], found.affine)) for v in (partly, fixed))
        gains = (judge.gain(before, unseen, power) for power in (2, 0))
        numbers = (settings.smoothness, error(row, before), error(row, whole), *gains)
        out.append(dict(zip(COLUMNS, (folder.name, factor, *(round(n, 4) for n in numbers)), strict=True)))
    return out


if __name__ == "__main__":
    add_rows(__doc__, COLUMNS, rows_of)
