"""Affines, fields and chains against SimpleITK's transforms, on grids of every orientation."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from grids import (
    KINDS,
    affine_to_sitk,
    chain_to_sitk,
    field_to_sitk,
    grid,
    map_with_sitk,
    smooth_field,
    some_affine,
    some_chain,
    to_array,
    to_sitk,
    volume,
)

from maxca.geometry import Affine, Chain, DenseField, Grid

SITK = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor, "bspline": sitk.sitkBSpline3}


def points_in(where: Grid, margin: float = 0.0) -> np.ndarray:
    share = margin + (1 - 2 * margin) * np.random.default_rng(0).random((200, 3))
    return where.to_world(share * (np.array(where.shape) - 1))


def test_an_affine_maps_points_as_simpleitk_does() -> None:
    points = points_in(grid("oblique"))
    expected = map_with_sitk(affine_to_sitk(some_affine()), points)
    np.testing.assert_allclose(some_affine().map_points(points), expected, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_maps_points_as_simpleitk_does(kind: str) -> None:
    field = smooth_field(grid(kind))
    points = points_in(field.grid)
    expected = map_with_sitk(field_to_sitk(field), points)
    assert np.abs(expected - points).max() > 1
    np.testing.assert_allclose(field.map_points(points), expected, atol=1e-4)


def test_a_field_moves_nothing_outside_its_grid() -> None:
    field = DenseField(torch.ones(3, 4, 4, 4), Grid((4, 4, 4), np.eye(4)))
    np.testing.assert_array_equal(field.map_points([[9.0, 1, 1], [1, 1, -3]]), [[9, 1, 1], [1, 1, -3]])
    np.testing.assert_array_equal(field.map_points([[3.2, 1, 1]]), [[4.2, 2, 2]])


@pytest.mark.parametrize("kind", KINDS)
def test_a_chain_maps_points_as_simpleitk_does(kind: str) -> None:
    chain = Chain((some_affine(), smooth_field(grid("LAS", (30, 30, 30))), some_affine().inverse()[0]))
    points = points_in(grid(kind))
    np.testing.assert_allclose(chain.map_points(points), map_with_sitk(chain_to_sitk(chain), points), atol=1e-4)


def test_points_keep_their_shape_and_may_lie_far_from_the_origin() -> None:
    far = Grid((10, 10, 10), np.array([[1, 0, 0, 5000.0], [0, 1, 0, -7000], [0, 0, 1, 900], [0, 0, 0, 1]]))
    field = smooth_field(far, amplitude=1.0)
    points = far.to_world(np.random.default_rng(0).random((2, 5, 3)) * 9)
    moved = Chain((field,)).map_points(points)
    assert moved.shape == (2, 5, 3)
    near = DenseField(field.displacement, Grid(far.shape, np.eye(4)))
    np.testing.assert_allclose(moved - points, near.map_points(points - far.origin) - (points - far.origin), atol=1e-5)


def test_matrix_product_composes_as_functions_do() -> None:
    one, two = some_affine(), Affine(np.diag([2.0, 1, 1, 1]))
    field = smooth_field(grid("LAS"))
    points = points_in(field.grid)
    np.testing.assert_allclose((two @ one).map_points(points), two.map_points(one.map_points(points)))
    composed = Chain((two,)) @ Chain((field, one))
    np.testing.assert_allclose(composed.map_points(points), two.map_points(one.map_points(field.map_points(points))))


def test_simplifying_joins_neighbouring_affines_only() -> None:
    field = smooth_field(grid("RAS"))
    chain = Chain((some_affine(), some_affine(), field, some_affine(), some_affine(), some_affine()))
    simple = chain.simplified()
    assert [type(step) for step in simple.steps] == [Affine, DenseField, Affine]
    points = points_in(field.grid)
    np.testing.assert_allclose(simple.map_points(points), chain.map_points(points), atol=1e-4)
    assert not chain.is_affine
    assert Chain((some_affine(),)).is_affine
    assert Chain().is_affine


@pytest.mark.parametrize("moving", ["RAS", "oblique LAS"])
@pytest.mark.parametrize("fixed", KINDS)
@pytest.mark.parametrize("interpolation", ["linear", "nearest", "bspline"])
def test_resampling_gives_the_image_simpleitk_gives(interpolation: str, fixed: str, moving: str) -> None:
    reference = grid(fixed)
    source = grid(moving, (30, 28, 26), (1.2, 1.6, 1.9))
    chain, image = some_chain(reference), volume(source)
    expected = sitk_resample(image, source, reference, chain, SITK[interpolation])
    got = chain.resample(torch.as_tensor(image)[None], source, reference, interpolation)[0].numpy()
    inner = deep_inside(chain, source, reference, margin=4 if interpolation == "bspline" else 0.6)
    assert inner.mean() > 0.2
    if interpolation == "nearest":  # a point half way between two voxels may go either way
        assert (np.abs(got - expected)[inner] > 1e-6).mean() < 1e-3
    else:
        np.testing.assert_allclose(got[inner], expected[inner], atol=1e-3 if interpolation == "bspline" else 1e-4)


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
def test_beyond_the_moving_image_is_zero_as_in_simpleitk(interpolation: str) -> None:
    reference, source = grid("RAS"), grid("oblique", (9, 9, 9))
    chain, image = Chain((some_affine(),)), volume(source) + 1
    expected = sitk_resample(image, source, reference, chain, SITK[interpolation])
    got = chain.resample(torch.as_tensor(image)[None], source, reference, interpolation)[0].numpy()
    assert 0.02 < (expected == 0).mean() < 0.98
    assert ((got == 0) != (expected == 0)).mean() < 1e-3
    np.testing.assert_allclose(np.sort(got.ravel())[::50], np.sort(expected.ravel())[::50], atol=1e-2)


@pytest.mark.parametrize("interpolation", ["linear", "nearest", "labels", "bspline"])
def test_the_identity_returns_the_image(interpolation: str) -> None:
    where = grid("oblique LAS")
    image = torch.as_tensor(volume(where))[None]
    got = Chain().resample(image, where, where, interpolation)
    torch.testing.assert_close(got, image, atol=2e-5, rtol=0)


def test_channels_are_resampled_one_by_one() -> None:
    where = grid("LAS")
    one, two = torch.as_tensor(volume(where)), torch.as_tensor(volume(where)).flip(0)
    chain = some_chain(where)
    both = chain.resample(torch.stack([one, two]), where, where)
    torch.testing.assert_close(both[0], chain.resample(one[None], where, where)[0])
    torch.testing.assert_close(both[1], chain.resample(two[None], where, where)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_one_field_can_hold_a_whole_chain(kind: str) -> None:
    where = grid(kind)
    chain = Chain((some_affine(), smooth_field(grid("RAS", (30, 30, 30))), some_affine()))
    nodes = where.to_world(np.argwhere(np.ones(where.shape)))
    field = chain.field_on(where)
    assert field.grid == where
    expected = (chain.map_points(nodes) - nodes).T.reshape(3, *where.shape)
    np.testing.assert_allclose(field.displacement.numpy(), expected, atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_inverse_of_a_field_undoes_it_and_says_how_well(kind: str) -> None:
    field = smooth_field(grid(kind, (40, 36, 32)), amplitude=4.0)
    inverse, residual = field.inverse()
    points = points_in(field.grid, margin=0.15)
    error = np.linalg.norm(inverse.map_points(field.map_points(points)) - points, axis=1)
    assert np.abs(field.map_points(points) - points).max() > 2
    assert residual.max <= 0.0101 * field.grid.smallest_spacing
    assert residual.mean <= residual.max
    assert error.mean() < 0.05
    assert error.max() < 0.25


def test_a_field_that_folds_is_not_undone_by_what_its_inverse_finds() -> None:
    where = Grid((20, 20, 20), np.eye(4))
    displacement = torch.zeros(3, 20, 20, 20)
    displacement[0] = torch.where(torch.arange(20) % 2 == 0, 3.0, -3.0).view(-1, 1, 1)
    field = DenseField(displacement, where)
    inverse, residual = field.inverse(iterations=20)
    points = points_in(where, margin=0.2)
    off = np.linalg.norm(inverse.map_points(field.map_points(points)) - points, axis=1)
    assert np.isfinite(inverse.displacement).all() and max(residual.max, off.max()) > 0.5


def test_the_inverse_of_a_chain_runs_backwards() -> None:
    chain = some_chain(grid("LAS", (40, 36, 32)))
    inverse, residual = chain.inverse()
    assert [type(step) for step in inverse.steps] == [Affine, DenseField]
    points = points_in(grid("LAS", (40, 36, 32)), margin=0.15)
    np.testing.assert_allclose(inverse.map_points(chain.map_points(points)), points, atol=0.2)
    assert residual.max <= 0.0101 * grid("LAS").smallest_spacing
    exact, nothing = some_affine().inverse()
    np.testing.assert_allclose((exact @ some_affine()).matrix, np.eye(4), atol=1e-12)
    assert nothing == (0, 0)


@pytest.mark.parametrize("thin", [0, 1, 2])
def test_a_two_dimensional_image_is_warped_in_its_plane(thin: int) -> None:
    shape = [20, 20, 20]
    shape[thin] = 1
    where = grid("LAS", tuple(shape))
    field = smooth_field(where)
    flat = field.displacement.clone()
    flat[thin] = 0  # axes of LAS run along the world's
    chain = Chain((DenseField(flat, where),))
    image = volume(where)
    got = chain.resample(torch.as_tensor(image)[None], where, where)[0].numpy()
    thick_shape = tuple(3 if axis == thin else n for axis, n in enumerate(where.shape))
    thick = where.box([-1 if axis == thin else 0 for axis in range(3)], np.array(thick_shape) - (np.arange(3) == thin))
    repeated = Chain((DenseField(flat.repeat_interleave(3, dim=1 + thin), thick),))
    expected = sitk_resample(np.repeat(image, 3, axis=thin), thick, where, repeated, sitk.sitkLinear)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    inverse, residual = chain.inverse()
    assert residual.max <= 0.0101 * where.smallest_spacing
    assert inverse.field_on(where).displacement[thin].abs().max() == 0


def test_large_volumes_are_resampled_in_slabs_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    where = grid("oblique")
    chain, image = some_chain(where), torch.as_tensor(volume(where))[None]
    whole = chain.resample(image, where, where), chain.field_on(where).displacement
    monkeypatch.setattr("maxca.geometry.transforms.POINTS_AT_ONCE", 1000)
    torch.testing.assert_close(chain.resample(image, where, where), whole[0])
    torch.testing.assert_close(chain.field_on(where).displacement, whole[1])


def test_impossible_transforms_are_refused() -> None:
    with pytest.raises(ValueError, match="finite 4x4"):
        Affine(np.full((4, 4), np.inf))
    with pytest.raises(ValueError, match="finite 4x4"):
        Affine(np.eye(3))
    with pytest.raises(ValueError, match="singular"):
        Affine(np.diag([1.0, 1, 0, 1]))
    where = Grid((4, 4, 4), np.eye(4))
    with pytest.raises(ValueError, match=r"has shape \(3, 4, 4, 4\), received \(3, 4, 4, 5\)"):
        DenseField(torch.zeros(3, 4, 4, 5), where)
    with pytest.raises(ValueError, match="NaN"):
        DenseField(torch.full((3, 4, 4, 4), torch.nan), where)


def sitk_resample(image: np.ndarray, source: Grid, reference: Grid, chain: Chain, interpolator: int) -> np.ndarray:
    target = to_sitk(np.zeros(reference.shape, np.float32), reference)
    out = sitk.Resample(to_sitk(image, source), target, chain_to_sitk(chain), interpolator, 0.0, sitk.sitkFloat32)
    return to_array(out)


def deep_inside(chain: Chain, source: Grid, reference: Grid, margin: float) -> np.ndarray:
    """Which voxels of the reference come from ``margin`` voxels or more within the source."""
    voxels = source.to_voxel(chain.map_points(reference.to_world(np.argwhere(np.ones(reference.shape)))))
    ok = (voxels >= margin) & (voxels <= np.array(source.shape) - 1 - margin)
    return ok.all(axis=1).reshape(reference.shape)
