"""A network's answer in the world, and what ``register`` makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import phantoms
import pytest
import torch
from torch import Tensor, nn

import maxca
from maxca.engine.affine import align
from maxca.engine.settings import Level, Settings
from maxca.engine.volume import Volume
from maxca.geometry import Affine, Grid
from maxca.models.domain import Domain
from maxca.models.load import Model, gain
from maxca.models.predict import network_field, predict
from maxca.networks import NetworkConfig, Prediction
from maxca.registration.result import Result

CONFIG = NetworkConfig("corrxca_tiny", {})


class Constant(nn.Module):
    """Says the same about every pair: so many voxels along each axis."""

    def __init__(self, *flow: float) -> None:
        super().__init__()
        self.flow = flow
        self.seen: list[Tensor] = []

    def forward(self, fixed: Tensor, moving: Tensor) -> Prediction:
        self.seen += [fixed, moving]
        flow = torch.tensor(self.flow, dtype=torch.float32).view(1, 3, 1, 1, 1).expand(1, 3, *fixed.shape[2:])
        return Prediction(flow.clone())


def volume(grid: Grid) -> Volume:
    return Volume(torch.from_numpy(phantoms.scene(phantoms.nodes(grid)) / 1000).float(), grid)


@pytest.mark.parametrize("flips", ["", "ik"])
@pytest.mark.parametrize("spacing", [None, (5.0, 5.0, 4.0)])
def test_a_flow_in_voxels_becomes_a_motion_in_mm(flips: str, spacing: tuple[float, float, float] | None) -> None:
    where = phantoms.grid((2.5, 2.0, 3.0), flips=flips)
    network = Constant(1.0, -2.0, 0.5)
    field = network_field(Model(network, CONFIG, spacing), volume(where), volume(where), Affine.identity())
    mm = np.array(spacing or where.spacing) * (1.0, -2.0, 0.5)
    moved = field.map_points(where.center[None]) - where.center
    np.testing.assert_allclose(moved[0], mm, atol=1e-4)  # whichever way the axes run, the network sees RAS


def test_the_network_sees_the_moving_image_after_the_affine() -> None:
    where = phantoms.grid()
    shift = np.eye(4)
    shift[:3, 3] = (5.0, 0.0, -5.0)
    network = Constant(0.0, 0.0, 0.0)
    fixed = volume(where)
    points = Affine(np.linalg.inv(shift)).map_points(phantoms.nodes(where))
    moving = replace(fixed, channels=torch.from_numpy(phantoms.scene(points) / 1000).float())
    network_field(Model(network, CONFIG), fixed, moving, Affine(shift))
    seen_fixed, seen_moving = network.seen
    inner = (..., slice(4, -4), slice(4, -4), slice(4, -4))
    assert (seen_fixed - seen_moving)[inner].abs().max() < 1e-4


def test_a_slice_stays_in_its_plane() -> None:
    plane = Grid((40, 30, 1), np.diag([2.0, 2.0, 5.0, 1.0]))
    image = Volume(torch.rand(plane.shape), plane)
    field = network_field(Model(Constant(1, 1, 1), CONFIG, (2.0, 2.0, 2.0)), image, image, Affine.identity())
    assert field.grid.shape == plane.shape
    assert field.displacement[2].abs().max() == 0


def test_the_network_sees_every_scan_the_same_way_round() -> None:
    network = Constant(1.0, 0.0, 0.0)
    for flips in ("", "ij", "k"):
        where = phantoms.grid((2.5, 2.0, 3.0), flips=flips)
        image = volume(where)
        field = network_field(Model(network, CONFIG, (2.5, 2.5, None)), image, image, Affine.identity())
        np.testing.assert_allclose(field.grid.affine[:3, :3], np.diag([2.5, 2.5, 3.0]), atol=1e-9)
        inner = field.displacement[:, 3:-3, 3:-3, 3:-3]
        torch.testing.assert_close(inner, torch.tensor([2.5, 0.0, 0.0]).view(3, 1, 1, 1).expand_as(inner))


def test_a_network_that_sees_a_part_moves_that_part_alone() -> None:
    grid = Grid((60, 50, 12), np.diag([2.0, 2.0, 5.0, 1.0]))
    fixed = torch.rand(grid.shape, generator=torch.Generator().manual_seed(0))
    moving = fixed.clone()
    moving[32:44, 10:22] += 0.5
    network = Constant(1.0, -1.0, 0.5)
    pair = Volume(fixed, grid), Volume(moving, grid)
    field = network_field(Model(network, CONFIG, shape=(24, 24, None)), *pair, Affine.identity())
    assert network.seen[0].shape[2:] == (24, 24, 12)
    start = grid.to_world(np.array([[38.0, 16.0, 6.0], [5.0, 40.0, 6.0], [27.0, 16.0, 6.0]]))
    moved = field.map_points(start) - start
    np.testing.assert_allclose(moved[0], (2.0, -2.0, 2.5), atol=1e-5)
    np.testing.assert_allclose(moved[1], 0, atol=1e-9)
    assert 0 < moved[2][0] < 2  # it fades towards the end of the box
    along = np.linspace(5, 55, 501)  # and nowhere jumps
    line = grid.to_world(np.stack([along, np.full(501, 16.0), np.full(501, 6.0)], axis=1))
    assert np.abs(np.diff(field.map_points(line) - line, axis=0)).max() < 0.1


class Rightwards(nn.Module):
    """Says in voxels how bright each voxel is, along the first axis: no mirror image agrees with it."""

    def forward(self, fixed: Tensor, moving: Tensor) -> Prediction:
        return Prediction(torch.cat([fixed + 1, fixed, 2 * moving], dim=1))


def test_mirror_images_are_turned_back() -> None:
    image = volume(phantoms.grid((2.5, 2.0, 3.0)))
    plain, mirrored, both = (
        network_field(Model(Rightwards(), CONFIG, mirror=axes), image, image, Affine.identity()).displacement
        for axes in ((), (0,), (0, 2))
    )
    # Along x the answers of the mirror images cancel; along y and z they agree.
    torch.testing.assert_close(mirrored[0], torch.zeros_like(plain[0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(mirrored[1:], plain[1:])
    torch.testing.assert_close(both[1], plain[1])
    assert both[2].abs().max() < 1e-5


class Told(nn.Module):
    """Knows the true map, or its opposite."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = sign

    def forward(self, fixed: Tensor, moving: Tensor) -> Prediction:
        where = phantoms.grid()
        nodes = phantoms.nodes(where)
        flow = self.sign * (wave(nodes) - nodes) / where.spacing
        return Prediction(torch.from_numpy(flow).float().permute(3, 0, 1, 2).unsqueeze(0))


