"""Masks and labels on another grid than their image are brought onto it where both headers can be believed."""

from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

import maxca
from maxca.errors import MaxcaError
from maxca.geometry import Chain, Grid
from maxca.io.images import Image
from maxca.registration.inputs import Side, read_side
from maxca.registration.placement import placed
from maxca.registration.record import Assessment, Compared, Distances, FoldingRecord
from maxca.registration.resampling import apply
from maxca.report.verdict.check import Check
from maxca.report.verdict.judge import judge

SHAPE = (18, 22, 14)
SPACING = np.array([1.5, 1.0, 2.0])
RANDOM = np.random.default_rng(4)
SCAN = gaussian_filter(RANDOM.normal(size=SHAPE), 2)
QUICK = {"effort": "fast", "threads": 1, "model": "none", "transform": "rigid"}


def affine(spacing: np.ndarray = SPACING, origin: tuple[float, ...] = (-40.0, 12, 7)) -> np.ndarray:
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = origin
    return matrix


WHERE = Grid(SHAPE, affine())
IMAGE = Image((900 * (SCAN - SCAN.min())).astype(np.float32), WHERE, Path("scan.nii.gz"))
BLOCKS = np.zeros(SHAPE, np.uint16)
for number, (i, j, k) in enumerate(product((3, 10), (3, 12), (2, 8)), start=1):
    BLOCKS[i : i + 5, j : j + 6, k : k + 4] = 100 * number


def other_map(data: np.ndarray, matrix: np.ndarray) -> Image:
    return Image(data, Grid(data.shape, matrix), Path("map.nii.gz"))


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
@pytest.mark.parametrize("flips", list(product((1, -1), repeat=3)), ids=str)
def test_flipped_and_swapped_axes_lose_nothing(order: tuple[int, ...], flips: tuple[int, ...]) -> None:
    nifti = nib.Nifti1Image(BLOCKS, WHERE.affine)
    turned = nifti.as_reoriented(np.column_stack([order, flips]))
    found = placed("fixed labels", other_map(np.asarray(turned.dataobj), turned.affine), IMAGE)
    np.testing.assert_array_equal(found.data, BLOCKS)
    assert found.data.dtype == BLOCKS.dtype
    same = order == (0, 1, 2) and flips == (1, 1, 1)
    assert ["reordered" in warning for warning in found.warnings] == ([] if same else [True])


@settings(max_examples=25, deadline=None)
@given(factor=st.floats(0.4, 1.6), shift=st.floats(-0.4, 0.4), scale=st.sampled_from([1e-3, 1.0, 1e2]))
def test_a_finer_or_coarser_grid_keeps_every_place(factor: float, shift: float, scale: float) -> None:
    """What is marked lies within a voxel of where it was, whatever the unit of the headers."""
    shape = tuple(int(np.ceil(n / factor)) + 2 for n in SHAPE)
    spacing = SPACING * factor * scale
    start = (np.array([-40.0, 12, 7]) + (shift - 1) * SPACING * factor) * scale
    where = Grid(shape, affine(spacing, tuple(start)))
    image = Image(IMAGE.data, Grid(SHAPE, affine(SPACING * scale, tuple(np.array([-40.0, 12, 7]) * scale))))
    nodes = where.to_world(np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1))
    index = np.rint(image.grid.to_voxel(nodes)).astype(int)
    inside = ((index >= 0) & (index < SHAPE)).all(-1)
    data = np.where(inside, BLOCKS[tuple(np.moveaxis(index.clip(0, np.array(SHAPE) - 1), -1, 0))], 0)
    found = placed("fixed labels", Image(data.astype(np.uint16), where), image).data
    for label in np.unique(BLOCKS)[1:]:
        here, there = (np.argwhere(each == label).mean(0) for each in (BLOCKS, found))
        assert np.abs(here - there).max() <= 1.0


def test_a_cropped_map_is_zero_elsewhere_and_says_so() -> None:
    start = np.array([2, 2, 1])
    part = BLOCKS[2:9, 2:10, 1:8]
    found = placed("fixed labels", other_map(part, affine(origin=tuple(WHERE.to_world(start)))), IMAGE)
    np.testing.assert_array_equal(found.data[2:9, 2:10, 1:8], part)
    assert np.count_nonzero(found.data) == np.count_nonzero(part)
    assert "0 elsewhere" in found.warnings[0]


