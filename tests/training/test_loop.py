"""Training: it learns, goes on where it was killed, shares a batch among processes, and says what went wrong."""

from __future__ import annotations

import csv
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import forks
import pytest
import torch
from prepared_data import make
from safetensors.torch import load_file

from maxca.datasets.prepared import Prepared
from maxca.errors import MaxcaError
from maxca.models.load import load_model
from maxca.networks import NetworkConfig
from maxca.training import recipes
from maxca.training.augmentation import Augmentation
from maxca.training.config import Losses, Optimiser, RunConfig, TrainingConfig, config_from_plain
from maxca.training.options import TrainingOptions
from maxca.training.run import LOG_COLUMNS
from maxca.training.start import train_in

SMALL = TrainingConfig(
    recipe="small",
    network=NetworkConfig("corrxca_tiny", {"levels": 2, "block": "conv"}),  # what is trained matters in one test alone
    losses=Losses(window=27, diffusion=0.1, bending=0.01, folding=1.0, overlap=1.0, segmentation=0.2, consistency=0.1),
    optimiser=Optimiser(rate=1e-3, warmup=3, cosine=True, clip=1.0),
    augmentation=Augmentation(flips=(0,), rotate=5, scale=0.05, shift=1, warp=0.5, bias=0.1, gamma=0.1, noise=0.02),
    steps=8,
    validate=4,
    validation_pairs=2,
    save=2,
    average=0.9,
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make(tmp_path / "data")


@pytest.fixture(autouse=True)
def _small_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recipes.RECIPES, "small", lambda: SMALL)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_everything_that_is_needed(data: Path, tmp_path: Path) -> None:
    seen = []
    run = train_in("small", data, tmp_path / "run", TrainingOptions(device="cpu"), report=seen.append)
    validations = [row for row in rows(run) if row["score"]]
    assert [int(float(row["step"])) for row in validations] == [4, 8]
    assert {"dice", "hd95", "ndv", "alike", "loss", "image", "diffusion", "folding", "overlap", "segmentation"} <= set(
        validations[1]
    )
    assert len(seen) == len(rows(run))
    for name in ("best", "last"):
        assert load_model(run / f"{name}.safetensors").config.name == "corrxca_tiny"
    assert list(run.glob("events.out.tfevents.*"))


def test_training_lowers_the_loss(data: Path, tmp_path: Path) -> None:
    whole = NetworkConfig("corrxca_tiny", {})
    config = replace(SMALL, network=whole, steps=30, augmentation=Augmentation(), average=0.0, validate=30)
    recipes.RECIPES["small"] = lambda: config
    run = train_in("small", data, tmp_path / "run", TrainingOptions(device="cpu"))
    losses = [float(row["loss"]) for row in rows(run) if row["loss"]]
    assert losses[-1] < losses[0] - 0.05


LONG = replace(SMALL, steps=24, validate=12)


def long_run(data: Path, folder: Path, resume: bool) -> None:
    """In a process of its own, which may be killed."""
    recipes.RECIPES["small"] = lambda: LONG
    train_in("small", data, folder, TrainingOptions(device="cpu", threads=1), resume=resume)


@pytest.mark.slow
def test_a_run_killed_at_ten_random_moments_ends_with_the_same_weights(data: Path, tmp_path: Path) -> None:
    def started(folder: Path) -> BaseProcess:
        return forks.started(long_run, data, folder, (folder / "run.json").is_file())

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    begin = time.monotonic()
    process = started(whole)
    process.join()
    seconds = time.monotonic() - begin
    assert process.exitcode == 0
    chance = random.Random(0)
    kills = 0
    while kills < 10:
        process = started(killed)
        process.join(timeout=chance.uniform(0, seconds / 3))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        if process.exitcode == 0:  # done before it was killed: once more from the start
            shutil.rmtree(killed)
    process = started(killed)
    process.join()
    assert process.exitcode == 0
    expected, ended = (load_file(run / "last.safetensors") for run in (whole, killed))
    assert all(torch.equal(ended[name], tensor) for name, tensor in expected.items())
    steps = [int(float(row["step"])) for row in rows(killed)]
    assert steps == sorted(set(steps))
    assert [row["loss"] for row in rows(killed)] == [row["loss"] for row in rows(whole)]


def test_a_run_is_not_mixed_with_another(data: Path, tmp_path: Path) -> None:
    run = train_in("small", data, tmp_path / "run", TrainingOptions(steps=2, device="cpu"))
    with pytest.raises(MaxcaError, match="contains a run; pass resume=True"):
        train_in("small", data, run, TrainingOptions(device="cpu"))
    other = make(tmp_path / "other", count=4)
    with pytest.raises(MaxcaError, match="with other data"):
        train_in("small", other, run, TrainingOptions(device="cpu"), resume=True)


