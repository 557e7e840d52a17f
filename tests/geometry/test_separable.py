"""Filters as matrices, against SciPy's filters and NumPy's interpolation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from maxca.geometry import Grid
from maxca.geometry.separable import Separable, box, cubic, gaussian, per_axis

N = 41
SIGNAL = np.random.default_rng(0).random(N)
SIZES = [(9, 1), (10, 2), (11, 3), (2, 2), (1, 1), (7, 9)]


def applied(matrix: torch.Tensor) -> np.ndarray:
    return matrix.double().numpy() @ SIGNAL


def some_operator() -> Separable:
    return per_axis(gaussian, (9, 8, 7), (2, 1, 3), (1.0, 0.7, 2.0))


@pytest.mark.parametrize("step", [1, 2, 4])
@pytest.mark.parametrize("sigma", [0.8, 1.7, 2.5])
def test_gaussians_are_those_of_scipy_inside_the_borders(step: int, sigma: float) -> None:
    inner = slice(12 // step, (N - 12) // step)
    expected = gaussian_filter1d(SIGNAL, sigma, radius=int(max(4 * sigma, step)))[::step]
    np.testing.assert_allclose(applied(gaussian(N, step, sigma))[inner], expected[inner], atol=1e-6)


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("radius", [0, 1, 2, 4])
def test_boxes_are_those_of_scipy_inside_the_borders(step: int, radius: int) -> None:
    inner = slice(6 // step, (N - 6) // step)
    expected = uniform_filter1d(SIGNAL, 2 * radius + 1)[::step]
    np.testing.assert_allclose(applied(box(N, step, radius))[inner], expected[inner], atol=1e-6)


@pytest.mark.parametrize("step", [1, 2, 2.5, 4])
def test_cubic_interpolation_meets_its_nodes_and_follows_a_parabola(step: float) -> None:
    nodes = 9
    n = int((nodes - 1) * step) + 1
    where = np.arange(n) / step
    values = 0.3 * np.arange(nodes) ** 2 - 2 * np.arange(nodes) + 1
    found = cubic(n, step, nodes).double().numpy() @ values
    inner = (where >= 1) & (where <= nodes - 2)
    np.testing.assert_allclose(found[inner], (0.3 * where**2 - 2 * where + 1)[inner], atol=1e-5)
    at_nodes = where == np.rint(where)
    np.testing.assert_allclose(found[at_nodes], values[where[at_nodes].astype(int)], atol=1e-5)


def test_cubic_interpolation_repeats_the_last_value_beyond_the_end() -> None:
    assert (cubic(20, 2, 4)[7:].sum(1) == 1).all()
    assert (cubic(20, 2, 4)[7:, -1] == 1).all()


@pytest.mark.parametrize(("n", "step"), SIZES)
@pytest.mark.parametrize("matrix", [gaussian, box])
def test_means_of_a_constant_are_that_constant_at_the_borders_too(matrix, n: int, step: int) -> None:  # type: ignore[no-untyped-def]
    for width in (0, 0.5, 1.3, 3.0):
        rows = matrix(n, step, width).sum(1)
        torch.testing.assert_close(rows, torch.ones_like(rows))


@pytest.mark.parametrize(("n", "step"), SIZES)
def test_the_nodes_are_those_of_grid_every(n: int, step: int) -> None:
    nodes = Grid((n, n, n), np.eye(4)).every((step, step, step)).shape[0]
    assert (nodes - 1) * step >= n - 1, "the lattice covers the last voxel"
    for matrix in (gaussian(n, step, 1.0), gaussian(n, step, 0.0), box(n, step, 1.0)):
        assert matrix.shape == (nodes, n)
    assert cubic(n, step, nodes).shape == (n, nodes)


def test_the_slope_of_cubic_interpolation_has_no_jumps() -> None:
    values = torch.rand(7)
    fine = cubic(601, 100, 7) @ values
    slope = fine.diff()
    assert float(slope.diff().abs().max()) < 0.05 * float(slope.abs().max())


@pytest.mark.parametrize("slices", [1, 7, 20])
def test_a_separable_operator_acts_along_each_axis_in_turn(slices: int) -> None:
    volume = torch.rand(2, 9, 8, slices)
    operator = per_axis(gaussian, (9, 8, slices), (2, 1, 3), (1.0, 0.7, 2.0))
    a, b, c = operator.matrices
    expected = torch.einsum("ai,bj,dk,nijk->nabd", a, b, c, volume)
    torch.testing.assert_close(operator(volume), expected)
    assert operator(volume).is_contiguous() and operator(volume[0]).shape == expected.shape[1:]


def test_the_adjoint_carries_scalar_products_across() -> None:
    operator = some_operator()
    x = torch.rand(9, 8, 7)
    y = torch.rand(operator(x).shape)
    torch.testing.assert_close((operator(x) * y).sum(), (x * operator.adjoint(y)).sum())


def test_operators_compose_as_functions_do() -> None:
    first = some_operator()
    x = torch.rand(9, 8, 7)
    second = per_axis(box, first(x).shape, (1, 2, 1), (1, 1, 1))
    torch.testing.assert_close((second @ first)(x), second(first(x)))


def test_an_operator_goes_to_a_device() -> None:
    moved = some_operator().to(torch.device("meta"))
    assert {m.device.type for m in moved.matrices} == {"meta"}
