"""One subject at two times: neither image is treated differently, and the change of volume is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import phantoms
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import maxca
from maxca import Result
from maxca.cli.main import main
from maxca.fields import OptionError
from maxca.geometry import Affine, Grid
from maxca.io.images import Image
from maxca.options import RegistrationOptions
from maxca.registration.halfway import half_of, halfway_grid, mean_rigid

WHERE = phantoms.grid((2.5, 2.5, 2.5))
QUICK: dict[str, Any] = {"preset": "longitudinal", "effort": "fast", "threads": 1}
CENTER = np.array([8.0, -2.0, 5.0])  # of what grows
GROWTH, REACH = 0.08, 12.0  # along each axis, in the middle; mm

angles = st.tuples(*[st.floats(-1, 1)] * 3)


def rigid(angle: Any, shift: Any) -> Affine:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.asarray(angle)).as_matrix()
    matrix[:3, 3] = shift
    return Affine(matrix)


TURN = rigid((0.03, -0.05, 0.04), (2.0, -1.5, 1.0))


def earlier(points: np.ndarray) -> np.ndarray:
    """Where moving points were before: a part grows, and the head turns."""
    back = TURN.inverse()[0].map_points(points)
    share = np.exp(-(((back - CENTER) / REACH) ** 2).sum(-1, keepdims=True) / 2)
    return np.asarray(back - GROWTH * share * (back - CENTER))


@pytest.fixture(scope="module")
def images() -> tuple[Image, Image]:
    noise = np.random.default_rng(0).normal(0, 3, (2, *WHERE.shape))
    fixed = phantoms.image(WHERE)
    moving = phantoms.image(WHERE, through=earlier)
    return replace(fixed, data=fixed.data + noise[0]), replace(moving, data=moving.data + noise[1])


@pytest.fixture(scope="module")
def found(images: tuple[Image, Image]) -> Result:
    return maxca.register(*images, **QUICK)


def points(count: int = 2000) -> np.ndarray:
    inside = phantoms.nodes(WHERE)[phantoms.inside(phantoms.nodes(WHERE)) > 0.5]
    return np.random.default_rng(1).permutation(inside)[:count]


def test_exchanged_images_give_the_inverse(images: tuple[Image, Image], found: Result) -> None:
    """Without the preset, both directions differ several times more."""
    back = maxca.register(*images[::-1], **QUICK)
    usual = [maxca.register(*pair, effort="fast", threads=1, model="none") for pair in (images, images[::-1])]
    apart = [
        np.linalg.norm(b.chain.map_points(a.chain.map_points(points())) - points(), axis=1)
        for a, b in ((found, back), usual)
    ]
    assert np.percentile(apart[0], 99) < 0.1 * WHERE.smallest_spacing
    assert apart[0].mean() < apart[1].mean() / 3


def test_growth_is_found_where_it_is(found: Result) -> None:
    change = found.volume_change
    assert change is not None and change.grid == WHERE
    far = np.linalg.norm(phantoms.nodes(WHERE) - CENTER, axis=-1)
    inside = phantoms.inside(phantoms.nodes(WHERE)) > 0.5
    core = change.data[inside & (far < 6)].mean()
    assert 0.5 < core / (100 * ((1 + GROWTH) ** 3 - 1)) < 1.3
    assert abs(change.data[inside & (far > 30)].mean()) < 1.0
    assert found.metrics.folding.ndv_percent == 0


def test_the_affine_is_rigid_and_the_inverse_exact(found: Result) -> None:
    assert found.record.affine is not None
    matrix = np.array(found.record.affine.affine)[:3, :3]
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(3), atol=1e-6)
    back = found.inverse.map_points(found.chain.map_points(points()))
    assert np.linalg.norm(back - points(), axis=1).max() < 0.4 * WHERE.smallest_spacing


@settings(deadline=None, max_examples=60)
@given(angle=angles, shift=angles)
def test_half_a_motion_twice_is_the_motion(angle: Any, shift: Any) -> None:
    whole = rigid(np.multiply(angle, 1.6), np.multiply(shift, 90))
    half = half_of(whole)
    np.testing.assert_allclose((half @ half).matrix, whole.matrix, atol=1e-9)
    np.testing.assert_allclose(mean_rigid(whole, whole).matrix, whole.matrix, atol=1e-9)
    back = half_of(whole.inverse()[0]).matrix
    np.testing.assert_allclose(back, half.inverse()[0].matrix, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(angle=angles, shift=angles, tilt=angles, order=st.permutations(range(3)), flips=st.tuples(*[st.booleans()] * 3))
def test_the_halfway_grid_covers_both_images_and_is_halfway(
    angle: Any, shift: Any, tilt: Any, order: list[int], flips: Any
) -> None:
    fixed = phantoms.grid((3.0, 4.0, 3.0))
    matrix = rigid(np.multiply(tilt, 0.3), (4, 5, 6)).matrix @ fixed.affine
    matrix[:, :3] = matrix[:, order] * np.where(flips, -1, 1)
    moving = Grid(tuple(fixed.shape[axis] for axis in order), matrix)
    whole = rigid(np.multiply(angle, 0.3), np.multiply(shift, 20))
    half = half_of(whole)
    grid, other = halfway_grid(fixed, moving, half), halfway_grid(moving, fixed, half.inverse()[0])
    for image, to_image in ((fixed, half.inverse()[0]), (moving, half)):
        at = grid.to_voxel(to_image.inverse()[0].map_points(image.corners))
        assert (at > -1).all() and (at < np.array(grid.shape)).all()
    # Exchanged, the same axes up to their order and direction.
    alike = np.abs(grid.direction.T @ other.direction)
    np.testing.assert_allclose(np.sort(alike, axis=0)[-1], 1, atol=1e-6)
    np.testing.assert_allclose(grid.center, other.center, atol=1e-6)


@pytest.mark.parametrize(
    "given",
    [{"transform": "affine"}, {"guide": ("points",)}, {"restrict": "0x1x0"}, {"initial_transform": "center"}],
)
def test_what_is_not_symmetric_is_refused(given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(OptionError, match=f"{name}=.*not supported with preset=longitudinal"):
        RegistrationOptions(preset="longitudinal", **given)


def test_a_model_is_used_only_if_it_is_named() -> None:
    assert RegistrationOptions(preset="longitudinal").model == "none"
    assert RegistrationOptions(preset="longitudinal", model="brain-names").model == "brain-names"


def test_the_command_writes_the_map_and_says_it(images: tuple[Image, Image], tmp_path: Path) -> None:
    for name, image in zip(("fixed", "moving"), images, strict=True):
        image.save(tmp_path / f"{name}.nii.gz")
    labels = phantoms.image(WHERE, what=phantoms.regions)
    labels.save(tmp_path / "labels.nii.gz")
    words = ["-f", tmp_path / "fixed.nii.gz", "-m", tmp_path / "moving.nii.gz", "-o", tmp_path / "out"]
    words += ["--fixed-labels", tmp_path / "labels.nii.gz", "--effort", "fast", "--threads", "1", "--report"]
    assert main(["register", "--preset", "longitudinal", *map(str, words)]) == 0
    written = nib.load(tmp_path / "out" / "volume_change.nii.gz")
    loaded = Result.load(tmp_path / "out")
    assert loaded.volume_change is not None and loaded.metrics.volume_change is not None
    np.testing.assert_array_equal(np.asarray(written.dataobj), loaded.volume_change.data)
    assert set(loaded.metrics.volume_change.by_label) == {"1", "2", "3", "4"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Change of volume" in page and "change in percent" in page
