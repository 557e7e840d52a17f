"""The made pairs of the benchmark of many organs: corresponding points have corresponding values."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import phantoms
import pytest
from scipy.ndimage import map_coordinates

from maxca.io.images import read
from maxca.io.points import read_points

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import any_organ as room


@pytest.mark.parametrize("flips", ["", "ij"])
@pytest.mark.parametrize(("axes", "unit"), [((0, 1, 2), 1.0), ((1,), 0.06)])
def test_points_of_a_made_pair_correspond(tmp_path: Path, flips: str, axes: tuple[int, ...], unit: float) -> None:
    phantoms.save(tmp_path / "scan.nii.gz", phantoms.image(phantoms.grid((2.0, 2.5, 3.0), flips=flips)))
    made = room.Made("scan.nii.gz", axes=axes, unit=unit, change=room.noisy)
    pair = room.made_pair(tmp_path, made, tmp_path)
    fixed, moving = read(pair.fixed), read(pair.moving)
    here, there = (read_points(path).coordinates for path in (pair.fixed_points, pair.moving_points))
    values = [
        map_coordinates(image.data.astype(float), image.grid.to_voxel(points).T, order=1, mode="nearest")
        for image, points in ((fixed, here), (moving, there))
    ]
    assert np.corrcoef(values)[0, 1] > 0.9
    apart = (here - there) @ fixed.grid.direction / fixed.grid.spacing
    still = [axis for axis in range(3) if axis not in axes]
    np.testing.assert_allclose(apart[:, still], 0, atol=1e-3)
    assert np.abs(apart[:, axes]).max() * fixed.grid.spacing[axes[0]] > 0.01 * fixed.grid.extent


def test_only_the_inside_of_the_lung_slides() -> None:
    body = np.ones((24, 24, 10))
    body[6:18, 6:18] = 0.0
    source = room.Source(body, phantoms.grid((2.0, 2.0, 2.0)).box((0, 0, 0), (24, 24, 10)), body >= 0)
    moved = room.motion(source, room.Made("", sliding=True), np.random.default_rng(0))
    assert np.abs(moved[:, 9:15, 9:15]).max() > 0.1 and np.abs(moved[:, :3]).max() == 0
