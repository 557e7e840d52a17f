"""What registration works on: intensities, content boxes and coarser scales."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from maxca.engine.volume import (
    Volume,
    at_scale,
    content_box,
    crop,
    every,
    normalise,
    steps_to,
    steps_within,
)
from maxca.geometry import Grid

SHAPE = (24, 20, 16)
SPACING = (1.0, 2.0, 4.0)


def grid(shape: tuple[int, int, int] = SHAPE, spacing: tuple[float, float, float] = SPACING) -> Grid:
    affine = np.diag([-spacing[0], spacing[1], spacing[2], 1.0])
    affine[:3, 3] = (30, -20, 10)
    return Grid(shape, affine)


def tissue() -> Tensor:
    """Smooth values in 100…900 inside a block, 0 around it."""
    values = torch.zeros(SHAPE)
    noise = gaussian_filter(np.random.default_rng(0).random(SHAPE), 1.0)
    scaled = 100 + 800 * (noise - noise.min()) / np.ptp(noise)
    values[8:14, 5:15, 6:10] = torch.from_numpy(scaled).float()[8:14, 5:15, 6:10]
    return values


def ramp(where: Grid) -> Tensor:
    """Values that are linear in world space."""
    index = np.stack(np.meshgrid(*map(np.arange, where.shape), indexing="ij"), axis=-1)
    return torch.from_numpy(where.to_world(index) @ (0.5, -0.3, 0.2)).float()


def test_intensities_end_in_zero_to_one() -> None:
    out = normalise(tissue())
    assert out.dtype == torch.float32
    assert float(out.min()) == 0
    assert float(out.max()) == 1


@pytest.mark.parametrize(("scale", "offset"), [(3.0, -1024.0), (1e-3, 0.0), (1.0, 5.0)])
def test_the_unit_of_the_intensities_does_not_matter(scale: float, offset: float) -> None:
    torch.testing.assert_close(normalise(scale * tissue() + offset), normalise(tissue()), atol=1e-4, rtol=1e-4)


def test_empty_margins_do_not_decide_the_range() -> None:
    padded = torch.nn.functional.pad(tissue(), (20,) * 6)
    torch.testing.assert_close(normalise(padded)[20:-20, 20:-20, 20:-20], normalise(tissue()), atol=0.02, rtol=0)


def test_a_few_voxels_that_shine_do_not_darken_the_rest() -> None:
    values = tissue()
    values[10, 8, 7] = 1e6
    assert float(normalise(values)[tissue() > 0].median()) > 0.3


@pytest.mark.parametrize("values", [torch.zeros(SHAPE), torch.full(SHAPE, 7.0)], ids=["zero", "seven"])
def test_an_image_without_contrast_stays_finite(values: Tensor) -> None:
    assert torch.isfinite(normalise(values)).all()


def test_an_image_with_a_single_bright_voxel_keeps_it() -> None:
    values = torch.zeros(SHAPE)
    values[3, 4, 5] = 9
    assert float(normalise(values)[3, 4, 5]) == 1


def test_the_content_box_holds_the_content_and_a_margin_in_mm() -> None:
    low, high = content_box(Volume(normalise(tissue()), grid()), margin=4.0)
    np.testing.assert_array_equal(low, (8 - 4, 5 - 2, 6 - 1))
    np.testing.assert_array_equal(high, (14 + 4, 15 + 2, 10 + 1))


def test_the_content_box_stays_inside_the_grid() -> None:
    for values in (normalise(tissue()), torch.zeros(SHAPE)):
        low, high = content_box(Volume(values, grid()), margin=1000.0)
        np.testing.assert_array_equal(low, (0, 0, 0))
        np.testing.assert_array_equal(high, SHAPE)


def test_cropping_moves_nothing_in_the_world() -> None:
    mask = torch.rand(SHAPE)
    part = crop(Volume(ramp(grid()), grid(), mask), np.array([3, 4, 5]), np.array([10, 12, 11]))
    assert part.grid.shape == (7, 8, 6)
    torch.testing.assert_close(part.values, ramp(part.grid))
    assert part.mask is not None
    torch.testing.assert_close(part.mask, mask[3:10, 4:12, 5:11])


def test_steps_bring_the_axes_near_one_spacing() -> None:
    assert steps_to(grid(), 4.0) == (4, 2, 1)
    assert steps_to(grid(), 0.5) == (1, 1, 1)
    assert steps_to(grid((24, 20, 1)), 8.0) == (8, 4, 1)


def test_steps_within_keep_every_thick_slice() -> None:
    assert steps_within(grid(), 3.9) == (3, 1, 1)
    assert steps_within(grid(), 4.0) == (4, 2, 1)
    assert steps_within(grid((1, 20, 16)), 8.0) == (1, 4, 2)


def test_a_coarser_scale_blurs_and_samples_as_scipy_does() -> None:
    volume = Volume(normalise(tissue()), grid())
    coarse = at_scale(volume, 4.0)
    np.testing.assert_allclose(coarse.grid.spacing, (4, 4, 4))
    blurred = gaussian_filter(volume.values.numpy(), (0.4 * 4, 0.4 * 2, 0), mode="nearest", radius=(7, 4, 0))
    inner = (slice(2, 4), slice(2, 8), slice(None))
    np.testing.assert_allclose(coarse.values[inner], blurred[::4, ::2][inner], atol=0.005)


@pytest.mark.parametrize("steps", [(2, 2, 1), (3, 1, 2), (3, 2, 2)])
def test_a_coarser_scale_does_not_shift_the_image(steps: tuple[int, int, int]) -> None:
    coarse = every(Volume(ramp(grid()), grid()), steps)
    inner = tuple(slice(1, None) if s == 1 else slice(2, -3) for s in steps)
    inside = ramp(coarse.grid)[inner]
    assert inside.numel() > 0
    torch.testing.assert_close(coarse.values[inner], inside, atol=2e-3, rtol=0)


def test_a_mask_gets_coarser_with_its_image_and_stays_a_weight() -> None:
    mask = (tissue() > 0).float()
    coarse = every(Volume(normalise(tissue()), grid(), mask), (2, 2, 2))
    assert coarse.mask is not None
    assert coarse.mask.shape == coarse.values.shape
    assert 0 <= float(coarse.mask.min()) < 0.01
    assert 0.9 < float(coarse.mask.max()) <= 1.0001


def test_the_finest_scale_is_the_image_itself() -> None:
    volume = Volume(normalise(tissue()), grid())
    assert at_scale(volume, 1.0) is volume


def test_a_volume_refuses_values_or_a_mask_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"\(24, 20, 16\) received \(2, 2, 2\)"):
        Volume(torch.zeros(2, 2, 2), grid())
    with pytest.raises(ValueError, match="received"):
        Volume(torch.zeros(SHAPE), grid(), torch.zeros(2, 2, 2))