def test_a_finished_run_is_extended_and_ends_as_if_it_had_been_longer(data: Path, tmp_path: Path) -> None:
    flat = replace(SMALL, optimiser=Optimiser(rate=1e-3), validate=2)  # a cosine would depend on the number of steps
    recipes.RECIPES["small"] = lambda: flat
    whole = train_in("small", data, tmp_path / "whole", TrainingOptions(steps=6, device="cpu"))
    run = train_in("small", data, tmp_path / "run", TrainingOptions(steps=4, device="cpu"))
    train_in("small", data, run, TrainingOptions(steps=6, device="cpu"), resume=True)
    expected, ended = (load_file(folder / "last.safetensors") for folder in (whole, run))
    assert all(torch.equal(ended[name], tensor) for name, tensor in expected.items())
    assert json.loads((run / "run.json").read_text())["config"]["steps"] == 6
    with pytest.raises(MaxcaError, match=r"steps=2: .*run was started with 6 steps"):
        train_in("small", data, run, TrainingOptions(steps=2, device="cpu"), resume=True)
    with pytest.raises(MaxcaError, match=r"batch=3: .*run was started with 1"):
        train_in("small", data, run, TrainingOptions(batch=3, device="cpu"), resume=True)


def test_without_pairs_to_validate_on_there_is_a_warning(tmp_path: Path) -> None:
    folder = make(tmp_path / "data", count=4)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"val"', '"train"'))
    said: list[str] = []
    run = train_in("small", folder, tmp_path / "run", TrainingOptions(steps=2, device="cpu"), warn=said.append)
    assert len(said) == 1 and "no validation pairs" in said[0] and "split val" in said[0]
    assert load_model(run / "best.safetensors").domain is None


def test_a_run_reads_every_scan_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    load = Prepared.load
    monkeypatch.setattr(Prepared, "load", lambda self, scan: (read.append(scan.name), load(self, scan))[1])
    recipes.RECIPES["small"] = lambda: replace(SMALL, validate=2, losses=Losses(window=27))
    train_in("small", data, tmp_path / "run", TrainingOptions(device="cpu"))
    assert sorted(read) == sorted(set(read)) == [f"s{n}" for n in range(5)]


def test_every_column_of_the_log_is_explained(data: Path, tmp_path: Path) -> None:
    run = train_in("small", data, tmp_path / "run", TrainingOptions(device="cpu"))
    assert set(rows(run)[0]) <= set(LOG_COLUMNS)
    assert {"dice_before", "dice"} <= set(rows(run)[0])
    page = (Path(__file__).parents[2] / "docs" / "reference" / "training.md").read_text(encoding="utf-8")
    for name, meaning in LOG_COLUMNS.items():
        assert f"| `{name}` | {meaning} |" in page


def test_training_needs_no_library_of_medical_images() -> None:
    code = "import sys, maxca.training.start; print(*({'nibabel', 'SimpleITK', 'pydicom'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_training_starts_from_a_model_of_the_same_network(data: Path, tmp_path: Path) -> None:
    first = train_in("small", data, tmp_path / "first", TrainingOptions(steps=2, device="cpu"))
    recipes.RECIPES["small"] = lambda: replace(SMALL, optimiser=Optimiser(rate=0.0), average=0.0)
    second = train_in(
        "small", data, tmp_path / "second", TrainingOptions(steps=2, init=first / "last.safetensors", device="cpu")
    )
    a, b = (load_file(run / "last.safetensors") for run in (first, second))
    assert all(torch.equal(a[name], b[name]) for name in a)
    recipes.RECIPES["small"] = lambda: replace(SMALL, network=NetworkConfig("corrmlp_tiny", {}))
    with pytest.raises(MaxcaError, match=r"is a .*corrxca_tiny"):
        train_in("small", data, tmp_path / "third", TrainingOptions(init=first / "last.safetensors", device="cpu"))


def test_a_loss_that_is_not_a_number_names_the_pair(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = lambda *_a, **_k: {"loss": torch.tensor(float("nan"))}  # noqa: E731
    monkeypatch.setattr("maxca.training.registration.objective", broken)
    with pytest.raises(MaxcaError, match=r"step 0: the loss of s\d and s\d is nan"):
        train_in("small", data, tmp_path / "run", TrainingOptions(device="cpu"))


@pytest.mark.parametrize("config", [make_recipe() for make_recipe in recipes.RECIPES.values()], ids=lambda c: c.recipe)
def test_a_recipe_comes_back_from_its_text(config: RunConfig) -> None:
    assert config_from_plain(json.loads(json.dumps(config.as_plain()))).as_plain() == config.as_plain()
    if isinstance(config, TrainingConfig):
        config.network.build()
