"""Losses of a network against formulas written out, and cases whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from maxca.geometry import Grid
from maxca.geometry.warp import sample_unit, transform_coordinates, unit_matrix, voxel_coordinates
from maxca.losses.overlap import one_hot, soft_dice, warped_dice
from maxca.losses.regularity import bending, diffusion, folding
from maxca.losses.similarity import (
    SIMILARITIES,
    LocalNCC,
    batch_measure,
    dissimilarity,
    local_window,
    similarity_measure,
)

SHAPE = (9, 8, 7)


def positions(shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    return torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij"))[None]


def test_a_linear_flow_has_the_diffusion_of_its_matrix_and_no_bending() -> None:
    matrix = torch.randn(3, 3)
    flow = torch.einsum("ab,nbijk->naijk", matrix, positions())
    assert math.isclose(diffusion(flow), matrix.square().mean(), rel_tol=1e-4)
    assert bending(flow) < 1e-8


def test_diffusion_is_that_of_the_motion_in_mm() -> None:
    # u_x = x/10 along an axis of 2 mm voxels, sheared over slices 5 mm apart
    flow = torch.zeros(1, 3, *SHAPE)
    flow[:, 0] = 0.1 * positions()[:, 2]
    expected = (0.1 * 2 / 5) ** 2 / 9
    assert math.isclose(diffusion(flow, (2.0, 2.0, 5.0)), expected, rel_tol=1e-4)


def test_bending_of_a_parabola() -> None:
    flow = torch.zeros(1, 3, *SHAPE)
    flow[:, 1] = 0.5 * positions()[:, 0] ** 2  # second derivative 1 along the first axis
    assert math.isclose(bending(flow), 1 / 9, rel_tol=1e-4)
    flow[:, 1] = positions()[:, 0] * positions()[:, 1]  # mixed derivative 1, counted twice
    assert math.isclose(bending(flow), 2 / 9, rel_tol=1e-4)


def test_a_thin_axis_adds_nothing() -> None:
    flow = torch.randn(1, 3, 6, 5, 1)
    assert torch.isfinite(diffusion(flow))
    assert torch.isfinite(bending(flow))
    assert diffusion(torch.randn(1, 3, 1, 1, 1)) == 0


def test_folding_is_the_share_of_space_turned_inside_out_and_leads_back() -> None:
    mirrored = -2 * positions()
    mirrored[:, 1:] = 0
    assert math.isclose(folding(mirrored), 1, rel_tol=1e-5)
    assert folding(0.1 * torch.randn(1, 3, *SHAPE).clamp(-1, 1)) == 0
    rough = (1.5 * torch.randn(2, 3, *SHAPE)).requires_grad_()
    before = folding(rough)
    before.backward()
    assert folding(rough - 10 * rough.grad / rough.grad.norm()) < before


def test_soft_dice_of_whole_labels_is_dice() -> None:
    a, b = torch.zeros(1, 4, 4, 4, dtype=torch.int16), torch.zeros(1, 4, 4, 4, dtype=torch.int16)
    a[:, :2], b[:, 1:3] = 1, 1
    a[:, 3], b[:, 3] = 7, 7
    assert soft_dice(one_hot(a, [1, 7]), one_hot(b, [1, 7])) == pytest.approx((0.5 + 1) / 2)
    assert soft_dice(one_hot(a, [1, 7, 9]), one_hot(b, [1, 7, 9])) == pytest.approx((0.5 + 1) / 2), "9 is in neither"


def test_counted_dice_is_that_of_channels_value_and_gradient() -> None:
    fixed, moving = (torch.randint(0, 5, SHAPE).short() * 3 for _ in range(2))
    names = [3, 9, 12, 40]  # 6 is left out, and nothing is called 40
    flow = (torch.randn(3, *SHAPE) * 1.5).requires_grad_()  # beyond the faces too
    at = voxel_coordinates(SHAPE)[0] + flow
    looked_up = sample_unit(
        one_hot(moving[None], names), transform_coordinates(unit_matrix(SHAPE), at[None]), padding="zeros"
    )
    expected = soft_dice(one_hot(fixed[None], names), looked_up)
    counted = warped_dice(fixed, moving, at, names)
    torch.testing.assert_close(counted, expected)
    (ours,), (theirs,) = torch.autograd.grad(counted, flow), torch.autograd.grad(expected, flow)
    assert theirs.abs().max() > 0
    torch.testing.assert_close(ours, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=1e-3)


def test_dissimilarity_has_the_gradient_of_its_value() -> None:
    fixed, warped = torch.rand(SHAPE, dtype=torch.float64), torch.rand(SHAPE, dtype=torch.float64)
    window = local_window(Grid(SHAPE, np.eye(4)), 27)
    window = type(window)(tuple(m.double() for m in window.matrices))
    measure = LocalNCC(fixed, window)
    point = warped.clone().requires_grad_()
    loss = dissimilarity(measure, point) * 3
    loss.backward()
    direction = torch.rand(SHAPE, dtype=torch.float64)
    step = 1e-5
    change = (measure(warped + step * direction).value - measure(warped - step * direction).value) / (2 * step)
    assert math.isclose((point.grad * direction).sum(), -3 * change, rel_tol=1e-3)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_a_batch_has_the_losses_and_gradients_of_each_alone(name: str) -> None:
    random = torch.Generator().manual_seed(3)
    fixed, warped = torch.rand(2, 2, *SHAPE, generator=random)
    grids = [Grid(SHAPE, np.diag([*spacing, 1.0])) for spacing in ((1.0, 1.0, 1.0), (1.0, 1.0, 2.0))]
    together, alone = (warped.clone().requires_grad_() for _ in range(2))
    losses = dissimilarity(batch_measure(name, fixed, grids), together)
    each = [dissimilarity(similarity_measure(name, f, g), w) for f, g, w in zip(fixed, grids, alone, strict=True)]
    torch.testing.assert_close(losses, torch.stack(each), rtol=0, atol=0)
    weights = torch.tensor([1.0, 3.0])
    (losses * weights).sum().backward()
    (torch.stack(each) * weights).sum().backward()
    torch.testing.assert_close(together.grad, alone.grad, rtol=0, atol=0)
