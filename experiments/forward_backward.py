"""Smoothness by pair: does the disagreement of a forward and a backward registration tell which one is best?

    python experiments/forward_backward.py WORK -o forward_backward.csv --kinds lung,kidney,brain-to-T2

WORK is the folder of pairs that ``benchmarks/any_organ.py`` made. Every pair is registered with ``fast`` in both
directions at 1, 2, 4 and 8 times the default smoothness. Of points of the fixed image the table has the mean motion
after the affine and the mean round-trip error, and of the landmarks the true error.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pair_rows import add_rows

from maxca.engine.affine import align
from maxca.engine.deformable import optimise
from maxca.engine.settings import between_contrasts, settings_for
from maxca.geometry import Chain
from maxca.io.pairs import read_pairs
from maxca.io.points import read_points
from maxca.options import RegistrationOptions
from maxca.registration.inputs import SideInputs
from maxca.registration.pair import prepare, read_pair

FACTORS = (1, 2, 4, 8)
POINTS = 5000
COLUMNS = ("kind", "factor", "smoothness_mm", "affine_mm", "true_mm", "round_trip_mm", "motion_mm", "ratio")


def rows_of(folder: Path) -> list[dict[str, object]]:
    """One row for each smoothness."""
    (row,) = read_pairs(folder / "pairs.csv")
    assert row.fixed_points is not None and row.moving_points is not None
    here, there = (read_points(path).coordinates for path in (row.fixed_points, row.moving_points))
    volumes = prepare(
        read_pair(SideInputs(row.fixed), SideInputs(row.moving), RegistrationOptions()), torch.device("cpu")
    )
    fixed, moving = volumes.upright, volumes.moving
    found = align(volumes.fixed, moving)
    back = found.affine.inverse()[0]
    usual = settings_for(fixed.grid, "fast")
    usual = usual if found.same_contrast else between_contrasts(usual)
    content = np.argwhere(fixed.values.numpy() > 0.1)
    points = fixed.grid.to_world(content[:: max(1, len(content) // POINTS)])
    out: list[dict[str, object]] = []
    for factor in FACTORS:
        forward = replace(usual, smoothness=usual.smoothness * factor)
        backward = replace(settings_for(moving.grid, "fast"), smoothness=forward.smoothness)
        chain = Chain((optimise(fixed, moving, found.affine, forward)[0], found.affine))
        again = Chain((optimise(moving, fixed, back, backward)[0], back))
        moved = chain.map_points(points)
        round_trip = float(np.linalg.norm(again.map_points(moved) - points, axis=1).mean())
        motion = float(np.linalg.norm(moved - found.affine.map_points(points), axis=1).mean())
        errors = (
            float(np.linalg.norm(c.map_points(here) - there, axis=1).mean()) for c in (Chain((found.affine,)), chain)
        )
        numbers = (forward.smoothness, *errors, round_trip, motion, round_trip / motion)
        out.append(dict(zip(COLUMNS, (folder.name, factor, *(round(n, 3) for n in numbers)), strict=True)))
    return out


if __name__ == "__main__":
    add_rows(__doc__, COLUMNS, rows_of)
