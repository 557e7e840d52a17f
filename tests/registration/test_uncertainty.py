"""The uncertainty is the disagreement of perturbed runs: larger where the images show nothing, and reproducible."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import phantoms
import pytest
import torch

import maxca
from maxca import Result
from maxca.cli.main import main
from maxca.engine.settings import Settings, settings_for
from maxca.engine.volume import Volume, normalise
from maxca.fields import OptionError
from maxca.geometry import Affine, Chain, DenseField
from maxca.io.images import Image
from maxca.options import RegistrationOptions
from maxca.registration.monitor import Monitor
from maxca.registration.pair import PreparedPair
from maxca.registration.uncertainty import NOISE, Runs, disagreement, noise_level, with_noise

QUICK: dict[str, Any] = {"effort": "fast", "model": "none", "threads": 1}
WHERE = phantoms.grid((3.0, 3.0, 3.0), flips="i")
HOLE, RADIUS = np.array([9.0, 0.0, 0.0]), 14.0  # mm: a part without texture
NODES = phantoms.nodes(WHERE)


def holed(points: np.ndarray) -> np.ndarray:
    """The scene, with a part without texture."""
    plain = np.linalg.norm(points - HOLE, axis=-1) < RADIUS
    return np.where(plain, 400 * phantoms.inside(points), phantoms.scene(points))


def seen(through: Any, seed: int) -> Image:
    noise = np.random.default_rng(seed).normal(0, 12, WHERE.shape)
    values = holed(through(NODES))
    return Image((values + noise * (values > 0)).astype(np.float32), WHERE)


@pytest.fixture(scope="module")
def pair() -> tuple[Image, Image]:
    return seen(phantoms.bend, 1), seen(lambda points: points, 2)


@pytest.fixture(scope="module")
def found(pair: tuple[Image, Image]) -> Result:
    return maxca.register(*pair, **QUICK, uncertainty=4, fixed_labels=phantoms.image(WHERE, what=phantoms.regions))


def test_it_is_larger_where_the_images_show_nothing(found: Result) -> None:
    assert found.uncertainty is not None and found.uncertainty.grid == WHERE
    there = phantoms.bend(NODES)
    depth, away = phantoms.RADIUS - np.linalg.norm(there, axis=-1), np.linalg.norm(there - HOLE, axis=-1)
    plain, textured = (depth > 4) & (away < RADIUS - 4), (depth > 8) & (away > RADIUS + 4)
    assert found.uncertainty.data[plain].mean() > 1.3 * found.uncertainty.data[textured].mean() > 0
    error = np.linalg.norm(found.chain.map_points(NODES) - there, axis=-1)
    assert error[plain].mean() > 1.3 * error[textured].mean()
    assert 0.3 < found.uncertainty.data[textured].mean() / error[textured].mean() < 1


def test_the_result_is_that_without_it_and_it_is_reproducible(pair: tuple[Image, Image], found: Result) -> None:
    plain = maxca.register(*pair, **QUICK)
    assert plain.uncertainty is None and plain.metrics.uncertainty is None
    for mine, other in zip(plain.chain.steps, found.chain.steps, strict=True):
        if isinstance(mine, DenseField):
            assert isinstance(other, DenseField) and torch.equal(mine.displacement, other.displacement)
    np.testing.assert_array_equal(plain.warped.data, found.warped.data)
    again = maxca.register(*pair, **QUICK, uncertainty=4)
    assert again.uncertainty is not None and found.uncertainty is not None
    np.testing.assert_array_equal(again.uncertainty.data, found.uncertainty.data)


def test_it_is_the_standard_deviation_of_the_whole_map_in_mm() -> None:
    """Of four translations through an affine, against NumPy."""
    volume = Volume(normalise(torch.as_tensor(seen(lambda points: points, 3).data)), WHERE)
    volumes = PreparedPair(volume, volume, volume, None, Chain())
    shifts = np.random.default_rng(4).normal(0, 2, (4, 3))
    matrix = np.diag([2.0, 1.0, 0.5, 1.0])
    left = list(shifts)
    smoothness = []

    def estimate(_: PreparedPair, settings: Settings) -> Chain:
        smoothness.append(settings.smoothness)
        shift = np.eye(4)
        shift[:3, 3] = left.pop()
        return Chain((Affine(shift), Affine(matrix)))

    settings = settings_for(WHERE, "balanced")
    deviation = disagreement(estimate, volumes, settings, Runs(4, 0), Monitor())
    expected = np.sqrt((shifts * np.diag(matrix)[:3]).var(axis=0, ddof=1).sum())
    np.testing.assert_allclose(deviation.values.numpy(), expected, rtol=1e-5)
    assert np.isclose(min(smoothness) * max(smoothness), settings.smoothness**2)
    assert np.isclose(max(smoothness) / min(smoothness), 2)


def test_the_noise_of_an_image_is_measured_and_added_to_its_content_only() -> None:
    smooth = 0.5 + 0.2 * np.sin(NODES[..., 0] / 20)
    inside = np.linalg.norm(NODES, axis=-1) < 26
    values = np.where(inside, smooth + np.random.default_rng(5).normal(0, 0.05, inside.shape), 0)
    volume = Volume(torch.as_tensor(values, dtype=torch.float32), WHERE)
    assert abs(noise_level(volume) - 0.05) < 0.01
    pair = PreparedPair(volume, volume, volume, None, Chain())
    noisy = with_noise(pair, torch.Generator().manual_seed(0))
    assert torch.equal(noisy.fixed.values, volume.values)  # of which the affine was found
    added = (noisy.upright.values - volume.values).numpy()
    assert not added[~inside].any() and abs(added[inside].std() - NOISE * noise_level(volume)) < 0.001
    assert np.abs(np.corrcoef(added[inside], (noisy.moving.values - volume.values).numpy()[inside])[0, 1]) < 0.1


@pytest.mark.parametrize("more", [{"preset": "longitudinal"}, {"restrict": "0x1x0"}])
def test_it_is_that_of_the_same_kind_of_deformation(pair: tuple[Image, Image], more: dict[str, Any]) -> None:
    result = maxca.register(*pair, **QUICK | more, uncertainty=2)
    assert result.metrics.uncertainty is not None and result.metrics.uncertainty.mean_mm > 0


def test_several_channels_and_a_slice(pair: tuple[Image, Image]) -> None:
    inverted = [replace(each, data=np.where(each.data > 0, 900 - each.data, 0).astype(np.float32)) for each in pair]
    result = maxca.register([pair[0], inverted[0]], [pair[1], inverted[1]], **QUICK, uncertainty=2)
    assert result.metrics.uncertainty is not None and result.metrics.uncertainty.mean_mm > 0
    grid = WHERE.box((0, 0, 10), (WHERE.shape[0], WHERE.shape[1], 11))
    flat = [Image(each.data[:, :, 10:11], grid) for each in pair]
    result = maxca.register(*flat, **QUICK, uncertainty=2)
    assert result.uncertainty is not None and result.uncertainty.data.shape == grid.shape


def test_the_command_writes_the_map_and_the_report_shows_it(pair: tuple[Image, Image], tmp_path: Path) -> None:
    for name, image in zip(("fixed", "moving"), pair, strict=True):
        image.save(tmp_path / f"{name}.nii.gz")
    phantoms.image(WHERE, what=phantoms.regions).save(tmp_path / "labels.nii.gz")
    words = ["-f", tmp_path / "fixed.nii.gz", "-m", tmp_path / "moving.nii.gz", "-o", tmp_path / "out"]
    words += ["--fixed-labels", tmp_path / "labels.nii.gz", "--effort", "fast", "--model", "none", "--threads", "1"]
    assert main(["register", "--uncertainty", "2", "--report", *map(str, words)]) == 0
    written, loaded = nib.load(tmp_path / "out" / "uncertainty.nii.gz"), Result.load(tmp_path / "out")
    summary = loaded.metrics.uncertainty
    assert loaded.uncertainty is not None and summary is not None
    np.testing.assert_array_equal(np.asarray(written.dataobj), loaded.uncertainty.data)
    assert summary.runs == 2 and set(summary.by_label) == {"1", "2", "3", "4"}
    assert 0 < summary.mean_mm < summary.p95_mm
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Uncertainty" in page and "standard deviation" in page


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"uncertainty": 1}, "at least 2"),
        ({"uncertainty": 2.5}, "whole number"),
        ({"uncertainty": 8, "transform": "affine"}, "is that of a deformation, not of affine"),
    ],
)
def test_invalid_numbers_are_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=f"uncertainty=.*{said}|uncertainty.*{said}"):
        RegistrationOptions(**given)
