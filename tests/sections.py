"""Two sections of one tissue with a known smooth motion, in one stain or in two."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from maxca.engine.volume import Volume
from maxca.geometry import Chain, DenseField, Grid

SHAPE = (128, 112, 1)


class Sections:
    """Two sections of one tissue with a known smooth motion; the moving one may have another stain.

    Args:
        stained: brightness of the moving section is a curve that is not monotonic.
        seed: of the tissue, the motion and the noise.
    """

    def __init__(self, stained: bool, seed: int) -> None:
        random, grid = np.random.default_rng(seed), Grid(SHAPE, np.eye(4))
        tissue = gaussian_filter(random.normal(size=SHAPE), (4, 4, 0))
        radius = np.linalg.norm((np.argwhere(np.ones(SHAPE)) - (np.array(SHAPE) - 1) / 2) / SHAPE, axis=1)
        inside = radius.reshape(SHAPE) < 0.42
        tissue = np.where(inside, 0.2 + 0.8 * (tissue - tissue.min()) / np.ptp(tissue), 0)
        motion = np.stack([gaussian_filter(random.normal(size=SHAPE), (14, 14, 0)) * moves for moves in (1, 1, 0)])
        moved = np.indices(SHAPE) + 5 * motion / np.abs(motion).max()
        moving = map_coordinates(tissue, moved, order=1, mode="nearest")
        moving = 1.4 * np.abs(moving - 0.45) if stained else moving
        noisy = ((values + 0.02 * random.normal(size=SHAPE)).clip(0, 1) for values in (tissue, moving))
        self.fixed, self.moving = (Volume(torch.from_numpy(values.astype(np.float32)), grid) for values in noisy)
        there = np.argwhere(inside)[::20]
        self.there, self.here = grid.to_world(there), grid.to_world(moved[:, *there.T].T)

    def error(self, field: DenseField | Chain | None = None) -> float:
        """Mean distance of corresponding points in mm."""
        chain = field if isinstance(field, Chain) else Chain(() if field is None else (field,))
        return float(np.linalg.norm(chain.map_points(self.here) - self.there, axis=1).mean())
