"""Augmentation of labelled scans: mirrored sides exchange their labels, and nothing changes where nothing may."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maxca.training.architecture import architecture
from maxca.training.sides import counterparts
from maxca.training.variation import Anatomy, Variation, _angles, repainted, reshaped
from maxca.training.voxels import chosen_voxels, gathered, voxel_loss

STILL = Variation(rotate=0.0, tilt=0.0, scale=0.0, shift=0.0, elastic=(0.0, 0.0), mirror=0.0)
MIRRORED = Variation(rotate=0.0, tilt=0.0, scale=0.0, shift=0.0, elastic=(0.0, 0.0), mirror=1.0)
SWAP = torch.tensor([0, 2, 1, 3])
sizes = st.tuples(*[st.integers(1, 9)] * 3)


def anatomy(swap: torch.Tensor | None = SWAP, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Anatomy:
    return Anatomy(spacing, swap, torch.arange(4))


def scan(shape: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(2, 1, *shape, generator=random), torch.randint(4, (2, 1, *shape), generator=random)


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(sizes, st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_mirroring_twice_changes_nothing(shape: tuple[int, int, int], seed: int) -> None:
    images, labels = scan(shape, seed)
    once = reshaped(images, labels, anatomy(), MIRRORED, draw(seed))
    assert torch.equal(once[1], SWAP[labels.flip(2)])
    torch.testing.assert_close(once[0], images.flip(2), atol=1e-5, rtol=0)
    twice = reshaped(*once, anatomy(), MIRRORED, draw(seed))
    assert torch.equal(twice[1], labels)
    torch.testing.assert_close(twice[0], images, atol=1e-5, rtol=0)


def test_labels_of_unknown_sides_are_never_mirrored() -> None:
    images, labels = scan((6, 5, 4))
    found = reshaped(images, labels, anatomy(swap=None), MIRRORED, draw())
    assert torch.equal(found[1], labels)


@given(sizes, sizes, st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_a_crop_is_the_part_around_its_centre(
    shape: tuple[int, int, int], wanted: tuple[int, int, int], seed: int
) -> None:
    images, labels = scan(shape, seed)
    crop = tuple(min(n, m) for n, m in zip(shape, wanted, strict=True))
    low = [(seed * 7 + axis) % (n - m + 1) for axis, (n, m) in enumerate(zip(shape, crop, strict=True))]
    box = (slice(None), slice(None), *(slice(a, a + m) for a, m in zip(low, crop, strict=True)))
    centre = torch.tensor([[a + (m - 1) / 2 for a, m in zip(low, crop, strict=True)]] * 2)
    found = reshaped(images, labels, anatomy(), STILL, draw(), shape=crop, centre=centre)  # type: ignore[arg-type]
    assert torch.equal(found[1], labels[box])
    torch.testing.assert_close(found[0], images[box], atol=1e-4, rtol=0)


def test_the_same_seed_gives_the_same_image_and_another_one_another() -> None:
    how = Variation(inverted=0.5, curve=0.5, painted=0.5, head=0.5)
    images, labels = scan((12, 14, 10))
    made = []
    for seed in (1, 1, 2):
        random = draw(seed)
        shape = reshaped(images, labels, anatomy(), how, random)
        made.append(repainted(*shape, anatomy(), how, random))
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])
    assert all(float(each.min()) >= 0 and float(each.max()) <= 1 for each in made)


def test_an_inverted_contrast_is_dark_where_it_was_bright() -> None:
    ramp = torch.linspace(0.05, 1, 12).view(1, 1, 12, 1, 1).expand(1, 1, 12, 12, 12).contiguous()
    labels = torch.ones(1, 1, 12, 12, 12, dtype=torch.long)
    for inverted, sign in ((0.0, 1), (1.0, -1)):
        found = repainted(ramp, labels, anatomy(), Variation(inverted=inverted), draw())[0, 0].mean(dim=(1, 2))
        assert float(torch.corrcoef(torch.stack([found, ramp[0, 0, :, 0, 0]]))[0, 1]) * sign > 0.9


def test_thick_slices_are_hardly_tilted_and_a_slice_never() -> None:
    how = Variation(rotate=180.0, tilt=5.0)
    assert _angles((1.0, 1.0, 1.0), (9, 9, 9), how) == [180.0, 180.0, 180.0]
    assert _angles((1.5, 1.5, 8.0), (9, 9, 9), how) == [5.0, 5.0, 180.0]
    assert _angles((1.5, 1.5, 1.5), (9, 9, 1), how) == [0.0, 0.0, 180.0]


def test_gathered_embeddings_are_those_of_the_voxels() -> None:
    fold = (2, 2, 1)
    index = torch.arange(8 * 6 * 3).view(8, 6, 3)
    parts = index.view(4, 2, 3, 2, 3, 1).permute(0, 2, 4, 1, 3, 5).reshape(1, 4, 3, 3, 4, 1).float()
    where = torch.randperm(index.numel(), generator=draw())[None, :50]
    assert torch.equal(gathered(parts, where, fold)[0, :, 0].long(), where[0])


def test_four_voxels_in_five_are_of_the_foreground_and_an_empty_image_has_some_too() -> None:
    labels = torch.zeros(2, 1, 10, 10, 10, dtype=torch.long)
    labels[0, 0, 4] = 1
    where = chosen_voxels(torch.zeros(2, 1, 10, 10, 10), labels, 1000, draw())
    inside = labels.flatten(1).gather(1, where).float().mean(dim=1)
    assert where.shape == (2, 1000) and float(inside[0]) == pytest.approx(0.82, abs=0.03) and float(inside[1]) == 0


def test_the_loss_is_low_for_the_right_class_only() -> None:
    truth = torch.tensor([0, 0, 2, 2])
    right = torch.eye(3)[truth] * 40
    assert float(voxel_loss(right, truth).overlap) < 0.01
    assert float(sum(voxel_loss(right, truth))) < 1 < float(sum(voxel_loss(right.roll(1, dims=1), truth)))


def test_the_architecture_of_brains_and_hearts_is_the_one_chosen_by_hand() -> None:
    brain = architecture([(144, 176, 144)], [(1.0, 1.0, 1.0)], 4, 10_000_000)
    assert (brain.fold, brain.strides, brain.shape) == ((2, 2, 2), ((2, 2, 2),) * 3, (144, 176, 144))
    heart = architecture([(128, 128, 16)], [(1.5, 1.5, 8.0)], 4, 10_000_000)
    assert (heart.fold, heart.strides, heart.shape) == ((2, 2, 1), ((2, 2, 1), (2, 2, 2), (2, 2, 2)), (128, 128, 16))


@given(st.lists(st.tuples(*[st.integers(1, 300)] * 3), min_size=1, max_size=4), st.tuples(*[st.floats(0.1, 10)] * 3))
@settings(max_examples=60, deadline=None)
def test_training_images_fit_the_network_and_the_memory(
    shapes: list[tuple[int, int, int]], spacing: tuple[float, float, float]
) -> None:
    found = architecture(shapes, [spacing] * len(shapes), 4, 100_000)
    multiple = [1, 1, 1]
    for step in (found.fold, *found.strides):
        multiple = [m * s for m, s in zip(multiple, step, strict=True)]
    assert all(n % m == 0 for n, m in zip(found.shape, multiple, strict=True))
    voxels = found.shape[0] * found.shape[1] * found.shape[2]
    assert voxels <= 100_000
    scaled = architecture(shapes, [tuple(1e-3 * mm for mm in spacing)] * len(shapes), 4, 100_000)
    assert scaled == found


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["background", "left kidney", "right kidney", "liver"], [0, 2, 1, 3]),
        (["background", "Right-Hippocampus", "Left-Hippocampus"], [0, 2, 1]),
        (["background", "L_Putamen", "R_Putamen"], [0, 2, 1]),
        (["background", "ctx-lh-insula", "ctx-rh-insula"], [0, 2, 1]),
        (["background", "anterior", "posterior"], [0, 1, 2]),
        (["background", "left kidney", "liver"], None),
        (["background", "liver", "liver"], None),
        (["background", "right ventricle", "myocardium", "left ventricle"], None),
        (["background", "heart_atrium_left", "heart_atrium_right"], None),
        (["background", "Left Lateral Ventricle", "3rd Ventricle", "Right Lateral Ventricle"], [0, 3, 2, 1]),
        (["background", "Left Inf Lat Vent", "Right Inf Lat Vent"], [0, 2, 1]),
    ],
)
def test_counterparts_are_found_by_name(names: list[str], expected: list[int] | None) -> None:
    found = counterparts(dict(enumerate(names)))
    assert found == expected
    assert found is None or [found[n] for n in found] == list(range(len(names)))
