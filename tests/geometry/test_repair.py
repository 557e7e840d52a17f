"""Mending a field: folds go, inverses lead back, and what was good is left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from grids import grid, smooth_field

from maxca.geometry import DenseField, Grid
from maxca.geometry.jacobian import field_determinant, nondiffeomorphic_volume
from maxca.geometry.repair import finer_steps, invertible, unfolded
from maxca.geometry.warp import voxel_coordinates

SHAPE = (32, 30, 28)


def still(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> DenseField:
    where = Grid(SHAPE, np.diag([*spacing, 1.0]))
    return DenseField(torch.zeros(3, *where.shape), where)


def folded() -> DenseField:
    """Smooth waves, and one node that is pushed past its neighbour."""
    field = smooth_field(grid("RAS", SHAPE))
    displacement = field.displacement.clone()
    displacement[0, 12, 12, 12] += 3 * float(field.grid.spacing[0])
    return DenseField(displacement, field.grid)


def squeezed(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> DenseField:
    """No motion, but for a narrow place where space is pressed to a twentieth of its width without a fold."""
    field = still(spacing)
    i, j, k = (x - n / 2 for x, n in zip(voxel_coordinates(SHAPE)[0], SHAPE, strict=True))
    bump = torch.exp(-0.5 * ((i / 2.5) ** 2 + (j / 3) ** 2 + (k / 3) ** 2))
    field.displacement[0] = -0.95 * i * bump * spacing[0]
    return field


def round_trip(field: DenseField, inverse: DenseField) -> np.ndarray:
    nodes = field.grid.to_world(voxel_coordinates(field.grid.shape)[0].permute(1, 2, 3, 0).numpy())
    return np.linalg.norm(inverse.map_points(field.map_points(nodes)) - nodes, axis=-1)


def test_a_fold_is_smoothed_away_and_the_rest_is_untouched() -> None:
    field = folded()
    assert float(nondiffeomorphic_volume(field).sum()) > 0
    mended = unfolded(field)
    assert float(nondiffeomorphic_volume(mended).sum()) == 0
    assert torch.equal(mended.displacement[:, 22:], field.displacement[:, 22:])


def test_a_field_without_folds_is_returned_as_it_is() -> None:
    field = smooth_field(grid("oblique LAS", SHAPE))
    assert unfolded(field) is field


def test_space_is_no_flatter_than_asked_for() -> None:
    field = squeezed()
    assert float(field_determinant(field).min()) < 0.2
    assert float(field_determinant(unfolded(field, flattest=0.3)).min()) >= 0.3


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.5, 1.5, 3.0)])
def test_the_inverse_leads_back_within_the_tolerance(spacing: tuple[float, float, float]) -> None:
    field = squeezed(spacing)
    most = 0.1 * max(spacing)
    assert round_trip(field, field.inverse()[0]).max() > 1.3 * most, "or there is nothing to mend"
    mended, inverse, residual = invertible(field, tolerance=0.1)
    assert round_trip(mended, inverse).max() <= 1.01 * most
    assert residual.max <= 0.0101 * field.grid.smallest_spacing
    assert torch.equal(mended.displacement[:, :2], field.displacement[:, :2])


def test_an_inverse_that_leads_back_is_the_plain_one() -> None:
    field = smooth_field(grid("LAS", SHAPE)).faded()
    mended, inverse, _ = invertible(field)
    assert mended is field
    assert torch.equal(inverse.displacement, field.inverse()[0].displacement)


def test_a_guess_changes_the_way_to_the_inverse_and_not_its_quality() -> None:
    field = smooth_field(grid("oblique", SHAPE)).faded()
    plain, _ = field.inverse()
    again, residual = field.inverse(guess=plain)
    assert residual.max <= 0.0101 * field.grid.smallest_spacing
    torch.testing.assert_close(again.displacement, plain.displacement, atol=0.02, rtol=0)


def test_a_finer_inverse_leads_back_from_where_space_is_squeezed() -> None:
    field = squeezed().faded()
    misses = []
    for finer in ((1, 1, 1), (2, 2, 2)):
        kept, inverse, _ = invertible(field, tolerance=100.0, finer=finer)
        assert torch.equal(kept.displacement, field.displacement)
        misses.append(round_trip(kept, inverse).max())
    assert misses[0] > 0.1
    assert misses[1] < 0.9 * misses[0]


def test_an_inverse_is_finest_across_thick_slices() -> None:
    steps = [finer_steps(Grid((20, 20, n), np.diag([*mm, 1.0]))) for n, mm in ((20, (1, 1, 1)), (9, (1.5, 1.5, 10)))]
    assert steps == [(2, 2, 2), (1, 1, 4)]
    assert finer_steps(Grid((20, 20, 1), np.diag([1.0, 1.0, 8.0, 1.0])))[2] == 1