def test_labels_that_the_coarser_grid_loses_are_named() -> None:
    fine = BLOCKS.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    fine[0, 0, 0] = 7
    start = tuple(WHERE.to_world(np.full(3, -0.25)))
    found = placed("fixed labels", other_map(fine, affine(SPACING / 2, start)), IMAGE)
    np.testing.assert_array_equal(np.where(BLOCKS, BLOCKS, found.data), found.data)
    assert "without a voxel there: 7" in found.warnings[0]


@pytest.mark.parametrize(
    ("matrix", "shape", "said"),
    [
        (np.eye(4), SHAPE, "is at another position"),  # the header was lost
        (affine(origin=(-34.0, 12, 7)), SHAPE, "one of the two headers is wrong"),
        (affine(SPACING * 2, (0.0, 0, 0)), (9, 11, 7), "is at another position"),
        (affine(origin=(400.0, 12, 7)), (9, 11, 7), "covers 0 %"),
    ],
    ids=["lost", "moved", "coarse and moved", "far"],
)
def test_a_map_that_cannot_be_placed_is_refused(matrix: np.ndarray, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(MaxcaError, match=said) as caught:
        placed("fixed mask", other_map(np.ones(shape, np.uint8), matrix), IMAGE)
    assert str(caught.value).startswith("map.nii.gz: ") and len(str(caught.value)) < 480


def test_a_mask_that_the_coarser_grid_loses_is_refused() -> None:
    fine = np.zeros([4 * n for n in SHAPE], np.uint8)
    fine[0, 0, 0] = 1
    start = tuple(WHERE.to_world(np.full(3, -0.375)))
    with pytest.raises(MaxcaError, match="the fixed mask is empty on the coarser grid"):
        placed("fixed mask", other_map(fine, affine(SPACING / 4, start)), IMAGE)


def saved(path: Path, data: np.ndarray, matrix: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(data, matrix), path)
    return path


def test_register_takes_masks_and_labels_of_other_grids_and_says_so(tmp_path: Path) -> None:
    scan = saved(tmp_path / "scan.nii.gz", IMAGE.data, WHERE.affine)
    flipped = nib.Nifti1Image(BLOCKS, WHERE.affine).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    nib.save(flipped, tmp_path / "flipped.nii.gz")
    coarse = saved(tmp_path / "coarse.nii.gz", np.ones((9, 11, 7), np.uint8), affine(2 * SPACING))
    straight = saved(tmp_path / "straight.nii.gz", BLOCKS, WHERE.affine)
    labels = {"moving_labels": straight}
    plain = maxca.register(scan, scan, fixed_labels=straight, **labels, **QUICK)
    other = maxca.register(scan, scan, fixed_labels=tmp_path / "flipped.nii.gz", moving_mask=coarse, **labels, **QUICK)
    assert plain.warnings == []
    assert [name for name in ("flipped", "coarse") if any(f"{name}.nii.gz" in w for w in other.warnings)] == [
        "flipped",
        "coarse",
    ]
    assert other.metrics.dice_before == plain.metrics.dice_before


def test_moving_labels_of_a_finer_grid_are_interpolated_once(tmp_path: Path) -> None:
    fine = Image(BLOCKS.repeat(2, 0).repeat(2, 1).repeat(2, 2), Grid((36, 44, 28), affine(SPACING / 2)))
    result = maxca.register(IMAGE, IMAGE, moving_labels=fine, **QUICK)
    assert result.warped_labels is not None
    expected = apply(fine, IMAGE, [result.chain], "labels")
    np.testing.assert_array_equal(result.warped_labels.data, expected.data)


@pytest.mark.parametrize("given_points", ["fixed_points", "moving_points"])
def test_landmarks_of_one_image_alone_are_no_reason_to_refuse(given_points: str) -> None:
    result = maxca.register(IMAGE, IMAGE, **{given_points: np.array([[-30.0, 20, 15]])}, **QUICK)
    missing = "moving_points" if given_points == "fixed_points" else "fixed_points"
    assert any("landmarks" in warning and missing in warning for warning in result.warnings)
    assert result.metrics.tre_mm_after is None


def test_labels_of_the_fixed_image_alone_measure_nothing_and_that_is_said() -> None:
    labels = Image(BLOCKS, WHERE)
    assert any("moving_labels" in w for w in maxca.register(IMAGE, IMAGE, fixed_labels=labels, **QUICK).warnings)
    assert maxca.register(IMAGE, IMAGE, moving_labels=labels, **QUICK).warnings == []


def head() -> tuple[Image, np.ndarray]:
    """A ball in the dark, and where it is."""
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in (26, 28, 24)), indexing="ij"), axis=-1)
    ball = np.linalg.norm(places, axis=-1) < 0.7
    texture = 400 + 100 * gaussian_filter(RANDOM.normal(size=ball.shape), 1)
    return Image(np.where(ball, texture, 0).astype(np.float32), Grid(ball.shape, np.eye(4)), Path("head.nii.gz")), ball


