"""Metrics against SimpleITK, brute force and cases whose answer is known."""

import time

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.metrics import dice, folding, hd95, inverse_consistency, mean_surface_distance, surface_distances, tre

SPACING = (1.0, 1.5, 2.5)


def label_maps() -> tuple[np.ndarray, np.ndarray]:
    """Two maps of blobs with labels 1 to 4, the second one shifted and grown."""
    coarse = np.random.default_rng(1).integers(0, 5, (4, 4, 4))
    a = coarse.repeat(6, 0).repeat(5, 1).repeat(4, 2)
    return a, np.roll(ndimage.grey_dilation(a, size=(2, 1, 2)), 1, axis=1)


def as_sitk(mask: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(mask.astype(np.uint8).transpose(2, 1, 0))
    image.SetSpacing(SPACING)
    return image


def test_dice_agrees_with_simpleitk() -> None:
    a, b = label_maps()
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(as_sitk(a), as_sitk(b))
    got = dice(a, b)
    assert list(got) == [1, 2, 3, 4]
    for label, value in got.items():
        assert value == pytest.approx(overlap.GetDiceCoefficient(label))


def test_dice_counts_only_labels_present_in_both_unless_told() -> None:
    a, b = np.array([[[0, 1, 1, 2, 7]]]), np.array([[[0, 1, 3, 2, 7]]])
    assert dice(a, b) == {1: pytest.approx(2 / 3), 2: 1, 7: 1}
    asked = dice(a, b, labels=[1, 3, 9])
    assert asked[1] == pytest.approx(2 / 3)
    assert asked[3] == 0
    assert np.isnan(asked[9])


def test_dice_takes_labels_of_any_size_and_whole_floats() -> None:
    a = np.array([[[0, 5_000_000, 5_000_000, 12]]])
    assert dice(a, a) == {12: 1.0, 5_000_000: 1.0}
    assert dice(a.astype(np.float64), a) == {12: 1.0, 5_000_000: 1.0}


@pytest.mark.parametrize("bad", [np.array([[[0.5]]]), np.array([[[-1]]]), np.array([[[np.nan]]])])
def test_values_that_are_no_labels_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="integers"):
        dice(bad, np.zeros((1, 1, 1), int))


def test_maps_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"received \(1, 1, 1\) and \(1, 1, 2\)"):
        hd95(np.zeros((1, 1, 1), int), np.zeros((1, 1, 2), int), SPACING)


def test_the_largest_surface_distance_is_simpleitks_hausdorff_distance() -> None:
    a, b = np.zeros((30, 24, 20), int), np.zeros((30, 24, 20), int)
    a[5:15, 5:15, 5:12] = 1
    b[8:20, 3:13, 6:15] = 1
    exact = sitk.HausdorffDistanceImageFilter()
    exact.Execute(as_sitk(a), as_sitk(b))
    assert surface_distances(a, b, SPACING)[1].max() == pytest.approx(exact.GetHausdorffDistance(), rel=1e-5)


def test_hd95_is_the_percentile_of_all_surface_distances() -> None:
    a, b = label_maps()
    got = hd95(a, b, SPACING)
    assert list(got) == [1, 2, 3, 4]
    for label, value in got.items():
        surface = [
            np.argwhere((m == label) & ~ndimage.binary_erosion(m == label, border_value=0)) * SPACING for m in (a, b)
        ]
        distances = cdist(*surface)
        expected = np.percentile(np.concatenate([distances.min(axis=0), distances.min(axis=1)]), 95)
        assert value == pytest.approx(expected)


def test_the_mean_surface_distance_is_monais() -> None:
    surface = pytest.importorskip("monai.metrics")
    a, b = label_maps()
    channels = [torch.as_tensor(np.stack([m == label for label in range(5)])[None]) for m in (a, b)]
    theirs = surface.compute_average_surface_distance(*channels, symmetric=True, spacing=SPACING)[0]
    ours = mean_surface_distance(a, b, SPACING)
    np.testing.assert_allclose([ours[label] for label in (1, 2, 3, 4)], theirs, rtol=1e-5)


def test_hd95_of_a_shifted_box_is_the_shift_in_mm() -> None:
    a, b = np.zeros((20, 20, 20), int), np.zeros((20, 20, 20), int)
    a[5:10, 5:10, 5:10] = 3
    b[5:10, 5:10, 7:12] = 3
    assert hd95(a, a, SPACING) == {3: 0.0}
    assert hd95(a, b, SPACING) == {3: 5.0}
    assert hd95(a, np.zeros_like(a), SPACING) == {}
    assert mean_surface_distance(a, a, SPACING) == {3: 0.0}
    assert 0 < mean_surface_distance(a, b, SPACING)[3] < 5.0


def test_the_surface_of_a_two_dimensional_region_is_its_outline() -> None:
    flat = np.zeros((12, 12, 1), int)
    flat[2:10, 2:10] = 1
    smaller = np.zeros_like(flat)
    smaller[3:9, 3:9] = 1
    assert (surface_distances(flat, smaller, (1, 1, 8))[1] > 0).all()


def test_many_labels_on_a_whole_brain_are_compared_quickly() -> None:
    coarse = np.arange(1, 141).reshape(5, 7, 4)
    a = np.pad(coarse.repeat(26, 0).repeat(22, 1).repeat(30, 2), ((15, 15), (20, 20), (20, 20))).astype(np.int16)
    b = np.roll(a, (1, -2, 1), axis=(0, 1, 2))
    started = time.perf_counter()
    assert len(dice(a, b)) == 140
    assert time.perf_counter() - started < 2  # 0.1 s on an idle machine
    started = time.perf_counter()
    assert max(hd95(a, b, (1, 1, 1)).values()) == 2
    assert time.perf_counter() - started < 40  # 2 s on an idle machine


