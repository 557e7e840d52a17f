"""``maxca.register`` finds a deformation that is known, whatever the grids, the kinds of input and the similarity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import phantoms
import pytest

import maxca
from maxca import Affine, Chain, MaxcaError, Result
from maxca.io.form import Form
from maxca.io.images import Image
from maxca.io.itk import to_sitk
from maxca.io.transforms import write_transform

BEFORE = phantoms.error(Chain())
START = Chain((Affine.identity(),))
COARSE = phantoms.grid((4.0, 4.0, 4.0))


def register(fixed: Any, moving: Any, **settings: Any) -> Result:
    """One thread: small steps on busy cores wait for each other, and a start that is given needs no search."""
    return maxca.register(fixed, moving, **{"effort": "fast", "initial_transform": START, "threads": 1, **settings})


@pytest.fixture(scope="session")
def found() -> Result:
    """The pair that the others are held against."""
    fixed = phantoms.image(phantoms.grid(), phantoms.bend)
    return register(fixed, phantoms.image(phantoms.grid()), effort="balanced", initial_transform=None)


def test_a_known_deformation_is_recovered(found: Result) -> None:
    assert phantoms.error(found.chain) < 0.4 * BEFORE
    assert found.metrics.similarity.after > found.metrics.similarity.before
    assert found.metrics.folding.nonpositive_percent == 0


def test_the_field_finds_more_than_the_affine(found: Result) -> None:
    fixed, moving = phantoms.image(phantoms.grid(), phantoms.bend), phantoms.image(phantoms.grid())
    affine = register(fixed, moving, transform="affine").chain
    rigid = register(fixed, moving, transform="rigid").chain
    assert phantoms.error(found.chain) < phantoms.error(affine) < BEFORE
    assert affine.is_affine
    turn = rigid.as_affine().matrix[:3, :3]
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-5)


def test_the_inverse_leads_back(found: Result) -> None:
    points = phantoms.nodes(phantoms.grid((6.0, 6.0, 6.0), extent=40.0)).reshape(-1, 3)
    back = found.inverse.map_points(found.chain.map_points(points))
    apart = np.linalg.norm(back - points, axis=-1)
    assert apart.mean() < 0.2  # exact at the nodes of the field, 5 mm apart here, and linear between them
    assert apart.max() < 1.0


def test_the_warped_image_resembles_the_fixed_one(found: Result) -> None:
    fixed = phantoms.image(phantoms.grid(), phantoms.bend).data.astype(float)
    moving = phantoms.image(phantoms.grid()).data.astype(float)
    assert found.warped.dtype == np.int16
    assert np.abs(found.warped.data - fixed).mean() < 0.5 * np.abs(moving - fixed).mean()


@pytest.mark.parametrize("flips", ["ij", "k"])
def test_axes_that_run_backwards_change_nothing_in_the_world(found: Result, flips: str) -> None:
    where = phantoms.grid(flips=flips)
    fixed = phantoms.image(where, phantoms.bend)
    chain = register(fixed, phantoms.image(phantoms.grid()), effort="balanced", initial_transform=None).chain
    points = phantoms.nodes(phantoms.grid((6.0, 6.0, 6.0), extent=36.0)).reshape(-1, 3)
    apart = np.linalg.norm(chain.map_points(points) - found.chain.map_points(points), axis=-1)
    assert apart.mean() < 0.1 * BEFORE
    assert phantoms.error(chain) < 0.4 * BEFORE


def test_thick_slices_are_the_normal_case() -> None:
    where = phantoms.grid((2.0, 2.0, 6.0))
    chain = register(phantoms.image(where, phantoms.bend), phantoms.image(phantoms.grid()), effort="balanced").chain
    assert phantoms.error(chain) < 0.5 * BEFORE


def test_mutual_information_copes_with_another_contrast() -> None:
    moving = phantoms.image(phantoms.grid())
    inverted = Image(np.where(moving.data > 0, 800 - moving.data, 0).astype(np.int16), moving.grid)
    chain = register(phantoms.image(phantoms.grid(), phantoms.bend), inverted, similarity="mi", effort="balanced").chain
    assert phantoms.error(chain) < 0.6 * BEFORE


@pytest.mark.parametrize(("given", "times"), [(None, 6), (5.0, 2.5)])
def test_between_contrasts_it_is_smoother_unless_told(given: float | None, times: float) -> None:
    where = phantoms.grid((2.0, 2.0, 2.0))
    moving = phantoms.image(where)
    other = Image(np.where(moving.data > 0, np.abs(moving.data - 400) + 100, 0).astype(np.int16), where)
    record = register(moving, other, similarity="mi", effort="fast", smoothness=given).record
    assert not record.affine.same_contrast
    assert record.optimisation["smoothness"] == times * where.smallest_spacing


@pytest.mark.parametrize(
    ("similarity", "said"), [("lncc", "inspect the result"), ("mse", "use similarity=lncc"), ("mi", "")]
)
def test_another_contrast_is_said(similarity: str, said: str) -> None:
    moving = phantoms.image(COARSE)
    other = Image(np.where(moving.data > 0, np.abs(moving.data - 400) + 100, 0).astype(np.int16), COARSE)
    told = [w for w in register(moving, other, similarity=similarity, effort="fast").warnings if "contrast" in w]
    assert len(told) == bool(said)
    assert all(said in warning for warning in told)


def test_mean_squares_work_within_one_contrast() -> None:
    pair = phantoms.image(phantoms.grid(), phantoms.bend), phantoms.image(phantoms.grid())
    assert phantoms.error(register(*pair, similarity="mse", effort="balanced").chain) < 0.4 * BEFORE


@pytest.mark.parametrize("effort", ["fast", "balanced", "accurate"])
def test_every_effort_helps(effort: str) -> None:
    pair = phantoms.image(COARSE, phantoms.bend), phantoms.image(COARSE)
    result = register(*pair, effort=effort)
    assert phantoms.error(result.chain) < 0.7 * BEFORE
    assert result.record.settings.effort == effort


def test_paths_and_images_of_other_libraries_give_the_same_result(tmp_path: Path) -> None:
    pair = phantoms.image(COARSE, phantoms.bend), phantoms.image(COARSE)
    paths = [phantoms.save(tmp_path / f"{n}.nii.gz", each) for n, each in enumerate(pair)]
    sources = (
        pair,
        paths,
        [str(p) for p in paths],
        [nib.load(p) for p in paths],
        [to_sitk(e.data, e.grid) for e in pair],
    )
    warped = [register(*source).warped for source in sources]
    for other in warped[1:]:
        # ITK keeps directions and spacing apart, so its grid may differ in the last digit
        np.testing.assert_allclose(other.data.astype(int), warped[0].data.astype(int), atol=1)
        assert other.dtype == warped[0].dtype


def test_a_start_is_taken_from_a_file_or_a_chain(found: Result, tmp_path: Path) -> None:
    pair = phantoms.image(phantoms.grid(), phantoms.bend), phantoms.image(phantoms.grid())
    write_transform(found.chain, tmp_path / "start.h5")
    for start in (found.chain, tmp_path / "start.h5"):
        assert phantoms.error(register(*pair, initial_transform=start).chain) < 0.5 * BEFORE


@pytest.mark.parametrize("similarity", ["lncc", "mi"])
def test_masks_keep_out_what_moved_on_its_own(similarity: str) -> None:
    """The lower half slides 9 mm to the side, the upper half stays: which of them counts, masks decide."""
    where = phantoms.grid()
    points = phantoms.nodes(where)
    upper = Image((points[..., 2] > 0).astype(np.uint8), where)
    pair = phantoms.image(where), phantoms.image(where, lambda x: x + (x[..., 2:] <= 0) * np.array([9.0, 0, 0]))
    settings = {"similarity": similarity, "transform": "rigid"}
    masked = register(*pair, fixed_mask=upper, moving_mask=upper, **settings)
    pulled = register(*pair, **settings)
    inside = points[upper.data > 0]
    left, drawn = (
        np.linalg.norm(found.chain.map_points(inside) - inside, axis=-1).mean() for found in (masked, pulled)
    )
    assert left < 1
    assert left < 0.5 * drawn


def test_labels_and_points_are_measured() -> None:
    fixed, moving = phantoms.image(COARSE, phantoms.bend), phantoms.image(COARSE)
    points = phantoms.nodes(phantoms.grid((12.0, 12.0, 12.0), extent=36.0)).reshape(-1, 3)
    metrics = register(
        fixed,
        moving,
        fixed_labels=phantoms.image(COARSE, phantoms.bend, phantoms.regions),
        moving_labels=phantoms.image(COARSE, what=phantoms.regions),
        fixed_points=points,
        moving_points=phantoms.bend(points),
    ).metrics
    assert metrics.dice_after.mean > metrics.dice_before.mean
    assert metrics.hd95_mm_after.mean < metrics.hd95_mm_before.mean
    assert metrics.tre_mm_after.mean < 0.6 * metrics.tre_mm_before.mean


def test_images_far_apart_are_brought_together_from_their_centres() -> None:
    moving = phantoms.image(COARSE)
    affine = COARSE.affine.copy()
    affine[:3, 3] += 500
    far = Image(moving.data, maxca.Grid(COARSE.shape, affine))
    result = register(phantoms.image(COARSE, phantoms.bend), far, initial_transform="center")
    assert phantoms.error(result.chain, lambda x: phantoms.bend(x) + 500) < 0.7 * BEFORE


@pytest.mark.parametrize(
    "option",
    [
        {"model": "brain"},
        {"transform": "elastic"},
        {"effort": "huge"},
        {"similarity": "ssim"},
        {"smoothness": -1.0},
        {"threads": 0},
        {"device": "tpu"},
    ],
    ids=lambda option: next(iter(option)),
)
def test_an_unknown_setting_is_refused(option: dict[str, Any]) -> None:
    image = phantoms.image(COARSE)
    with pytest.raises(MaxcaError, match=next(iter(option))):
        maxca.register(image, image, **option)


def test_landmarks_must_pair_up() -> None:
    image = phantoms.image(COARSE)
    with pytest.raises(MaxcaError, match="3 fixed and 2 moving"):
        maxca.register(image, image, fixed_points=np.zeros((3, 3)), moving_points=np.zeros((2, 3)))


def test_a_slice_and_a_volume_do_not_go_together() -> None:
    flat = phantoms.grid((4.0, 4.0, 66.0))
    with pytest.raises(MaxcaError, match="single slice"):
        maxca.register(phantoms.image(COARSE), Image(phantoms.image(flat).data, flat, form=Form(dimension=2)))
