"""A B-spline is the map that ITK makes of the same numbers, in a chain as well as by itself."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from grids import KINDS, affine_to_sitk, grid, map_with_sitk, some_affine, to_array, to_sitk, volume

from maxca.geometry import Affine, BSpline, Chain, Grid
from maxca.geometry.jacobian import jacobian_determinant
from maxca.report.verdict.scale import scaled_chain

FLIP = np.array([-1.0, -1.0, 1.0])


def spline(where: Grid, amplitude: float = 2.0) -> BSpline:
    """Control points 4 voxels apart that reach two spacings beyond an image."""
    control = where.box([-8] * 3, [n + 9 for n in where.shape]).every([4] * 3)
    values = amplitude * torch.randn(3, *control.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return BSpline(values, control, domain=where)


def of_itk(step: BSpline) -> sitk.BSplineTransform:
    control = step.grid
    direction = (np.diag(FLIP) @ control.direction).ravel()
    theirs = sitk.BSplineTransform(3, 3)
    theirs.SetFixedParameters([*map(float, control.shape), *(control.origin * FLIP), *control.spacing, *direction])
    values = step.coefficients.numpy() * FLIP[:, None, None, None]
    theirs.SetParameters(values.transpose(0, 3, 2, 1).ravel().tolist())
    return theirs


@pytest.mark.parametrize("kind", KINDS)
def test_points_move_as_in_itk_also_outside_the_control_points(kind: str) -> None:
    where = grid(kind)
    step = spline(where)
    corners = step.grid.corners
    points = np.random.default_rng(0).uniform(corners.min(axis=0) - 5, corners.max(axis=0) + 5, (500, 3))
    theirs = map_with_sitk(of_itk(step), points)
    moved = np.abs(theirs - points).max(axis=1) > 0
    assert 0.02 < moved.mean() < 0.98
    np.testing.assert_allclose(step.map_points(points), theirs, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_resampled_through_a_chain_with_a_spline_as_in_itk(kind: str) -> None:
    fixed, moving = grid(kind), grid("oblique", (20, 22, 18), (1.8, 1.9, 2.2))
    step, affine = spline(fixed), some_affine()
    image = volume(moving)
    ours = Chain((step, affine)).resample(torch.from_numpy(image)[None], moving, fixed)[0].numpy()
    both = sitk.CompositeTransform([affine_to_sitk(affine), of_itk(step)])  # the last is applied first
    theirs = to_array(sitk.Resample(to_sitk(image, moving), to_sitk(volume(fixed), fixed), both, sitk.sitkLinear, 0.0))
    inside = (ours > 0) & (theirs > 0)
    assert inside.mean() > 0.4
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=1e-3)


def test_an_inverse_leads_back_and_says_how_well() -> None:
    step = spline(grid("oblique"), 0.8)
    inverse, residual = step.inverse()
    inside = step.domain.to_world(np.random.default_rng(0).uniform(4, 11, (200, 3)))  # type: ignore[union-attr]
    there = Chain((step.sampled(), inverse)).map_points(inside)
    assert np.abs(there - inside).max() < 0.05
    assert residual.mean < 0.1


def test_a_spline_of_the_plane_moves_nothing_along_the_third_axis() -> None:
    control = Grid((7, 6, 1), np.diag([10.0, 8, 1, 1]))
    values = torch.zeros(3, 7, 6, 1, dtype=torch.float64)
    values[:2] = torch.randn(2, 7, 6, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = BSpline(values, control)
    points = np.random.default_rng(0).uniform((12, 10, -3), (45, 28, 3), (100, 3))
    moved = step.map_points(points)
    np.testing.assert_array_equal(moved[:, 2], points[:, 2])
    assert np.abs(moved - points).max() > 0.1
    np.testing.assert_allclose(step.map_points(points * [1, 1, 0])[:, :2], moved[:, :2])


def test_a_quadratic_and_a_linear_spline_sum_to_a_translation() -> None:
    for order in (1, 2, 3):
        control = Grid((8, 8, 8), np.diag([5.0, 5, 5, 1]))
        step = BSpline(torch.ones(3, 8, 8, 8, dtype=torch.float64) * 2.5, control, order)
        np.testing.assert_allclose(step.map_points(np.array([[15.3, 17.0, 19.9]])), [[17.8, 19.5, 22.4]])


def test_a_spline_scales_with_the_world() -> None:
    step = spline(grid("oblique"))
    points = grid("oblique").to_world(np.random.default_rng(0).uniform(1, 12, (50, 3)))
    scaled = scaled_chain(Chain((step, Affine.identity())), 1e-3)
    np.testing.assert_allclose(scaled.map_points(points * 1e-3) * 1e3, step.map_points(points), atol=1e-6)
    determinant = jacobian_determinant(Chain((step,)), grid("oblique"))
    assert torch.isfinite(determinant).all()


@pytest.mark.parametrize(
    ("values", "control", "order", "reason"),
    [
        (torch.zeros(3, 5, 5, 5), Grid((5, 5, 4), np.eye(4)), 3, "has shape"),
        (torch.zeros(3, 5, 5, 3), Grid((5, 5, 3), np.eye(4)), 3, "more control points"),
        (torch.zeros(3, 5, 5, 5), Grid((5, 5, 5), np.eye(4)), 4, "order"),
        (torch.full((3, 5, 5, 5), torch.nan), Grid((5, 5, 5), np.eye(4)), 3, "NaN"),
    ],
)
def test_an_impossible_spline_is_refused(values: torch.Tensor, control: Grid, order: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        BSpline(values, control, order)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_lattice_and_scattered_points_move_alike(order: int) -> None:
    """Nodes along the control points are computed axis by axis, turned ones point by point."""
    where = grid("oblique")
    step = spline(where)
    step = BSpline(step.coefficients, step.grid, order)
    beyond = where.box([-12, -3, -3], [n + 12 for n in where.shape])  # also where a basis function is missing
    for chain in (Chain((step,)), Chain((some_affine(), step))):
        nodes = beyond.to_world(np.moveaxis(np.indices(beyond.shape), 0, -1))
        moved = nodes + chain.field_on(beyond).displacement.permute(1, 2, 3, 0).double().numpy()
        np.testing.assert_allclose(moved, chain.map_points(nodes), atol=2e-4)
