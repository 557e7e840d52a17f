"""A network recognises images like those it was trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy import ndimage

import maxca
from maxca.models.distribution import TrainingDistribution, describe, learn_distribution
from maxca.models.load import Model, load_model
from maxca.networks import NetworkConfig

CONFIG = NetworkConfig("corrxca_tiny", {})


def blobs(seed: int, size: float) -> torch.Tensor:
    """Smooth blobs of a size, somewhere."""
    noise = torch.randn(24, 28, 20, generator=torch.Generator().manual_seed(seed)).numpy()
    smooth = torch.from_numpy(ndimage.gaussian_filter(noise, size))
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def stripes(seed: int) -> torch.Tensor:
    """Across the first axis, at some distance and phase."""
    at = torch.arange(24.0) * (0.8 + 0.02 * seed) + seed
    return (0.5 + 0.5 * torch.sin(at)).view(24, 1, 1).expand(24, 28, 20).contiguous()


def test_stripes_are_outside_the_distribution_of_blobs() -> None:
    network = maxca.build_network("corrxca_tiny").eval()
    known = learn_distribution(describe(network, blobs(seed, 2.0)) for seed in range(20))
    assert known is not None
    alike = [known.distance(describe(network, blobs(100 + seed, 2.0))) for seed in range(10)]
    unlike = [known.distance(describe(network, stripes(seed))) for seed in range(10)]
    assert sum(distance <= known.limit for distance in alike) >= 9
    assert min(unlike) > known.limit
    assert known.distance(describe(network, blobs(3, 2.0))) == pytest.approx(0, abs=1e-5)


def test_brightness_does_not_matter() -> None:
    network = maxca.build_network("corrxca_tiny").eval()
    image = blobs(0, 2.0)
    torch.testing.assert_close(describe(network, 0.5 * image), describe(network, image), atol=0.1, rtol=0)


def test_what_cannot_be_described_is_not() -> None:
    assert describe(maxca.build_network("voxelmorph_tiny"), blobs(0, 2.0)) is None
    assert learn_distribution([torch.zeros(4), torch.ones(4)]) is None


def test_it_is_kept_in_the_file_of_a_model(tmp_path: Path) -> None:
    known = TrainingDistribution(torch.rand(5, 12), torch.rand(12) + 1, 1.5)
    network = CONFIG.build()
    Model(network, CONFIG, distribution=known).save(tmp_path / "m.safetensors")
    read = load_model(tmp_path / "m.safetensors")
    assert read.distribution is not None and read.distribution.limit == 1.5
    assert torch.equal(read.distribution.descriptors, known.descriptors)
    assert set(read.network.state_dict()) == set(network.state_dict())
