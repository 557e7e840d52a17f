"""Made-up images and random variants: the same for the same seed, in range, and no label that was not there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from training.prepared_data import make

from maxca.datasets.prepared import NOTHING, Prepared, read_prepared
from maxca.models.focus import focus
from maxca.training.augmentation import Augmentation, turned, warped
from maxca.training.loader import Pairs, Scans, SyntheticPairs
from maxca.training.synthesis import Synth, bend, synthetic_pair

ALL = Augmentation(flips=(0, 1), rotate=10, scale=0.1, shift=2, warp=1, bias=0.3, gamma=0.3, noise=0.05)


@pytest.fixture
def data(tmp_path: Path) -> Prepared:
    return read_prepared(make(tmp_path / "data"))


def ball() -> torch.Tensor:
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in (20, 24, 18)), indexing="ij")
    return (torch.stack(axes).norm(dim=0) < 0.6).float() * 5


def test_a_seed_decides_a_variant(data: Prepared) -> None:
    once, again, other = (Pairs(Scans(data), "train", ALL, seed)[3] for seed in (3, 3, 4))
    assert all(torch.equal(once[name], again[name]) for name in ("fixed", "moving", "fixed_labels"))
    assert not torch.equal(once["fixed"], other["fixed"])


def test_variants_stay_images_and_labels(data: Prepared) -> None:
    for number in range(6):
        sample = Pairs(Scans(data), "train", ALL, seed=1)[number]
        for side in ("fixed", "moving"):
            image, labels = sample[side][0], sample[f"{side}_labels"]
            assert image.shape == labels.shape == (12, 14, 10)
            assert image.min() >= 0
            assert image.max() <= 1
            assert set(labels.unique().tolist()) <= {0, 1, 2}
            assert image[labels > 0].mean() > 2 * image[labels == 0].mean(), "labels move with their image"


def test_nothing_varies_unless_asked(data: Prepared) -> None:
    pairs = Pairs(Scans(data), "train", Augmentation(), seed=2)
    sample = pairs[0]
    names = str(sample["name"]).split(" and ")
    for side, name in zip(("fixed", "moving"), names, strict=True):
        held = data.load(next(scan for scan in data.scans if scan.name == name))
        torch.testing.assert_close(sample[side][0], held.image.float() / 255)
        assert torch.equal(sample[f"{side}_labels"], held.labels)


def test_a_pair_is_turned_in_mm_around_the_third_axis() -> None:
    how, spacing, shape = Augmentation(turn=180, zoom=0.2), (1.5, 2.0, 8.0), (21, 31, 9)
    angles = set()
    for seed in range(5):
        matrix = turned(how, spacing, shape, np.random.default_rng(seed))
        np.testing.assert_allclose(matrix @ [10, 15, 4, 1], [10, 15, 4, 1], atol=1e-9)
        in_mm = np.diag(spacing) @ matrix[:3, :3] @ np.diag(1 / np.array(spacing))
        zoom = np.sqrt(np.linalg.det(in_mm))
        assert 0.8 <= zoom <= 1.2
        np.testing.assert_allclose(in_mm.T @ in_mm, np.diag([zoom**2, zoom**2, 1]), atol=1e-9)
        np.testing.assert_allclose(in_mm[2], [0, 0, 1], atol=1e-9)
        angles.add(round(float(np.degrees(np.arctan2(in_mm[1, 0], in_mm[0, 0])))))
    assert len(angles) == 5
    np.testing.assert_array_equal(turned(Augmentation(), spacing, shape, np.random.default_rng(0)), np.eye(4))


def test_both_images_of_a_pair_are_mirrored_or_none(data: Prepared) -> None:
    pairs = Pairs(Scans(data), "train", Augmentation(flips=(0,)), seed=2)
    kinds = set()
    for number in range(8):
        sample = pairs[number]
        same = []
        for side, name in zip(("fixed", "moving"), str(sample["name"]).split(" and "), strict=True):
            held = data.load(next(scan for scan in data.scans if scan.name == name)).image.float() / 255
            same.append(torch.allclose(sample[side][0], held, atol=1e-5))
            assert same[-1] or torch.allclose(sample[side][0], held.flip(0), atol=1e-5)
        assert same[0] == same[1]
        kinds.add(same[0])
    assert kinds == {True, False}


def test_a_moving_scan_comes_onto_the_grid_of_the_fixed_one(tmp_path: Path) -> None:
    folder = make(tmp_path / "data", count=4)
    about = json.loads((folder / "manifest.json").read_text())
    shift = np.eye(4)
    shift[0, 3] = 2  # two voxels further in its own grid
    about["scans"][1]["to_voxel"] = shift.tolist()
    (folder / "manifest.json").write_text(json.dumps(about))
    data = read_prepared(folder)
    pairs = Pairs(Scans(data), "train")
    (number,) = (n for n, (a, b) in enumerate(pairs.pairs) if (a.name, b.name) == ("s0", "s1"))
    held = data.load(data.scans[1]).image.float() / 255
    torch.testing.assert_close(pairs[number]["moving"][0, :10], held[2:])


def test_the_greatest_warp_moves_as_far_as_it_says() -> None:
    sizes = [warped(Augmentation(warp=2.0), (20, 24, 18), np.random.default_rng(n)).std() for n in range(20)]
    assert 1.5 < max(sizes) < 2.2


def test_pairs_are_cut_where_a_network_will_look_and_widened_around_their_middle(data: Prepared) -> None:
    pairs = Pairs(Scans(data), "val", shape=(8, 20, None))
    sample = pairs[0]
    fixed, moving = (data.load(scan).image.float() for scan in pairs.pairs[0])
    held = fixed / 255
    start = focus(fixed, moving, (8, None, None))[0][0]
    assert start != 2, "where they differ is not the middle"
    assert sample["fixed"].shape == (1, 8, 20, 10)
    torch.testing.assert_close(sample["fixed"][0, :, 3:17], held[start : start + 8])
    assert sample["fixed"][0, :, :2].abs().max() == sample["fixed"][0, :, 18:].abs().max() == 0


def test_variants_are_cut_near_the_middle_of_their_labels(data: Prepared) -> None:
    pairs = Pairs(Scans(data), "train", Augmentation(), shape=(8, None, None))
    middles = {
        float((torch.nonzero(pairs[number]["fixed_labels"])[:, 0].double() - 3.5).mean().abs()) for number in range(8)
    }
    assert max(middles) < 8 / 8 + 1.5
    assert len(middles) > 3, "each time another cut"


@pytest.mark.parametrize("real", [False, True])
def test_synthetic_pairs(real: bool) -> None:
    how = Synth(shape=(24, 20, 16), labels=6)
    labels = (ball(), ball()) if real else None
    once, again, other = (synthetic_pair(how, seed, labels) for seed in (1, 1, 2))
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not torch.equal(once["fixed"], other["fixed"])
    for side in ("fixed", "moving"):
        assert once[side].shape == ((20, 24, 18) if real else (24, 20, 16))
        assert once[side].min() >= 0
        assert once[side].max() <= 1
        assert torch.isfinite(once[side]).all()
    assert set(once["moving_labels"].unique().tolist()) <= ({0.0, 5.0} if real else set(map(float, range(6))))
    overlap = (once["fixed_labels"] == once["moving_labels"]).float().mean()
    assert 0.5 < overlap < 1, "bent, but the same thing"


def test_a_bend_is_as_large_as_asked_and_tears_nothing() -> None:
    for seed in range(4):
        flow = bend((48, 56, 40), 1.5, torch.Generator().manual_seed(seed))
        assert float(flow.std()) == pytest.approx(1.5, rel=0.02)
        strain = torch.stack([torch.stack(torch.gradient(part)) for part in flow]).permute(2, 3, 4, 0, 1)
        assert float(torch.linalg.det(torch.eye(3) + strain).min()) > 0


def test_synthetic_images_correspond() -> None:
    for seed in range(4):
        pair = synthetic_pair(Synth(), seed)
        fixed, moving = pair["fixed_labels"], pair["moving_labels"]
        assert float((fixed == moving)[fixed > 0].float().mean()) > 0.5, "a motion smaller than the shapes"


def test_samples_are_functions_of_their_number(data: Prepared) -> None:
    for samples in (
        Pairs(Scans(data), "train", ALL, seed=5),
        SyntheticPairs(Scans(data), Synth(shape=(12, 12, 12), labels=4), seed=5),
    ):
        first = samples[7]
        samples[3]
        again = samples[7]
        assert first.keys() == again.keys()
        assert all(torch.equal(a, again[k]) for k, a in first.items() if isinstance(a, torch.Tensor))
    assert "synthetic pair" in SyntheticPairs(Scans(NOTHING), Synth(shape=(8, 8, 8), labels=3))[0]["name"]


def test_a_training_crop_holds_most_of_the_labels(data: Prepared) -> None:
    pairs = Pairs(Scans(data), "train", Augmentation(), shape=(8, 8, 8))
    middles = []
    for number in range(20):
        found = torch.nonzero(pairs[number]["fixed_labels"])
        assert len(found) > 50
        middles.append(tuple(found.double().mean(dim=0).round().tolist()))
    assert len(set(middles)) > 5, "not always in the same place"
