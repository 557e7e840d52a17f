"""Where a network looks that sees less than the whole image."""

from __future__ import annotations

import torch

from maxca.models.focus import focus


def pair(at: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise that both have in common, and a beating box of 20 x 16 x 6 voxels around a place."""
    fixed = torch.rand(100, 80, 8, generator=torch.Generator().manual_seed(0))
    moving = fixed.clone()
    moving[tuple(slice(max(0, c - h), c + h) for c, h in zip(at, (10, 8, 3), strict=True))] += 0.5
    return fixed, moving


def test_it_looks_where_the_images_differ() -> None:
    low, high = focus(*pair((62, 35, 4)), (48, 40, None))
    assert [b - a for a, b in zip(low, high, strict=True)] == [48, 40, 8]
    assert abs((low[0] + high[0]) / 2 - 62) <= 2
    assert abs((low[1] + high[1]) / 2 - 35) <= 2


def test_the_box_stays_within_the_image() -> None:
    low, high = focus(*pair((95, 3, 4)), (48, 40, None))
    assert (low, high) == ([52, 0, 0], [100, 40, 8])


def test_images_that_agree_are_looked_at_in_the_middle() -> None:
    fixed, _ = pair((50, 40, 4))
    low, high = focus(fixed, fixed, (48, 40, None))
    assert [(a + b) / 2 for a, b in zip(low, high, strict=True)] == [50, 40, 4]


def test_what_fits_is_seen_whole() -> None:
    assert focus(*pair((62, 35, 4)), (100, None, 20)) == ([0, 0, 0], [100, 80, 8])
