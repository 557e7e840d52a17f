"""A segmentation network of any organ: it learns, resumes to the same weights, and guides and labels afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from prepared_data import make
from safetensors.torch import load_file, save_file
from segmenters import ByBrightness

from maxca.blocks import MAXCA
from maxca.datasets.prepared import SCANS, read_prepared
from maxca.errors import MaxcaError
from maxca.models.segmentation import Segmenter
from maxca.models.segmentation_file import load_segmenter
from maxca.registration.labelling import label
from maxca.training import recipes
from maxca.training.config import SegmentationConfig
from maxca.training.loader import Scans, batches
from maxca.training.options import TrainingOptions
from maxca.training.run import LOG_COLUMNS, read_log
from maxca.training.segmentation import SegmentationTask
from maxca.training.segmented import SegmentationValidation
from maxca.training.start import train_in

CPU = TrainingOptions(device="cpu", threads=1)
SMALL = replace(
    recipes.segmentation(), recipe="small", channels=(8, 12), voxels=800, steps=6, validate=3, save=2, average=0.9
)
STILL = replace(
    SMALL.variation, rotate=0.0, scale=0.0, shift=0.0, elastic=(0.0, 0.0), mirror=0.0
)  # only intensities vary


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make(tmp_path / "data", shape=(20, 24, 18))


@pytest.fixture(autouse=True)
def _small_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, SMALL)


def use(monkeypatch: pytest.MonkeyPatch, config: SegmentationConfig) -> None:
    monkeypatch.setitem(recipes.RECIPES, "small", lambda: config)


class Interrupted(Exception):
    pass


def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(data: Path, tmp_path: Path) -> None:
    def interrupt(_row: dict[str, float]) -> None:
        raise Interrupted

    whole = train_in("small", data, tmp_path / "whole", CPU)
    with pytest.raises(Interrupted):  # after the validation of step 3; the last checkpoint is of step 2
        train_in("small", data, tmp_path / "cut", CPU, report=interrupt)
    cut = train_in("small", data, tmp_path / "cut", CPU, resume=True)
    expected, ended = (torch.load(run / "checkpoint.pt", weights_only=True) for run in (whole, cut))
    assert ended["step"] == 6
    for part in ("network", "average"):
        assert all(torch.equal(ended[part][name], tensor) for name, tensor in expected[part].items())
    models = [load_file(run / "last.safetensors") for run in (whole, cut)]
    assert all(torch.equal(models[1][name], tensor) for name, tensor in models[0].items())


def test_training_lowers_the_loss_and_the_network_labels_the_scan(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faster = replace(SMALL.optimiser, rate=2e-2, warmup=5)
    use(monkeypatch, replace(SMALL, variation=STILL, optimiser=faster, batch=1, steps=40, validate=40))
    run = train_in("small", data, tmp_path / "run", CPU)
    log = read_log(run / "log.csv")
    assert float(log[-1]["loss"]) < 0.5 * float(log[0]["loss"])
    assert float(log[-1]["dice"]) > 0.75
    assert set(log[-1]) <= set(LOG_COLUMNS)
    table = (run / "best.tsv").read_text().splitlines()
    assert table[0] == "index\tname\tdice" and [row.split("\t")[0] for row in table[1:]] == ["1", "2"]
    assert np.mean([float(row.split("\t")[2]) for row in table[1:]]) == pytest.approx(float(log[-1]["dice"]), abs=0.02)


def test_the_model_knows_the_data_it_was_trained_on(data: Path, tmp_path: Path) -> None:
    manifest = data / "manifest.json"
    about = json.loads(manifest.read_text())
    for row, mm in zip(about["scans"], (4.0, 4.0, 5.0, 4.0, 4.0), strict=True):
        row["spacing"] = [1.5, 1.5, mm]
    manifest.write_text(json.dumps(about | {"names": [[1, "cortex"], [2, "medulla"]], "shape": [20, None, None]}))
    run = train_in("small", data, tmp_path / "run", CPU)
    model = load_segmenter(run / "best.safetensors")
    assert model.spacing == (1.5, 1.5, None) and model.shape == (20, None, None)
    assert dict(model.names) == {0: "background", 1: "cortex", 2: "medulla"}
    assert model.extent_mm is not None
    for axis, mm in enumerate((20 * 1.5, 24 * 1.5, 18 * 4.5)):
        assert model.extent_mm[axis][0] < mm < model.extent_mm[axis][1]
    log = read_log(run / "log.csv")
    confidences = [float(row["confidence"]) for row in log if row["confidence"]]
    assert min(abs(1 - 7 / 6 * (1 - each) - model.confidence) for each in confidences) < 1e-3
    assert tuple(model.network.fold) == (2, 2, 1)


@pytest.mark.parametrize(("shape", "finest"), [((20, 95, 18), 0.0), ((20, 97, 18), 1.5), ((20, 24, 18), 0.0)])
def test_a_small_organ_is_guided_at_every_level(shape: tuple[int, int, int], finest: float, tmp_path: Path) -> None:
    folder = make(tmp_path / "data", shape=shape)
    for path in (folder / SCANS).iterdir():  # content in every voxel
        tensors = load_file(path)
        save_file(tensors | {"image": tensors["image"].clamp(min=40)}, path)
    assert SegmentationTask(SMALL, read_prepared(folder)).finest_mm == finest


@pytest.mark.parametrize("shape", [(24, 20, 1), (20, 24, 3), (7, 9, 8)])
def test_a_slice_a_stack_of_few_slices_and_a_tiny_image_can_be_trained_on(
    shape: tuple[int, int, int], tmp_path: Path
) -> None:
    flat = shape[2] == 1
    folder = make(tmp_path / "data", shape=(*shape[:2], 3) if flat else shape)
    for path in (folder / SCANS).iterdir():
        tensors = load_file(path)
        save_file({name: (each[..., 1:2] if flat else each).contiguous() for name, each in tensors.items()}, path)
    run = train_in("small", folder, tmp_path / "run", replace(CPU, steps=2))
    model = load_segmenter(run / "best.safetensors")
    assert model.network.fold[2] == (2 if shape[2] == 8 else 1)
    values = read_prepared(folder).load(read_prepared(folder).scans[0]).image.numpy()
    assert label((values.astype(np.float32), np.eye(4)), model, "cpu").image.data.shape == shape


def test_a_batch_counts_as_its_scans_alone(data: Path) -> None:
    task = SegmentationTask(replace(SMALL, batch=2), read_prepared(data))
    torch.manual_seed(0)
    model = task.trained(task.network())

    def losses(numbers: list[int]) -> torch.Tensor:
        batch = next(batches(task.samples(), numbers, len(numbers), 0, pin=False))
        return task.terms(model, {k: v for k, v in batch.items() if isinstance(v, torch.Tensor)}, 0)["loss"]

    with torch.no_grad():
        assert float(losses([3, 8])) == pytest.approx(float(losses([3]) + losses([8])) / 2, rel=1e-4)


def test_large_scans_are_cropped_around_their_labels(tmp_path: Path) -> None:
    task = SegmentationTask(replace(SMALL, crop=1000), read_prepared(make(tmp_path / "data", shape=(40, 24, 18))))
    crop = task.design.shape
    assert np.prod(crop) <= 1000
    samples = task.samples()
    middles = [samples[n]["centre"] for n in range(40)]
    for axis, (n, m) in enumerate(zip((40, 24, 18), crop, strict=True)):
        at = [float(middle[axis]) for middle in middles]  # type: ignore[index]
        assert (m - 1) / 2 <= min(at) and max(at) <= n - 1 - (m - 1) / 2


def test_a_perfect_segmentation_has_a_dice_and_a_slope_of_1(tmp_path: Path) -> None:
    folder = make(tmp_path / "data", shape=(24, 28, 22))
    values = torch.tensor([0, 76, 230], dtype=torch.uint8)
    for path in (folder / SCANS).iterdir():
        labels = load_file(path)["labels"]
        save_file({"image": values[labels.long()], "labels": labels}, path)
    validation = SegmentationValidation(Scans(read_prepared(folder)), 10)
    model = Segmenter(ByBrightness(2), {0: "background", 1: "one", 2: "two"})  # type: ignore[arg-type]
    measured = validation(model, torch.device("cpu"))
    assert measured.row["dice"] > 0.99 and measured.least_confidence > 0.9
    assert measured.calibration[0] == 0 and measured.calibration[1] == pytest.approx(1, abs=0.1)


def test_labels_that_cannot_be_learnt_are_named(data: Path, tmp_path: Path) -> None:
    def with_labels(value: int | None) -> None:
        for path in (data / SCANS).iterdir():
            tensors = load_file(path)
            labels = torch.full_like(tensors["image"], value or 0, dtype=torch.int16)
            save_file({"image": tensors["image"]} | ({} if value is None else {"labels": labels}), path)

    for value, said in (
        (7, "are 7 everywhere"),
        (0, "are 0 everywhere"),
        (None, "no scan of the split train has label"),
    ):
        with_labels(value)
        with pytest.raises(MaxcaError, match=f"{said}.*column labels") as error:
            train_in("small", data, tmp_path / "run", CPU)
        assert "\n" not in str(error.value)
    with pytest.raises(MaxcaError, match="needs data=FOLDER"):
        train_in("small", None, tmp_path / "run", CPU)


def test_without_labelled_validation_scans_there_is_a_warning(data: Path, tmp_path: Path) -> None:
    for name in ("s0", "s3", "s4"):
        path = data / SCANS / f"{name}.safetensors"
        save_file({"image": load_file(path)["image"]}, path)
    said: list[str] = []
    run = train_in("small", data, tmp_path / "run", replace(CPU, steps=2), warn=said.append)
    assert len(said) == 2
    assert "1 training scans have no labels" in said[0] and "no labelled validation scans" in said[1]
    model = load_segmenter(run / "best.safetensors")
    assert (model.confidence, model.calibration) == (0.0, (0.0, 1.0))
    assert not (run / "best.tsv").exists()


def test_training_starts_from_a_model_of_the_same_network(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train_in("small", data, tmp_path / "first", CPU)
    frozen = replace(SMALL, optimiser=replace(SMALL.optimiser, rate=0.0), average=0.0)
    use(monkeypatch, frozen)
    second = train_in("small", data, tmp_path / "second", replace(CPU, init=first / "last.safetensors"))
    a, b = (load_file(run / "last.safetensors") for run in (first, second))
    assert all(torch.equal(a[name], b[name]) for name in a)
    use(monkeypatch, replace(frozen, channels=(8, 16)))
    with pytest.raises(MaxcaError, match="these scans need a"):
        train_in("small", data, tmp_path / "third", replace(CPU, init=first / "last.safetensors"))
    with pytest.raises(MaxcaError, match="a registration model"):
        train_in("small", data, tmp_path / "third", replace(CPU, init="hippocampus"))


def test_other_labels_keep_the_features_of_a_model(data: Path, tmp_path: Path) -> None:
    first = train_in("small", data, tmp_path / "first", replace(CPU, steps=2))
    for path in (data / SCANS).iterdir():
        tensors = load_file(path)
        save_file(tensors | {"labels": tensors["labels"].clamp(max=1)}, path)
    task = SegmentationTask(SMALL, read_prepared(data))
    weights = task.weights(first / "last.safetensors")
    assert set(task.network().state_dict()) - set(weights) == {"classes.weight", "classes.bias"}


def test_attention_at_the_finest_level_comes_back_from_the_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, replace(SMALL, finest=recipes.RECIPES["segmentation_maxca"]().finest))  # type: ignore[attr-defined]
    run = train_in("small", data, tmp_path / "run", replace(CPU, steps=2))
    network = load_segmenter(run / "last.safetensors").network
    assert isinstance(network.down[0][0], MAXCA) and isinstance(network.up[0][1], MAXCA)
    assert not any(isinstance(module, MAXCA) for level in network.down[1:] for module in level)
    trained = torch.load(run / "checkpoint.pt", weights_only=True)["average"]
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, trained[name], atol=1e-3, rtol=1e-3)
