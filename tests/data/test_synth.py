"""Made-up images and random variants: the same for the same seed, in range, and no label that was not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training.prepared_data import make

from maxca.data.augment import Augmentation, augmented
from maxca.data.loader import MadeUp, Pairs, fitted
from maxca.data.prepared import NOTHING, read_prepared
from maxca.data.synth import Synth, synthetic_pair

ALL = Augmentation(flips=(0, 1), rotate=10, scale=0.1, shift=2, warp=1, bias=0.3, gamma=0.3, noise=0.05)


def pair() -> dict[str, torch.Tensor]:
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in (20, 24, 18)), indexing="ij")
    ball = (torch.stack(axes).norm(dim=0) < 0.6).float()
    return {"fixed": ball * 0.8, "moving": ball * 0.6, "fixed_labels": ball * 5, "moving_labels": ball * 5}


def test_a_seed_decides_a_variant() -> None:
    once, again, other = (augmented(pair(), ALL, seed) for seed in (3, 3, 4))
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not torch.equal(once["fixed"], other["fixed"])
    assert not torch.equal(once["fixed_labels"], once["moving_labels"]), "each image moves by itself"


def test_variants_stay_images_and_labels() -> None:
    for seed in range(5):
        out = augmented(pair(), ALL, seed)
        for side in ("fixed", "moving"):
            assert out[side].shape == (20, 24, 18)
            assert out[side].min() >= 0
            assert out[side].max() <= 1
            assert set(out[f"{side}_labels"].unique().tolist()) <= {0.0, 5.0}
            inside = out[f"{side}_labels"] > 0
            assert out[side][inside].mean() > 3 * out[side][~inside].mean(), "labels move with their image"


def test_nothing_varies_unless_asked() -> None:
    out = augmented(pair(), Augmentation(), 1)
    assert all(torch.equal(out[name], tensor) for name, tensor in pair().items())


def test_a_warp_moves_about_as_far_as_it_says() -> None:
    moved = [augmented(pair(), Augmentation(warp=1.0), seed)["fixed_labels"] for seed in range(8)]
    shares = [float((m != pair()["fixed_labels"]).float().mean()) for m in moved]
    surface = 0.09  # of the volume, one voxel on either side of the ball
    assert 0.1 * surface < sum(shares) / 8 < surface


@pytest.mark.parametrize("real", [False, True])
def test_made_up_pairs(real: bool) -> None:
    how = Synth(shape=(24, 20, 16), labels=6)
    labels = pair()["fixed_labels"] if real else None
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


def test_samples_are_functions_of_their_number(tmp_path: Path) -> None:
    data = read_prepared(make(tmp_path / "data"))
    for samples in (Pairs(data, "train", ALL, seed=5), MadeUp(data, Synth(shape=(12, 12, 12), labels=4), seed=5)):
        first = samples[7]
        samples[3]
        again = samples[7]
        assert first.keys() == again.keys()
        assert all(torch.equal(a, again[k]) for k, a in first.items() if isinstance(a, torch.Tensor))
    assert "made up" in MadeUp(NOTHING, Synth(shape=(8, 8, 8), labels=3))[0]["name"]


def test_volumes_are_cut_or_widened_around_their_middle() -> None:
    volume = torch.arange(5.0).view(5, 1, 1).expand(5, 4, 3)
    out = fitted(volume, (3, 6, None))
    assert out.shape == (3, 6, 3)
    assert out[:, 2, 0].tolist() == [1, 2, 3]
    assert out[:, 0].abs().max() == out[:, 5].abs().max() == 0
