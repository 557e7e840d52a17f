"""What must not matter: where two scans lie in the world, the unit of intensities, which of them is called fixed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from organs import ORGANS, Organ, nodes, to_voxels
from scipy.spatial.transform import Rotation

import maxca
from maxca import Chain, Grid
from maxca.io.images import Image

KINDS = {
    "lncc": replace(ORGANS["kidneys by mean squares"], options={}),
    "mi": ORGANS["kidneys in two contrasts"],
    "mse": ORGANS["kidneys by mean squares"],
}


@dataclass(frozen=True)
class Found:
    """A kind of pair, its images (fixed and moving), and the transform that was found for them."""

    kind: Organ
    images: tuple[Image, Image]
    chain: Chain

    @property
    def grids(self) -> tuple[Grid, Grid]:
        return self.images[0].grid, self.images[1].grid

    @property
    def inside(self) -> np.ndarray:
        """Where the fixed organ is."""
        return self.kind.labels(self.kind.truth(nodes(self.grids[0]))) > 0

    def register(self, fixed: Image, moving: Image) -> Chain:
        return register(self.kind, fixed, moving)


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest) -> Found:
    kind = replace(KINDS[request.param], spacing=(11.0, 11.0, 11.0), moving_spacing=(10.0, 11.0, 12.0))
    images = kind.fixed(), kind.moving()
    return Found(kind, images, register(kind, *images))


def register(kind: Organ, fixed: Image, moving: Image) -> Chain:
    options: dict[str, Any] = {"model": "none", "effort": "fast", "threads": 1, **kind.options}
    return maxca.register(fixed, moving, **options).chain


def apart(pair: Found, voxels: np.ndarray) -> np.ndarray:
    """Distances in the organ, in voxels, between what was found and other moving voxel coordinates (I, J, K, 3)."""
    return np.linalg.norm(voxels - matched(pair.chain, *pair.grids), axis=-1)[pair.inside]


def matched(chain: Chain, fixed: Grid, moving: Grid) -> np.ndarray:
    """Moving voxel coordinates (I, J, K, 3) of all fixed voxels."""
    return to_voxels(moving, chain.map_points(nodes(fixed)))


@pytest.mark.parametrize("seed", range(2))
def test_one_rigid_motion_of_both_headers_changes_nothing_in_voxels(pair: Found, seed: int) -> None:
    # Not to the last digit: the affine searches along the axes of the world and stops within a fraction of a voxel.
    motion = np.eye(4)
    motion[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    motion[:3, 3] = np.random.default_rng(seed).uniform(-300, 300, 3)
    fixed, moving = (replace(each, grid=Grid(each.grid.shape, motion @ each.grid.affine)) for each in pair.images)
    difference = apart(pair, matched(pair.register(fixed, moving), fixed.grid, moving.grid))
    assert difference.mean() < 0.15
    assert difference.max() < 0.3


@pytest.mark.parametrize(("scale", "offset", "within"), [(2.0**-10, 0.0, 1e-3), (37.0, -1e4, 0.3)])
def test_scale_and_offset_of_intensities_change_nothing(
    pair: Found, scale: float, offset: float, within: float
) -> None:
    # A power of two keeps every bit; otherwise float32 rounds, and the affine stops within a fraction of a voxel.
    images = (replace(each, data=(each.data * scale + offset).astype(np.float32)) for each in pair.images)
    assert apart(pair, matched(pair.register(*images), *pair.grids)).max() < within


def test_exchanging_fixed_and_moving_gives_about_the_inverse(pair: Found) -> None:
    points = nodes(pair.grids[0])[pair.inside]
    there = pair.chain.map_points(points)
    back = pair.register(*reversed(pair.images)).map_points(there)
    motion, left = (np.linalg.norm(each - points, axis=-1).mean() for each in (there, back))
    assert left < 0.3 * motion
