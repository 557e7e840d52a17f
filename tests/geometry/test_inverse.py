"""Inverses of displacement fields: exact where they exist, honest where they do not."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from grids import KINDS, field_to_sitk, grid, smooth_field, some_chain

from maxca.geometry import DenseField
from maxca.geometry.inverse import invert_displacement
from maxca.geometry.warp import voxel_coordinates


def nodes_of(field: DenseField) -> np.ndarray:
    return field.grid.to_world(voxel_coordinates(field.grid.shape)[0].permute(1, 2, 3, 0).numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_after_its_inverse_moves_nothing(kind: str) -> None:
    field = smooth_field(grid(kind))
    inverse, residual = field.inverse()
    nodes = nodes_of(field)
    left = np.linalg.norm(field.map_points(inverse.map_points(nodes)) - nodes, axis=-1)
    assert left.max() < 0.02
    assert residual.max <= 0.0101 * field.grid.smallest_spacing


def test_the_reported_residual_is_no_smaller_than_the_one_that_can_be_measured() -> None:
    field = smooth_field(grid("oblique LAS"), amplitude=4.0)
    inverse, residual = field.inverse(iterations=2)
    nodes = nodes_of(field)
    left = np.linalg.norm(field.map_points(inverse.map_points(nodes)) - nodes, axis=-1)
    assert residual.max > 0.02, "two steps are too few, so that there is something to report"
    assert left.max() <= 1.02 * residual.max
    assert left.mean() <= 1.02 * residual.mean


def test_more_steps_and_a_finer_tolerance_come_closer() -> None:
    field = smooth_field(grid("RAS"), amplitude=3.0)
    errors = [field.inverse(tolerance=t)[1].max for t in (0.1, 0.01, 0.001)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] <= 0.0011 * field.grid.smallest_spacing


def test_the_inverse_is_that_of_simpleitk() -> None:
    field = smooth_field(grid("RAS"))
    vectors = field_to_sitk(field).GetDisplacementField()
    theirs = sitk.InvertDisplacementField(vectors, 100, 0.001, 0.0001, enforceBoundaryCondition=False)
    expected = to_array_of_vectors(theirs)
    ours = field.inverse()[0].displacement.permute(1, 2, 3, 0).numpy()
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(ours[inner], expected[inner], atol=0.05)


def to_array_of_vectors(image: sitk.Image) -> np.ndarray:
    """(I, J, K, 3), in our world."""
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0, 3) * np.array([-1, -1, 1])


def test_no_motion_has_no_motion_as_inverse() -> None:
    where = grid("ASR")
    inverse, residual = DenseField(torch.zeros(3, *where.shape), where).inverse()
    assert (inverse.displacement == 0).all()
    assert residual == (0, 0)


def test_a_fold_is_reported_as_a_residual_and_never_as_nan() -> None:
    where = grid("RAS")
    field = DenseField(60 * smooth_field(where).displacement, where)
    inverse, residual = field.inverse()
    assert torch.isfinite(inverse.displacement).all()
    assert residual.max > 1


def test_a_point_that_is_settled_from_the_start_stays_where_it_is() -> None:
    displacement = torch.zeros(1, 3, 6, 6, 6)
    displacement[:, 2] = 1
    points = torch.tensor([[[2.0, 3.0], [2.0, 3.0], [2.0, 3.0]]])
    guess = torch.zeros_like(points)
    inverse, residual = invert_displacement(displacement, points, guess, tolerance=2, iterations=5)
    assert (inverse == 0).all()
    torch.testing.assert_close(residual, torch.ones(2))


def test_newton_settles_what_is_squeezed_too_much_for_plain_steps() -> None:
    # Along one axis x + d(x) has slope 0.05 and then 1.95, so plain steps crawl where it is nearly flat.
    position = torch.arange(20.0)
    squeezed = torch.where(position < 10, -0.95 * position, -9.5 + 0.95 * (position - 10))
    displacement = torch.zeros(1, 3, 20, 4, 4)
    displacement[0, 0] = squeezed.view(-1, 1, 1)
    points = torch.tensor([[[0.1, 0.3, 0.45], [2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]])
    inverse, residual = invert_displacement(displacement, points, torch.zeros_like(points), 1e-4, 40)
    torch.testing.assert_close(points[0, 0] + inverse[0, 0], points[0, 0] / 0.05, atol=1e-2, rtol=0)
    assert residual.max() <= 1e-4


def test_a_chain_is_undone_by_its_inverse() -> None:
    chain = some_chain(grid("oblique"))
    inverse, residual = chain.inverse()
    points = nodes_of(chain.steps[0])[4:-4, 4:-4, 4:-4]
    left = np.linalg.norm(inverse.map_points(chain.map_points(points)) - points, axis=-1)
    assert left.mean() < 0.06
    assert left.max() < 0.15, "between the nodes, where the inverse is interpolated"
    assert residual.max <= 0.0101 * grid("oblique").smallest_spacing
