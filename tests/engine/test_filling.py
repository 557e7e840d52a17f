"""The motion inside an excluded region follows that of its surroundings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maxca.engine.filling import extrapolated
from maxca.geometry import Grid


def shell(shape: tuple[int, ...]) -> torch.Tensor:
    """A shell of nodes around a hole, thinner on one side."""
    middle = (np.array(shape) - 1) / 2
    away = np.linalg.norm(np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) - middle, axis=-1)
    return torch.as_tensor((away > 3) & (away < 5), dtype=torch.float32)


@pytest.mark.parametrize("shape", [(13, 12, 11), (13, 12, 1)])
def test_a_motion_that_is_affine_around_a_hole_is_that_affine_in_it(shape: tuple[int, int, int]) -> None:
    affine = np.diag([2.0, 2.5, 3.0, 1.0])
    affine[:3, 3] = 5e4, -3e4, 100
    grid = Grid(shape, affine)
    weight = shell(shape)
    at = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")) * grid.spacing[:, None, None, None]
    linear = np.array([[0.02, -0.1, 0.0], [0.1, -0.03, 0.0], [0.05, 0.0, 0.0 if shape[2] == 1 else 0.2]])
    motion = torch.as_tensor(np.einsum("ij,jabd->iabd", linear, at) + 7, dtype=torch.float32)
    noise = torch.randn(motion.shape, generator=torch.Generator().manual_seed(0)) * 50
    found = extrapolated(torch.where(weight > 0, motion, noise), weight, grid, reach=4.0)
    assert (found - motion).abs().max() < 0.05  # what is in the hole, or far away, has no weight


def test_it_is_the_weighted_least_squares_affine_at_each_node() -> None:
    grid = Grid((9, 9, 9), np.diag([1.0, 1.0, 1.0, 1.0]))
    weight = shell((9, 9, 9)) * torch.rand(9, 9, 9, generator=torch.Generator().manual_seed(1))
    values = torch.randn(3, 9, 9, 9, generator=torch.Generator().manual_seed(2))
    found = extrapolated(values, weight, grid, reach=3.0)
    nodes = np.stack(np.meshgrid(*[np.arange(9.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    for here in ([4, 4, 4], [5, 3, 4]):
        near = np.exp(-0.5 * ((nodes - here) ** 2).sum(1) / 3**2) * weight.flatten().numpy()
        root = np.sqrt(near)[:, None]
        design = np.column_stack([nodes - here, np.ones(len(nodes))])
        fit = np.linalg.lstsq(root * design, root * values.flatten(1).T.numpy(), rcond=None)[0]
        np.testing.assert_allclose(found[:, *here].numpy(), fit[3], atol=0.05)
