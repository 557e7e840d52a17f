"""A batch shared among processes is the batch that one would take."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import forks
import pytest
import torch
from prepared_data import make
from safetensors.torch import load_file

from maxca.training.loader import stacked

SHAPE = (16, 20, 16)


def trained(data: Path, run: Path, *options: str) -> list[dict[str, str]]:
    command = [sys.executable, "-m", "maxca", "train", "hippocampus", "--data", str(data), "-o", str(run)]
    command += ["--steps", "10", "--batch", "2", "--device", "cpu", "--threads", "1", "--quiet", *options]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    if "--devices" in options:  # which starts the command once more
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
        assert done.returncode == 0, done.stderr
    else:
        assert forks.run(command, environment).error == ""
    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [("--devices", "2"), ("--accumulate", "2"), ("--workers", "2")], ids=["processes", "parts", "workers"]
)
def test_the_loss_curve_is_the_same(
    options: tuple[str, ...], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shared = tmp_path_factory.getbasetemp() / "one-process"
    data = shared / "data"
    if not data.exists():
        make(data, shape=SHAPE)
        trained(data, shared / "run")
    with (shared / "run" / "log.csv").open() as file:
        one = list(csv.DictReader(file))
    other = trained(data, tmp_path / "run", *options)
    assert [row["step"] for row in one] == [row["step"] for row in other]
    for a, b in zip(one, other, strict=True):
        for name in ("loss", "image", "overlap", "gradient"):
            assert float(a[name]) == pytest.approx(float(b[name]), rel=1e-3, abs=1e-5), name
    weights, others = (load_file(folder / "run" / "last.safetensors") for folder in (shared, tmp_path))
    for name, tensor in weights.items():
        torch.testing.assert_close(others[name], tensor, rtol=1e-2, atol=1e-4)


def test_images_of_several_sizes_make_a_batch() -> None:
    small = {
        "name": "a",
        "spacing": torch.ones(3),
        "fixed": torch.ones(1, 2, 3, 4),
        "fixed_labels": torch.ones(2, 3, 4),
    }
    large = {"name": "b", "spacing": torch.ones(3), "fixed": torch.ones(1, 3, 3, 2)}
    batch = stacked([small, large])
    assert batch["name"] == ["a", "b"]
    assert set(batch) == {"name", "spacing", "fixed"}
    assert batch["fixed"].shape == (2, 1, 3, 3, 4)
    assert batch["fixed"].sum() == 24 + 18