def test_target_registration_error_is_the_distance_to_the_partner() -> None:
    shift = np.eye(4)
    shift[:3, 3] = (3, 0, 4)
    fixed = np.random.default_rng(0).random((6, 3)) * 50
    np.testing.assert_allclose(tre(fixed, fixed, Chain((Affine(shift),))), 5)
    np.testing.assert_allclose(tre(fixed, fixed + np.array([3, 0, 4]), Chain((Affine(shift),))), 0, atol=1e-12)
    with pytest.raises(ValueError, match="must correspond"):
        tre(fixed, fixed[:3], Chain())


def test_inverse_consistency_is_the_round_trip_error() -> None:
    shift = np.eye(4)
    shift[:3, 3] = (0, 2, 0)
    points = np.random.default_rng(0).random((6, 3))
    chain = Chain((Affine(shift),))
    np.testing.assert_allclose(inverse_consistency(chain, chain.inverse()[0], points), 0, atol=1e-12)
    np.testing.assert_allclose(inverse_consistency(chain, Chain(), points), 2)


@pytest.mark.parametrize("shape", [(6, 7, 8), (6, 7, 1), (1, 7, 8)])
def test_a_reflection_is_all_folded_and_a_translation_is_not(shape: tuple[int, int, int]) -> None:
    where = Grid(shape, np.diag([-1.0, 1, 3, 1]))
    mirror = folding(Chain((Affine(np.diag([1.0, -1, 1, 1])),)), where)
    assert mirror.ndv_percent == pytest.approx(100, rel=1e-5)
    assert mirror.nonpositive_percent == 100
    shift = np.eye(4)
    shift[:3, 3] = (20, -3, 5)
    assert folding(Chain((Affine(shift),)), where) == (0, 0, 0, 0)


def test_folding_of_one_row_that_jumps_over_the_next() -> None:
    """Node 5 of a line of nodes goes 1.5 voxels back: the cell before it turns over, half as long as it was."""
    where = Grid((12, 6, 6), np.diag([2.0, 1, 1, 1]))
    displacement = torch.zeros(3, 12, 6, 6)
    displacement[0, 5] = -1.5 * 2
    got = folding(Chain((DenseField(displacement, where),)), where)
    assert got.ndv_percent == pytest.approx(100 * 0.5 / 12, rel=1e-4)
    # Central differences at the two neighbours are 1 - 1.5/2 and 1 + 1.5/2: they see nothing.
    assert got.nonpositive_percent == 0
    expected = np.std(np.log([0.25, 1.75] + [1] * 10))
    assert got.sd_log_jacobian == pytest.approx(expected, rel=1e-4)
    learn2reg = np.std(np.log(np.array([0.25, 1.75] + [1] * 10) + 3))
    assert got.sd_log_jacobian_plus_3 == pytest.approx(learn2reg, rel=1e-4)


@pytest.mark.parametrize("size", [(0.5, 0.5, 0.5), (2, 0.5, 3)])
def test_a_scaling_folds_nothing_and_is_the_same_everywhere(size: tuple[float, float, float]) -> None:
    got = folding(Chain((Affine(np.diag([*size, 1])),)), Grid((6, 7, 8), np.diag([-1.0, 1, 3, 1])))
    assert (got.ndv_percent, got.nonpositive_percent) == (0, 0)
    assert got.sd_log_jacobian == pytest.approx(0, abs=1e-5)
    assert got.sd_log_jacobian_plus_3 == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("axes", ["flipped", "anisotropic", "oblique", "left-handed and oblique"])
def test_the_same_motion_folds_as_much_on_any_grid(axes: str) -> None:
    turn = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix()
    matrix = {
        "flipped": np.diag([-1.0, 1, -1]),
        "anisotropic": np.diag([0.7, 1.0, 6.0]),
        "oblique": turn @ np.diag([1.0, 2.0, 3.0]),
        "left-handed and oblique": turn @ np.diag([-1.0, 2.0, 1.5]),
    }[axes]
    voxels = torch.randn(3, 9, 8, 7, generator=torch.Generator().manual_seed(0)) * 0.6
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, (-30, 12, 5)
    world = torch.einsum("ab,bijk->aijk", torch.as_tensor(matrix, dtype=torch.float32), voxels)
    plain, other = (
        folding(Chain((DenseField(field, where),)), where)
        for field, where in ((voxels, Grid((9, 8, 7), np.eye(4))), (world, Grid((9, 8, 7), affine)))
    )
    assert 1 < plain.ndv_percent < 50
    np.testing.assert_allclose(other, plain, rtol=2e-3)


def test_only_the_mask_counts() -> None:
    where = Grid((12, 6, 6), np.eye(4))
    displacement = torch.zeros(3, 12, 6, 6)
    displacement[0, 5] = -1.5
    chain = Chain((DenseField(displacement, where),))
    mask = np.zeros(where.shape, np.uint8)
    mask[8:] = 1
    assert folding(chain, where, mask) == (0, 0, 0, 0)
    mask[4:6] = 1
    assert folding(chain, where, mask).ndv_percent == pytest.approx(100 * 0.5 / 6, rel=1e-4)
    for bad in (np.zeros(where.shape), np.ones((2, 2, 2))):
        with pytest.raises(ValueError, match="mask"):
            folding(chain, where, bad)
