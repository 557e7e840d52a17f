"""Trainings to compare: the same data in the same order, the same steps, several seeds; one row per training.

A trial is a network with its block, a recipe's losses and optimiser, and a seed. Trials with a row are skipped, so
an interrupted experiment is resumed by the same command. Each runs in a separate process. The settings that determine a
training are hashed in its row: a training already done by another experiment has the same result and is copied.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tables

SCORES = ("dice", "hd95", "ndv", "alike")
KEY = ("experiment", "set", "network", "block", "steps", "seed")
COSTS = ("pairs", "parameters", "multiply_adds_per_voxel", "seconds_per_step", "threads", "torch")
COLUMNS = (*KEY, *SCORES, *COSTS, "settings")
SEEDS = 3  # by default
UNMOVED = "unmoved.csv"  # in the same folder: Dice before registration


@dataclass(frozen=True)
class Trial:
    """One training.

    Args:
        experiment: name of its table.
        set: a key of ``SETS``.
        network: a name and arguments, as ``NetworkConfig`` takes them.
        label: of the block, for the table.
        steps: of training.
        seed: of the weights and the order of the data.
        labels: whether it is trained with labels.
    """

    experiment: str
    set: str
    network: dict[str, Any]
    label: str
    steps: int
    seed: int
    labels: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        """The key of its row."""
        return self.experiment, self.set, str(self.network["name"]), self.label, str(self.steps), str(self.seed)


# The recipe with the augmentation and grid of each set, and the subfolder of its prepared scans.
SETS = {
    "hippocampus": ("hippocampus", "hippocampus"),
    "cardiac": ("cardiac_cine", "cardiac"),
    "brain": ("brain_t1", "brain"),
}


def config(trial: Trial) -> Any:
    """The training configuration: with the paper's losses, which use no labels, or with labels in addition."""
    from maxca.networks import NetworkConfig
    from maxca.training.config import Losses, Optimiser, TrainingConfig
    from maxca.training.recipes import RECIPES

    recipe = RECIPES[SETS[trial.set][0]]()
    assert isinstance(recipe, TrainingConfig)
    return replace(
        recipe,
        recipe=trial.experiment,
        network=NetworkConfig(trial.network["name"], trial.network["arguments"]),
        losses=Losses(window=343, image=1.0, diffusion=0.5, overlap=2.0 if trial.labels else 0.0),
        optimiser=Optimiser(rate=1e-3 if trial.labels else 4e-4, warmup=50, cosine=True, clip=1.0),
        steps=trial.steps,
        seed=trial.seed,
        validate=trial.steps,
        validation_pairs=40,
        save=10**9,
        average=0.0,
        precision="32-true",
    )


def settings_hash(trial: Trial) -> str:
    """A hash of everything but the names of a training."""
    plain = config(trial).as_plain() | {"recipe": "", "set": trial.set}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def unmoved(trial: Trial, data: Path) -> dict[str, Any]:
    """Scores of the validation pairs of a trial before registration."""
    import torch
    from lightning_fabric import Fabric

    from maxca.datasets.prepared import read_prepared
    from maxca.networks.parts import Prediction
    from maxca.training.loader import Scans
    from maxca.training.validation import Validation

    class Unmoved(torch.nn.Module):
        def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> Prediction:
            return Prediction(fixed.new_zeros(len(fixed), 3, *fixed.shape[2:]))

    settings = config(trial)
    scans = Scans(read_prepared(data / SETS[trial.set][1]))
    found = Validation(settings, scans)(Unmoved(), Fabric(accelerator="cpu"))
    return {"set": trial.set, "pairs": settings.validation_pairs, **{name: found[name] for name in ("dice", "hd95")}}


