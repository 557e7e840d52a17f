"""Similarities against plain slow references: their values, and their closed-form gradients against autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, uniform_filter
from torch import Tensor

from maxca.geometry import Grid
from maxca.geometry.separable import Separable, box, per_axis
from maxca.losses.score import Similarity
from maxca.losses.similarity import LocalNCC, MeanSquares, MutualInformation, local_window

SHAPE = (13, 11, 9)  # odd, so that a lattice of every second voxel ends on the last one
RADIUS = 2
BINS = 32


def image(seed: int) -> Tensor:
    """Smooth and in [0, 1], as double."""
    values = gaussian_filter(np.random.default_rng(seed).random(SHAPE), 0.8)
    return torch.from_numpy((values - values.min()) / np.ptp(values))


def half_mask() -> Tensor:
    mask = torch.zeros(SHAPE, dtype=torch.float64)
    mask[:6] = 1
    return mask


def window(step: int = 1) -> Separable:
    """Boxes in double precision."""
    operator = per_axis(box, SHAPE, (step,) * 3, (RADIUS,) * 3)
    return Separable(tuple(m.double() / m.double().sum(1, keepdim=True) for m in operator.matrices))  # type: ignore[arg-type]


def means(values: np.ndarray, step: int) -> np.ndarray:
    """SciPy's means over the part of each window that lies in the image."""
    total, count = (uniform_filter(v, 2 * RADIUS + 1, mode="constant") for v in (values, np.ones_like(values)))
    return (total / count)[::step, ::step, ::step]


def slow_local_ncc(fixed: np.ndarray, warped: np.ndarray, mask: np.ndarray | None, step: int) -> float:
    """Straight from the definition, with the floors of ``LocalNCC``."""
    mask = np.ones_like(fixed) if mask is None else mask
    share = means(mask, step)

    def inside(values: np.ndarray) -> np.ndarray:
        return np.where(share > 1e-9, means(mask * values, step) / np.maximum(share, 1e-9), 0)

    fixed_mean, warped_mean = inside(fixed), inside(warped)
    fixed_variance = np.maximum(inside(fixed**2) - fixed_mean**2, 0)
    warped_variance = np.maximum(inside(warped**2) - warped_mean**2, 0)
    cross = inside(fixed * warped) - fixed_mean * warped_mean
    floor = 1e-3 * (share * fixed_variance).sum() / share.sum()
    weight = share * (fixed_variance > floor)
    return float((weight * cross**2 / ((fixed_variance + floor) * (warped_variance + floor))).sum() / weight.sum())


def slow_mutual_information(fixed: Tensor, warped: Tensor, weight: Tensor | None) -> Tensor:
    """A dense joint histogram: whole bins for the fixed image, cubic B-splines for the warped one."""
    rows = torch.nn.functional.one_hot((fixed.flatten() * (BINS - 1)).round().long(), BINS).double()
    bins = torch.arange(-2, BINS + 2)
    distance = (warped.flatten()[:, None] * (BINS - 1) - bins - 0.5).abs()
    near, far = 2 / 3 - distance**2 + distance**3 / 2, (2 - distance).clamp(min=0) ** 3 / 6
    columns = torch.where(distance < 1, near, far)
    if weight is not None:
        rows = rows * weight.flatten()[:, None]
    joint = rows.T @ columns
    p = joint / joint.sum()
    ratio = p / (p.sum(0, keepdim=True) * p.sum(1, keepdim=True)).clamp(min=1e-300)
    return (p * torch.where(p > 0, ratio.clamp(min=1e-300).log(), 0)).sum()


def slow_mean_squares(fixed: Tensor, warped: Tensor, weight: Tensor | None) -> Tensor:
    weight = torch.ones_like(fixed) if weight is None else weight
    return -(weight * (fixed - warped) ** 2).sum() / weight.sum()