@pytest.mark.parametrize("noise", [0.0, 5.0, 30.0])
@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_a_mask_of_the_background_is_named(side: str, noise: float) -> None:
    image, ball = head()
    data = image.data + np.abs(RANDOM.normal(0, noise, ball.shape)).astype(np.float32) if noise else image.data
    scan, mask = Image(data, image.grid, image.path), Image((~ball).astype(np.uint8), image.grid, Path("mask.nii.gz"))
    try:
        said = list(read_side(side, scan, mask).warnings)
    except MaxcaError as error:
        said = [str(error)]
    assert len(said) == 1 and said[0].startswith(f"mask.nii.gz: the {side} mask covers {np.sum(~ball)} voxels")
    assert "background" in said[0] and "invert" in said[0]


def test_a_mask_of_probabilities_is_named() -> None:
    image, ball = head()
    soft = Image(gaussian_filter(ball.astype(np.float32), 1.5), image.grid, Path("mask.nii.gz"))
    said = read_side("fixed", image, soft).warnings
    assert len(said) == 1 and "threshold" in said[0] and said[0].startswith("mask.nii.gz: the fixed mask has")


@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_landmarks_outside_of_their_image_are_named(side: str) -> None:
    right = WHERE.to_world(np.array([[1.0, 2, 3], [9, 12, 5], [16, 20, 12]]))
    points = {"fixed_points": right, "moving_points": right}
    assert maxca.register(IMAGE, IMAGE, **points, **QUICK).warnings == []
    points[f"{side}_points"] = right * [-1, -1, 1]  # LPS
    said = maxca.register(IMAGE, IMAGE, **points, **QUICK).warnings
    assert len(said) == 1 and f"the {side} points: 3 of 3 landmarks are outside scan.nii.gz" in said[0]


def test_a_mask_of_a_lesion_alone_is_named_and_one_that_leaves_it_out_is_not() -> None:
    image, ball = head()
    lesion = np.zeros_like(ball)
    lesion[12:16, 12:16, 10:14] = True
    said = read_side("fixed", image, Image(lesion.astype(np.uint8), image.grid, Path("mask.nii.gz"))).warnings
    assert len(said) == 1 and "invert" in said[0]
    assert said[0].startswith("mask.nii.gz: the fixed mask covers 64 voxels")
    dark = replace(image, data=np.where(lesion, 40, image.data).astype(np.float32))  # lungs, say
    organ = np.zeros_like(ball)
    organ[11:18, 11:18, 9:16] = True
    assert read_side("fixed", dark, Image(organ.astype(np.uint8), image.grid)).warnings == ()
    for good in (~lesion, ball, ball & ~lesion, organ):
        assert read_side("fixed", image, Image(good.astype(np.uint8), image.grid)).warnings == ()


@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_a_verdict_names_a_mask_that_looks_inverted(side: str) -> None:
    image, ball = head()
    sides = {name: Side(image) for name in ("fixed", "moving")}
    metrics = Assessment(Compared("lncc", 0.0, 0.0), FoldingRecord(0.0), Distances(0.0))
    record = SimpleNamespace(metrics=metrics, settings=SimpleNamespace(transform="rigid"))

    def masks(mask: np.ndarray) -> tuple[Check, ...]:
        both = sides | {side: replace(sides[side], mask=mask)}
        found = judge(SimpleNamespace(**both, chain=Chain(), inverse=Chain(), record=record)).checks
        return tuple(check for check in found if check.name == "masks")

    (doubtful,) = masks(~ball)
    assert doubtful.state == "check" and f"the {side} mask" in doubtful.finding and "invert" in doubtful.finding
    assert [check.state for check in masks(ball)] == ["aligned"]