def run(trial: Trial, data: Path, threads: int) -> dict[str, Any]:
    """Train and validate, in this process."""
    import torch
    from lightning_fabric import Fabric

    from maxca.blocks import cost
    from maxca.datasets.prepared import read_prepared
    from maxca.training.loop import train
    from maxca.training.run import read_log, start_run
    from maxca.training.start import task_of

    torch.set_num_threads(threads)
    settings = config(trial)
    prepared = read_prepared(data / SETS[trial.set][1])
    probe = torch.zeros(1, 1, 48, 48, 48)
    spent = cost(settings.network.build(), probe, probe)
    with tempfile.TemporaryDirectory() as folder:
        fabric = Fabric(accelerator="cpu" if not torch.cuda.is_available() else "auto", devices=1)
        fabric.launch()
        here = start_run(Path(folder) / "run", settings, prepared, resume=False)
        begin = time.perf_counter()
        train(settings, task_of(settings, prepared), here, fabric)
        seconds = (time.perf_counter() - begin) / trial.steps
        last = read_log(here.folder / "log.csv")[-1]
    return {
        **dict(zip(KEY, trial.key, strict=True)),
        **{name: last[name] for name in SCORES if name in last},
        "pairs": settings.validation_pairs,
        "parameters": spent.parameters,
        "multiply_adds_per_voxel": round(spent.multiply_adds_per_voxel),
        "seconds_per_step": f"{seconds:.4f}",
        "threads": threads,
        "torch": version("torch"),
        "settings": settings_hash(trial),
    }


def run_all(trials: Sequence[Trial], options: argparse.Namespace) -> None:
    """Run trials in separate processes, several in parallel; those with a row are skipped."""
    out = options.output
    before = out.with_name(UNMOVED)
    sets = {trial.set: trial for trial in trials if trial.set not in [row["set"] for row in tables.read(before)]}
    for trial in sets.values():
        row = unmoved(trial, options.data)
        tables.write(before, row, tuple(row))
    known = {tuple(row[name] for name in KEY) for row in tables.read(out)}
    missing = [trial for trial in trials if trial.key not in known]
    if not options.only:  # an explicitly requested row is computed again
        found = (row for path in out.parent.glob("*.csv") for row in tables.read(path))
        here = str(options.threads), version("torch")  # on which the last bits of a training depend
        rows = {row["settings"]: row for row in found if "settings" in row and (row["threads"], row["torch"]) == here}
        for trial in [trial for trial in missing if settings_hash(trial) in rows]:
            same = rows[settings_hash(trial)] | dict(zip(KEY, trial.key, strict=True))
            tables.write(out, same, COLUMNS)
            missing.remove(trial)
    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            for done in as_completed([pool.submit(apart, trial, options) for trial in missing]):
                row = done.result()
                tables.write(out, row, COLUMNS)
                key = " ".join(str(row[name]) for name in KEY)
                print(f"{key}: Dice {float(row['dice']):.4f}, {row['seconds_per_step']} s a step", flush=True)
        finally:
            pool.shutdown(cancel_futures=True)


def apart(trial: Trial, options: argparse.Namespace) -> dict[str, Any]:
    """The row of a trial, from a separate process."""
    task = {"trial": vars(trial), "data": str(options.data), "threads": options.threads}
    done = subprocess.run([sys.executable, __file__, json.dumps(task)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(trial.key)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main(title: str, trials: Callable[[argparse.Namespace], list[Trial]], results: Path) -> None:
    """The command line of an experiment."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("data", type=Path, help="a folder with hippocampus, cardiac and brain, made by maxca prepare")
    parser.add_argument("-o", "--output", type=Path, default=results, help=f"CSV, by default {results.name}")
    parser.add_argument("--set", choices=tuple(SETS), action="append", help="only this one; repeatable")
    parser.add_argument("--seeds", type=int, help="by default as many as reported in the results")
    parser.add_argument("--threads", type=int, default=1, help="of each training")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--quick", action="store_true", help="two steps of the first trial, as a test")
    parser.add_argument("--only", help="only trials whose key, joined by spaces, contains this text")
    options = parser.parse_args()
    chosen = trials(options)
    if options.only:
        chosen = [trial for trial in chosen if options.only in " ".join(trial.key)]
    if options.quick:
        chosen = [replace(trial, steps=2) for trial in chosen[:1]]
    run_all(chosen, options)


if __name__ == "__main__":
    work = json.loads(sys.argv[1])
    print(json.dumps(run(Trial(**work["trial"]), Path(work["data"]), work["threads"])))