def wave(points: np.ndarray) -> np.ndarray:
    """A smooth map without any affine part to speak of."""
    x, y, z = np.moveaxis(points, -1, 0)
    return points + 4 * np.stack([np.sin(y / 9 + z / 13), np.cos(x / 10) * np.sin(z / 11), np.sin(x / 9 - y / 12)], -1)


def unmoved(*pair: object, **options: object) -> object:
    """The affine that was found, replaced by the identity."""
    return replace(align(*pair, **options), affine=Affine.identity())  # type: ignore[arg-type]


@pytest.fixture
def unprepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions are known on the whole grid, and without an affine."""
    monkeypatch.setattr("maxca.registration.pair._cropped", lambda volume, _regions=(): volume)
    monkeypatch.setattr("maxca.registration.register.align", unmoved)


def registered_by(model: Model) -> Result:
    """A registration with a network that knows the truth."""
    where = phantoms.grid()
    return maxca.register(phantoms.image(where, wave), phantoms.image(where), model=model, effort="fast")


@pytest.mark.usefixtures("unprepared")
@pytest.mark.parametrize("good", [True, False], ids=["good", "bad"])
def test_a_prediction_is_accepted_only_if_it_helps(good: bool) -> None:
    result = registered_by(Model(Told(1.0 if good else -1.0), CONFIG))
    assert result.record.network is not None
    assert result.record.network.accepted == good
    assert len(result.record.levels) <= 2 or not good
    assert any("acceptance check" in warning for warning in result.warnings) != good
    assert "model" not in result.record.inputs  # it has no file


@pytest.mark.parametrize("sign", [-1.0, 1.0], ids=["away", "towards"])
def test_a_start_is_accepted_if_it_is_better_than_coarse_levels_alone(sign: float) -> None:
    where = phantoms.grid()
    fixed, moving = (
        Volume(torch.from_numpy(phantoms.scene(points) / 1000).float(), where)
        for points in (wave(phantoms.nodes(where)), phantoms.nodes(where))
    )
    settings = Settings((Level(2, 5), Level(1, 5), Level(1, 5)), smoothness=3 * where.smallest_spacing)
    found = predict(Model(Told(sign), CONFIG), fixed, moving, Affine.identity(), settings)
    scores = found.similarity
    assert found.accepted == (sign > 0)
    assert scores["optimised"] > scores["affine"]
    assert scores["started"] != scores["network"]
    # The truth is better as it is than smoothed by coarse levels.
    points = phantoms.nodes(phantoms.grid((8.0, 8.0, 8.0), extent=24.0)).reshape(-1, 3)
    missed = np.linalg.norm(found.field.map_points(points) - wave(points), axis=1)
    assert (missed.max() < 0.5) == (sign > 0)
    rough = predict(Model(Told(0.4), CONFIG), fixed, moving, Affine.identity(), settings)
    assert rough.similarity["started"] > rough.similarity["network"]
    assert rough.accepted
    told = predict(Model(Told(sign), CONFIG, refine=0), fixed, moving, Affine.identity(), settings)
    assert told.similarity.keys() == {"affine", "network"}
    assert told.accepted == (sign > 0)


@pytest.mark.usefixtures("unprepared")
@pytest.mark.parametrize("steps", [0, 3])
def test_a_model_says_how_much_its_prediction_is_refined(steps: int) -> None:
    result = registered_by(Model(Told(1.0), CONFIG, refine=steps))
    assert sum(level.steps or 0 for level in result.record.levels) == steps
    points = phantoms.nodes(phantoms.grid((8.0, 8.0, 8.0), extent=24.0)).reshape(-1, 3)
    missed = np.linalg.norm(result.chain.map_points(points) - wave(points), axis=1)
    assert missed.max() < (0.6 if steps == 0 else 2.0)


def test_a_registration_with_a_model_says_so_and_repeats(tmp_path: Path) -> None:
    where = phantoms.grid((3.0, 3.0, 3.0))
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    Model(CONFIG.build(), CONFIG, (4.0, 4.0, 4.0)).save(path)
    pair = phantoms.image(where, phantoms.bend), phantoms.image(where)
    first, again = (maxca.register(*pair, model=str(path), effort="fast") for _ in range(2))
    assert first.record.settings.model == str(path)
    assert first.record.inputs["model"].path == str(path.resolve())
    assert first.record.network is not None
    assert first.record.network.spacing_mm == [4.0, 4.0, 4.0]
    assert first.record.metrics.folding.ndv_percent == 0
    np.testing.assert_array_equal(first.warped.data, again.warped.data)


BODY = ((40.0, 400.0),) * 3


@pytest.fixture
def zoo(unprepared: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Model]:
    """Bundled models by name, with the networks given here."""
    held: dict[str, Model] = {}
    source = {"path": "of a model", "sha256": "0" * 64}
    for name, made in {
        "read_domain": lambda path: held[path.stem].domain,
        "load_model": lambda path, device: replace(held[path.stem], source=source),
        "is_segmenter": lambda path: False,
        "shipped": lambda: list(held),
        "find_model": lambda name: tmp_path / f"{name}.safetensors",
    }.items():
        monkeypatch.setattr(f"maxca.models.select.{name}", made)
    return held


def chosen(similarity: str = "lncc") -> Result:
    where = phantoms.grid()
    return maxca.register(phantoms.image(where, wave), phantoms.image(where), similarity=similarity, effort="fast")


def test_the_first_model_that_fits_and_is_accepted_is_used(zoo: dict[str, Model]) -> None:
    zoo["anything"] = Model(Told(1.0), CONFIG, name="anything")
    zoo["elsewhere"] = Model(Told(1.0), CONFIG, name="elsewhere", domain=Domain(((1, 2),) * 3, "lncc", 0.0))
    zoo["fails"] = Model(Told(-1.0), CONFIG, name="fails", domain=Domain(BODY, "lncc", 0.05))
    zoo["weak"] = Model(Constant(0.0, 0.0, 0.0), CONFIG, name="weak", domain=Domain(BODY, "lncc", 0.05))
    zoo["right"] = Model(Told(1.0), CONFIG, name="right", domain=Domain(BODY, "lncc", 0.05), refine=0)
    zoo["late"] = Model(Told(1.0), CONFIG, name="late", domain=Domain(BODY, "lncc", 0.05))
    result = chosen()
    assert result.record.network is not None
    assert result.record.settings.model == result.record.network.name == "right"
    assert result.record.inputs["model"]
    assert result.record.levels == []
    reasons = dict(reason.split(": ", 1) for reason in result.record.model_reason.split("; ") if ": " in reason)
    assert "only when named explicitly" in reasons["anything"]
    assert "its training images were 1 to 2" in reasons["elsewhere"]
    assert list(reasons) == ["anything", "elsewhere", "fails", "weak", "right"]


def test_no_model_is_better_than_a_wrong_one(zoo: dict[str, Model]) -> None:
    zoo["fails"] = Model(Told(-1.0), CONFIG, name="fails", domain=Domain(BODY, "lncc", 0.05))
    zoo["other"] = Model(Told(1.0), CONFIG, name="other", domain=Domain(BODY, "mi", 0.05))
    result = chosen()
    assert result.record.settings.model == "none"
    assert "trained with mi, not lncc" in result.record.model_reason
    assert result.record.network is None
    assert result.record.levels
    assert not any("not used" in warning for warning in result.warnings)
    assert "model" not in result.record.inputs


def test_gain_is_a_share_of_what_was_missing() -> None:
    assert gain({"affine": 0.2, "network": 0.6}) == pytest.approx(0.5)
    assert gain({"affine": 0.9, "network": 0.85}) == pytest.approx(-0.5)
    assert gain({"affine": 1.0, "network": 1.0}) == 0


def test_auto_on_real_hippocampi_and_on_something_as_small(data_folder: Callable[[str], Path]) -> None:
    images = data_folder("hippocampus") / "imagesTr"
    fixed, moving = images / "hippocampus_185.nii.gz", images / "hippocampus_361.nii.gz"
    known = maxca.register(fixed, moving, effort="fast", threads=2)
    assert known.record.settings.model == "hippocampus"
    # Pieces as large, out of the front of two brains.
    brains = sorted((data_folder("oasis")).glob("sub-*/anat/*T1w.nii.gz"))[:2]
    pieces = []
    for path in brains:
        brain = maxca.read_image(path)
        low = [n // 2 - m // 2 + shift for n, m, shift in zip(brain.grid.shape, (36, 50, 36), (0, 40, 0), strict=True)]
        high = [a + m for a, m in zip(low, (36, 50, 36), strict=True)]
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        pieces.append(replace(brain, data=brain.data[box], grid=brain.grid.box(low, high), path=None))
    other = maxca.register(*pieces, effort="fast", initial_transform="center", threads=2)
    assert other.record.settings.model == "none"
    assert "outside the model's training distribution" in other.record.model_reason
