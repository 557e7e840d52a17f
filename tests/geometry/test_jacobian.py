"""Determinants against SimpleITK, and where the answer is known."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from grids import KINDS, grid, smooth_field, some_affine, to_array, to_sitk

from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.geometry.jacobian import (
    field_determinant,
    jacobian_determinant,
    nondiffeomorphic_volume,
    tetrahedron_determinants,
)


@pytest.mark.parametrize("kind", ["RAS", "LPS"])
def test_determinants_agree_with_simpleitk_away_from_the_border(kind: str) -> None:
    field = smooth_field(grid(kind), amplitude=4.0)
    vectors = field.displacement.permute(1, 2, 3, 0).double().numpy() @ np.diag([-1.0, -1, 1])
    # The filter ignores the direction of the image, so it gets the vectors along the axes.
    vectors = vectors @ (np.diag([-1.0, -1, 1]) @ field.grid.direction)
    image = to_sitk(vectors, field.grid, vector=True)
    image.SetDirection(np.eye(3).ravel().tolist())
    expected = to_array(sitk.DisplacementFieldJacobianDeterminant(image))
    got = field_determinant(field).numpy()
    assert got.min() < 0.7
    assert got.max() > 1.2
    np.testing.assert_allclose(got[1:-1, 1:-1, 1:-1], expected[1:-1, 1:-1, 1:-1], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_an_affine_has_its_determinant_everywhere(kind: str) -> None:
    got = jacobian_determinant(Chain((some_affine(),)), grid(kind))
    assert got.shape == grid(kind).shape
    np.testing.assert_allclose(got.numpy(), np.linalg.det(some_affine().matrix), rtol=1e-4)


def test_a_scaling_has_its_cube_and_in_a_plane_its_square() -> None:
    scaling = Chain((Affine(np.diag([1.2, 1.2, 1.2, 1])),))
    np.testing.assert_allclose(jacobian_determinant(scaling, grid("LAS")).numpy(), 1.2**3, rtol=1e-5)
    np.testing.assert_allclose(jacobian_determinant(scaling, grid("LAS", (9, 9, 1))).numpy(), 1.2**2, rtol=1e-5)


def test_neither_flips_nor_rotations_nor_the_order_of_axes_change_a_determinant() -> None:
    field = smooth_field(grid("RAS"), amplitude=4.0)
    plain, volume = field_determinant(field), nondiffeomorphic_volume(field)
    flipped_affine = field.grid.affine @ np.array([[-1, 0, 0, 23], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    flipped = DenseField(field.displacement.flip(1), Grid(field.grid.shape, flipped_affine))
    torch.testing.assert_close(field_determinant(flipped).flip(0), plain)
    torch.testing.assert_close(nondiffeomorphic_volume(flipped).sum(), volume.sum())
    order = field.grid.affine[:, [1, 2, 0, 3]]
    shape = tuple(field.grid.shape[a] for a in (1, 2, 0))
    permuted = DenseField(field.displacement.permute(0, 2, 3, 1), Grid(shape, order))
    torch.testing.assert_close(field_determinant(permuted).permute(2, 0, 1), plain)
    turn = grid("oblique").direction
    turned = np.eye(4)
    turned[:3, :3] = turn @ field.grid.affine[:3, :3]
    vectors = torch.einsum("ab,bijk->aijk", torch.as_tensor(turn, dtype=torch.float32), field.displacement)
    torch.testing.assert_close(field_determinant(DenseField(vectors, Grid(field.grid.shape, turned))), plain)


def test_spacing_does_not_change_a_determinant_when_the_motion_scales_with_it() -> None:
    field = smooth_field(grid("RAS"))
    finer = Grid(field.grid.shape, np.diag([0.1, 0.1, 0.1, 1]) @ field.grid.affine)
    torch.testing.assert_close(field_determinant(DenseField(field.displacement * 0.1, finer)), field_determinant(field))


def test_the_identity_has_tetrahedra_of_one_and_two() -> None:
    still = DenseField(torch.zeros(3, 4, 5, 6), grid("oblique LAS", (4, 5, 6)))
    got = tetrahedron_determinants(still)
    assert got.shape == (10, 4, 5, 6)
    assert (got[:8] == 1).all()
    assert (got[8:] == 2).all()


def test_tetrahedra_of_an_affine_are_scaled_by_its_determinant() -> None:
    field = Chain((some_affine(),)).field_on(grid("LAS"))
    det = np.linalg.det(some_affine().matrix)
    np.testing.assert_allclose(tetrahedron_determinants(field)[:8].numpy(), det, rtol=1e-3)
    np.testing.assert_allclose(tetrahedron_determinants(field)[8:].numpy(), 2 * det, rtol=1e-3)


def test_half_of_the_ten_tetrahedra_fill_the_grid() -> None:
    """A map that is still at the border fills the grid once, whatever it does inside; each scheme adds up to that."""
    field = smooth_field(grid("RAS"), amplitude=5.0)
    assert tetrahedron_determinants(field).sum() / 12 == pytest.approx(np.prod(field.grid.shape), rel=1e-4)


def test_a_checkerboard_that_central_differences_cannot_see_has_volume() -> None:
    where = Grid((12, 12, 12), np.eye(4))
    displacement = torch.zeros(3, 12, 12, 12)
    displacement[0] = torch.where(torch.arange(12) % 2 == 0, 0.8, -0.8).view(-1, 1, 1)
    field = DenseField(displacement, where)
    torch.testing.assert_close(field_determinant(field)[2:-2], torch.ones(8, 12, 12))
    # Cells are turns by 1 - 1.6 and 1 + 1.6 voxels long; every second one is turned over.
    assert nondiffeomorphic_volume(field)[2:-2].mean() == pytest.approx(0.3, rel=1e-4)


def test_slabs_give_the_same_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    field = DenseField(torch.randn(3, 9, 8, 7), Grid((9, 8, 7), np.eye(4)))
    whole = field_determinant(field), nondiffeomorphic_volume(field), tetrahedron_determinants(field)
    monkeypatch.setattr("maxca.geometry.jacobian.VOXELS_AT_ONCE", 100)
    for before, measure in zip(
        whole, (field_determinant, nondiffeomorphic_volume, tetrahedron_determinants), strict=True
    ):
        torch.testing.assert_close(measure(field), before)