def assert_gradient_ascends(measure: Similarity, warped: Tensor) -> None:
    """The closed form agrees with a finite difference along itself and along random directions."""
    gradient = measure(warped).gradient.double()
    for direction in (gradient, torch.randn(SHAPE, dtype=torch.float64)):
        small = 1e-3 * direction / direction.abs().max()
        rise = float(measure(warped + small).value.double() - measure(warped - small).value.double())
        assert rise == pytest.approx(2 * float((gradient * small).sum()) / warped.numel(), rel=0.02, abs=5e-7)


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_local_ncc_is_that_of_the_definition(step: int, masked: bool) -> None:
    fixed, warped = image(0), image(1)
    mask = half_mask() if masked else None
    expected = slow_local_ncc(fixed.numpy(), warped.numpy(), None if mask is None else mask.numpy(), step)
    assert float(LocalNCC(fixed, window(step), mask)(warped).value) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_of_local_ncc_is_exact(step: int, masked: bool) -> None:
    measure = LocalNCC(image(0), window(step), half_mask() if masked else None)
    warped = image(1).requires_grad_()
    score = measure(warped)
    (expected,) = torch.autograd.grad(score.value, warped)
    torch.testing.assert_close(score.gradient.detach() / warped.numel(), expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(("scale", "offset"), [(2.0, 0.0), (-0.5, 3.0), (0.3, -0.2)])
def test_local_ncc_does_not_see_contrast_and_brightness(scale: float, offset: float) -> None:
    fixed = image(0)
    measure = LocalNCC(fixed, window())
    same = float(measure(fixed).value)
    assert same == pytest.approx(1, abs=0.01)
    assert float(measure(scale * fixed + offset).value) == pytest.approx(same, abs=0.03)


def test_local_ncc_of_noise_is_low_and_flat_regions_do_not_count() -> None:
    fixed = image(0)
    assert float(LocalNCC(fixed, window())(image(1)).value) < 0.3
    flat = fixed.clone()
    flat[:, :, 5:] = 0.5
    score = LocalNCC(flat, window())(flat)
    assert float(score.value) == pytest.approx(1, abs=0.02)
    assert torch.isfinite(LocalNCC(flat, window())(torch.zeros(SHAPE).double()).gradient).all()


def test_local_windows_are_cubes_of_the_wanted_size() -> None:
    for matrix in local_window(Grid((20, 20, 20), np.eye(4)), 125).matrices:
        assert int((matrix[5] > 0).sum()) == 5


def test_local_windows_hold_fewer_of_the_thick_slices() -> None:
    grid = Grid((48, 48, 12), np.diag([1.0, 1.0, 4.0, 1]))
    wide = [int((matrix[len(matrix) // 2] > 0).sum()) for matrix in local_window(grid, 125).matrices]
    assert wide[0] == wide[1] > wide[2]
    assert wide[2] * 4.0 <= wide[0] + 4.0  # mm: no wider than within the slice, but for the rounding to whole voxels
    assert 40 <= np.prod(wide) <= 375


def test_local_windows_of_a_small_slice_stay_small() -> None:
    wide = [
        int((matrix[len(matrix) // 2] > 0).sum()) for matrix in local_window(Grid((32, 32, 1), np.eye(4)), 125).matrices
    ]
    assert wide == [9, 9, 1]


@pytest.mark.parametrize(
    "weight", [None, half_mask(), torch.rand(SHAPE, dtype=torch.float64)], ids=["none", "half", "any"]
)
def test_mutual_information_is_that_of_the_joint_histogram(weight: Tensor | None) -> None:
    fixed = image(0)
    warped = (0.8 * (1 - fixed) ** 2 + 0.1 * image(1)).requires_grad_()
    slow = slow_mutual_information(fixed, warped, weight)
    (gradient,) = torch.autograd.grad(slow, warped)
    expected = slow.detach()
    score = MutualInformation(fixed, weight, BINS)(warped.detach())
    assert float(score.value) == pytest.approx(float(expected), rel=1e-6)
    scale = float(gradient.abs().max()) * warped.numel()
    torch.testing.assert_close(score.gradient.double(), gradient * warped.numel(), rtol=1e-3, atol=1e-4 * scale)


def test_local_ncc_does_not_see_what_the_mask_hides() -> None:
    fixed, warped, lesion = image(0), image(1), image(1)
    lesion[6:] = 7.0
    measure = LocalNCC(fixed, window(2), half_mask())
    seen, hidden = measure(warped), measure(lesion)
    assert float(seen.value) == pytest.approx(float(hidden.value), rel=1e-9)
    torch.testing.assert_close(seen.gradient, hidden.gradient)


def test_mutual_information_takes_weights_per_call_too() -> None:
    fixed, warped, weight = image(0), image(1), half_mask()
    once, later = MutualInformation(fixed, weight)(warped), MutualInformation(fixed)(warped, weight)
    assert float(once.value) == pytest.approx(float(later.value))
    torch.testing.assert_close(once.gradient, later.gradient)
    assert (later.gradient[6:] == 0).all()


def test_mutual_information_finds_another_contrast_alike() -> None:
    fixed = image(0)
    measure = MutualInformation(fixed)
    assert float(measure(1 - fixed).value) > 3 * float(measure(image(1)).value)


@pytest.mark.parametrize("weight", [None, half_mask()], ids=["whole", "masked"])
def test_mean_squares_and_its_gradient(weight: Tensor | None) -> None:
    fixed, warped = image(0), image(1).requires_grad_()
    slow = slow_mean_squares(fixed, warped, weight)
    (gradient,) = torch.autograd.grad(slow, warped)
    expected = slow.detach()
    score = MeanSquares(fixed, weight)(warped.detach())
    assert float(score.value) == pytest.approx(float(expected))
    torch.testing.assert_close(score.gradient, gradient * warped.numel())


@pytest.mark.parametrize("kind", ["lncc", "mi", "mse"])
def test_gradients_agree_with_finite_differences(kind: str) -> None:
    fixed = image(0)
    measures = {"lncc": LocalNCC(fixed, window(2)), "mi": MutualInformation(fixed), "mse": MeanSquares(fixed)}
    assert_gradient_ascends(measures[kind], 0.1 + 0.8 * image(1))


def test_an_empty_mask_gives_no_pull_and_no_nan() -> None:
    nothing = torch.zeros(SHAPE, dtype=torch.float64)
    for measure in (LocalNCC(image(0), window(), nothing), MeanSquares(image(0), nothing)):
        score = measure(image(1))
        assert torch.isfinite(score.value)
        assert (score.gradient == 0).all()
