"""Sampling: against scipy, at the border, for whole numbers, and with gradients."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from maxca.geometry import Chain, Grid
from maxca.geometry.warp import (
    inside,
    interpolator,
    sample,
    sample_with_gradient,
    transform_coordinates,
    voxel_coordinates,
)

WHERE = Grid((4, 1, 1), np.eye(4))


def index(*rows: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32).T.reshape(1, 3, -1, 1, 1)


def test_linear_sampling_agrees_with_scipy() -> None:
    volume = torch.rand(1, 2, 6, 7, 8)
    at = torch.rand(1, 3, 5, 5, 5) * torch.tensor([5.0, 6.0, 7.0]).view(1, 3, 1, 1, 1)
    got = sample(volume, at)
    for channel in range(2):
        expected = ndimage.map_coordinates(volume[0, channel].numpy(), at[0].numpy(), order=1)
        np.testing.assert_allclose(got[0, channel].numpy(), expected, atol=1e-5)


def test_each_item_of_a_batch_is_sampled_at_its_own_points() -> None:
    volume = torch.rand(2, 1, 5, 5, 5)
    at = torch.rand(2, 3, 4, 4, 4) * 4
    both = sample(volume, at)
    torch.testing.assert_close(both[1:], sample(volume[1:], at[1:]))


@pytest.mark.parametrize(
    ("padding", "expected"), [("zeros", [0, 1, 1, 2.5, 4, 4, 0]), ("border", [1, 1, 1, 2.5, 4, 4, 4])]
)
def test_the_edge_reaches_half_a_voxel_further(padding: str, expected: list[float]) -> None:
    volume = torch.tensor([1.0, 2, 3, 4]).view(1, 1, 4, 1, 1)
    at = index(*[(x, 0.0, 0.0) for x in (-0.6, -0.4, 0, 1.5, 3, 3.4, 3.6)])
    torch.testing.assert_close(sample(volume, at, padding=padding).flatten(), torch.tensor(expected, dtype=torch.float))


def test_a_single_voxel_has_the_width_of_a_voxel() -> None:
    volume = torch.full((1, 1, 1, 1, 1), 7.0)
    at = index((0.4, 0, 0), (0, -0.45, 0), (0.6, 0, 0), (0, 0, -2))
    assert sample(volume, at).flatten().tolist() == [7, 7, 0, 0]
    assert inside(at, (1, 1, 1)).flatten().tolist() == [True, True, False, False]


def test_sampling_has_gradients_in_both_arguments() -> None:
    volume = torch.rand(1, 1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    at = (torch.rand(1, 3, 2, 2, 2, dtype=torch.float64) * 2 + 0.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda v, x: sample(v, x), (volume, at))


def test_nearest_takes_the_closest_voxel() -> None:
    volume = torch.rand(1, 1, 4, 4, 4)
    at = index((0.4, 1.6, 2.1), (3.4, 0.2, -0.4))
    expected = torch.stack([volume[0, 0, 0, 2, 2], volume[0, 0, 3, 0, 0]])
    torch.testing.assert_close(sample(volume, at, nearest=True).flatten(), expected)
    torch.testing.assert_close(interpolator(volume[0], "nearest")(at).flatten(), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.float64])
@pytest.mark.parametrize("interpolation", ["nearest", "labels"])
def test_labels_keep_their_type_and_exact_value(interpolation: str, dtype: torch.dtype) -> None:
    largest = 250 if dtype == torch.uint8 else 30_001 if dtype == torch.int16 else 16_777_217  # no float32
    volume = torch.tensor([0, largest, largest, 5]).to(dtype).view(1, 4, 1, 1)
    got = Chain().resample(volume, WHERE, WHERE, interpolation)
    assert got.dtype == dtype
    assert got.flatten().tolist() == [0, largest, largest, 5]


def test_labels_go_to_the_largest_summed_weight_not_to_the_nearest_voxel() -> None:
    # The nearest of the four voxels around (0.4, 0.4) holds 1, with weight .36; the three others hold 2, with .64.
    volume = torch.tensor([[1, 2], [2, 2]]).view(1, 2, 2, 1)
    at = index((0.4, 0.4, 0))
    assert interpolator(volume, "nearest")(at).item() == 1
    assert interpolator(volume, "labels")(at).item() == 2
    assert interpolator(volume, "labels")(index((0.2, 0.2, 0))).item() == 1
    assert interpolator(volume, "labels")(index((-0.6, 0, 0))).item() == 0


def test_labels_never_invent_a_label_between_two() -> None:
    volume = torch.tensor([3, 3, 9, 9]).view(1, 4, 1, 1)
    at = index(*[(x, 0.0, 0.0) for x in np.linspace(0, 3, 50)])
    assert set(interpolator(volume, "labels")(at).flatten().tolist()) == {3, 9}


def test_bspline_agrees_with_scipy() -> None:
    volume = torch.rand(1, 8, 9, 10)
    at = torch.rand(1, 3, 4, 4, 4) * 5 + 1
    expected = ndimage.map_coordinates(volume[0].double().numpy(), at[0].double().numpy(), order=3, mode="mirror")
    np.testing.assert_allclose(interpolator(volume, "bspline")(at)[0].numpy(), expected, atol=1e-5)


def test_bspline_of_a_two_dimensional_image_and_beyond_it() -> None:
    volume = torch.rand(1, 8, 8, 1)
    got = interpolator(volume, "bspline")(index((3, 4, 0), (3, 4, 0.4), (3, 4, 0.6), (-0.7, 2, 0)))
    expected = torch.stack([volume[0, 3, 4, 0], volume[0, 3, 4, 0], torch.tensor(0.0), torch.tensor(0.0)])
    torch.testing.assert_close(got.flatten(), expected, atol=1e-5, rtol=0)


def test_an_unknown_interpolation_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'cubic'; choose one of linear, nearest, labels, bspline"):
        interpolator.__wrapped__(torch.zeros(1, 2, 2, 2), "cubic")


def test_voxel_coordinates_and_their_transformation() -> None:
    where = Grid((3, 4, 5), np.array([[0, 2, 0, 1.0], [-1, 0, 0, 5], [0, 0, 3, -2], [0, 0, 0, 1]]))
    voxels = voxel_coordinates(where.shape)
    assert voxels[0, :, 2, 1, 4].tolist() == [2, 1, 4]
    world = transform_coordinates(where.affine, voxels)[0, :, 2, 1, 4]
    np.testing.assert_allclose(world.numpy(), where.to_world((2, 1, 4)))


@pytest.mark.parametrize("shape", [(5, 6, 7), (6, 5, 1)])
def test_values_with_gradient_are_those_of_sampling_inside_and_beyond_the_edge(shape: tuple[int, int, int]) -> None:
    volume = torch.rand(shape)
    points = (torch.rand(3, 200) * 1.5 - 0.25) * torch.tensor(shape)[:, None]
    leaf = points.view(1, 3, -1, 1, 1).clone().requires_grad_()
    expected = sample(volume[None, None], leaf, padding="border")
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    values, slopes = sample_with_gradient(volume, points)
    torch.testing.assert_close(values, expected.detach().flatten(), atol=1e-5, rtol=0)
    torch.testing.assert_close(slopes, gradient.view(3, -1), atol=1e-4, rtol=0)
    both, all_slopes = sample_with_gradient(torch.stack([volume, -2 * volume], dim=-1), points)
    torch.testing.assert_close(both, torch.stack([values, -2 * values], dim=-1))
    torch.testing.assert_close(all_slopes, torch.stack([slopes, -2 * slopes], dim=-1))
