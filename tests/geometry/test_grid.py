"""Grids agree with nibabel and SimpleITK about where a voxel lies."""

import nibabel as nib
import numpy as np
import pytest
from grids import FLIP, KINDS, grid, to_sitk

from maxca.geometry import Grid


@pytest.mark.parametrize("kind", KINDS)
def test_voxels_lie_where_simpleitk_puts_them(kind: str) -> None:
    where = grid(kind)
    image = to_sitk(np.zeros(where.shape, np.float32), where)
    for index in [(0.0, 0.0, 0.0), (3.0, 7.5, 2.25), (23.0, 19.0, 15.0)]:
        expected = FLIP @ np.array(image.TransformContinuousIndexToPhysicalPoint(index))
        np.testing.assert_allclose(where.to_world(np.array(index)), expected, atol=1e-9)
        np.testing.assert_allclose(where.to_voxel(expected), index, atol=1e-9)


@pytest.mark.parametrize("kind", ["RAS", "LAS", "LPS", "ASR"])
def test_directions_have_the_names_nibabel_gives_them(kind: str) -> None:
    assert "".join(nib.aff2axcodes(grid(kind).affine)) == kind


@pytest.mark.parametrize("kind", KINDS)
def test_spacing_direction_volume_and_center(kind: str) -> None:
    where = grid(kind)
    np.testing.assert_allclose(where.spacing, (1.5, 2.0, 2.5))
    np.testing.assert_allclose(where.direction @ where.direction.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(where.center, (4, -3, 7))
    assert where.voxel_volume == pytest.approx(7.5)
    np.testing.assert_allclose(where.world_to_voxel @ where.affine, np.eye(4), atol=1e-12)


def test_corners_are_the_outermost_voxel_centres() -> None:
    corners = Grid((3, 4, 5), np.diag([2.0, 1, 1, 1])).corners
    assert corners.shape == (8, 3)
    np.testing.assert_array_equal(corners.min(axis=0), (0, 0, 0))
    np.testing.assert_array_equal(corners.max(axis=0), (4, 3, 4))


def test_a_two_dimensional_image_has_a_thin_axis() -> None:
    assert grid("RAS", (8, 1, 8)).thin_axes == (1,)
    assert grid("RAS").thin_axes == ()


@pytest.mark.parametrize("kind", KINDS)
def test_a_box_keeps_its_voxels_in_place(kind: str) -> None:
    where = grid(kind)
    box = where.box((2, -3, 4), (10, 25, 9))
    assert box.shape == (8, 28, 5)
    np.testing.assert_allclose(box.to_world((1, 4, 2)), where.to_world((3, 1, 6)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_few_voxels_a_node_that_coincides_with_one_and_covers_the_last(kind: str) -> None:
    where = grid(kind, (24, 20, 1))
    coarse = where.every((2, 3, 1))
    assert coarse.shape == (13, 8, 1)
    np.testing.assert_allclose(coarse.to_world((5, 6, 0)), where.to_world((10, 18, 0)))


def test_equality_is_exact_and_same_as_has_a_tolerance() -> None:
    where = grid("oblique")
    nudged = Grid(where.shape, where.affine + 1e-6)
    assert where == Grid(where.shape, where.affine.copy())
    assert where != nudged
    assert where != "a grid"
    assert where.same_as(nudged)
    assert not where.same_as(grid("RAS"))
    assert not where.same_as(grid("oblique", (24, 20, 17)))


@pytest.mark.parametrize("factor", [1e-4, 0.005, 1.0, 1e3])
@pytest.mark.parametrize("kind", ["RAS", "oblique"])
def test_two_grids_are_the_same_within_a_share_of_a_voxel(kind: str, factor: float) -> None:
    where = grid(kind)

    def moved_by(voxels: float, far: float = 0.0) -> Grid:
        affine = where.affine.copy()
        affine[0, 3] += voxels * where.smallest_spacing + far
        affine[:3] *= factor
        return Grid(where.shape, affine)

    assert moved_by(0).same_as(moved_by(9e-4))
    assert not moved_by(0).same_as(moved_by(2e-3))
    assert not moved_by(0).same_as(moved_by(2))
    # Headers hold float32: 100 000 voxels away it leaves a hundredth of a voxel uncertain.
    stored = Grid(where.shape, moved_by(0, 1e5).affine.astype(np.float32))
    assert stored.same_as(moved_by(0, 1e5))
    assert not stored.same_as(moved_by(0.2, 1e5))


def test_a_grid_cannot_be_changed_through_the_matrix_it_was_given() -> None:
    affine = np.eye(4)
    where = Grid((2, 2, 2), affine)
    affine[0, 3] = 9
    assert where.origin[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        where.affine[0, 3] = 9


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((2, 0, 2), np.eye(4), r"three positive sizes, received \(2, 0, 2\)"),
        ((2, 2, 2), np.eye(3), "finite 4x4 matrix"),
        ((2, 2, 2), np.full((4, 4), np.nan), "finite 4x4 matrix"),
        ((2, 2, 2), np.diag([1.0, 0, 1, 1]), "singular"),
        ((2, 2, 2), np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
    ],
)
def test_impossible_grids_are_refused(shape: tuple[int, int, int], affine: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grid(shape, affine)


@pytest.mark.parametrize("kind", KINDS)
def test_the_canonical_grid_has_the_same_voxels_turned_to_right_anterior_superior(kind: str) -> None:
    where = grid(kind)
    turned = where.canonical
    nibabels = nib.as_closest_canonical(nib.Nifti1Image(np.zeros(where.shape, np.int8), where.affine))
    assert turned.shape == nibabels.shape
    np.testing.assert_allclose(turned.affine, nibabels.affine, atol=1e-9)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 4.0, 2.0), (2.5, None, 2.5)])
def test_a_grid_at_another_spacing_covers_the_same_box(spacing: tuple[float | None, ...]) -> None:
    where = Grid((27, 33, 22), np.diag([2.5, 2.0, 3.0, 1.0]))
    finer = where.at_spacing(spacing)
    wanted = [s if mm is None else mm for mm, s in zip(spacing, where.spacing, strict=True)]
    np.testing.assert_allclose(finer.spacing, wanted)
    outermost = finer.to_voxel(where.corners)
    assert outermost.min() > -1e-6
    assert (outermost <= np.array(finer.shape) - 1 + 1e-6).all()
    assert (np.array(finer.shape) - 1 - outermost.max(axis=0)).max() < 1


def test_a_centred_grid_is_cut_or_widened_at_both_ends() -> None:
    where = Grid((10, 11, 12), np.diag([2.0, 3.0, 4.0, 1.0]))
    cut = where.centered((6, 15, None))
    assert cut.shape == (6, 15, 12)
    np.testing.assert_allclose(where.to_voxel(cut.origin), (2, -2, 0))
