"""One loop for every recipe: set up, step, and after a step the log, a validation and a checkpoint when due.

A sample is a pure function of its number, so an interrupted run continues from its last checkpoint with the same
numbers, and several processes draw the same samples as one.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from maxca.errors import MaxcaError, one_line
from maxca.runtime import seeded
from maxca.training.config import RunConfig
from maxca.training.loader import Sample, batches
from maxca.training.run import CHECKPOINT, Run
from maxca.training.task import Task

Report = Callable[[dict[str, float]], None]
LOGGED_EVERY = 10


@dataclass
class State:
    """The content of a checkpoint."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    average: nn.Module | None
    step: int = 0
    best: float = -math.inf


def train(
    config: RunConfig,
    task: Task,
    run: Run,
    fabric: Fabric,
    *,
    weights: dict[str, Tensor] | None = None,
    workers: int = 0,
    report: Report = lambda _row: None,
) -> None:
    """Train until ``config.steps``, from the last checkpoint.

    Args:
        config: of the run.
        task: what is trained.
        run: the folder of the run; a checkpoint in it is continued.
        fabric: launched; devices and precision.
        weights: initial weights by name, in place of random ones.
        workers: processes that prepare samples, in addition to the training process.
        report: called with each row of the log, in the first process.

    Raises:
        MaxcaError: if the loss of a sample is not finite; it names the sample.
    """
    trainer = Trainer(config, task, run, fabric, weights)
    trainer.feed(workers)
    while trainer.state.step < config.steps:
        measured = trainer.step()
        trainer.after_step(measured, report)
    trainer.close()


class Measured(NamedTuple):
    """Measurements of one step: terms of the loss, learning rate, and norm of the gradient."""

    terms: dict[str, Tensor]
    rate: float
    norm: Tensor


class Trainer:
    """A network in training: setup, step, and after-step.

    Args:
        config: of the run.
        task: what is trained.
        run: the folder of the run; a checkpoint in it is continued.
        fabric: launched; devices and precision.
        weights: initial weights by name, in place of random ones.
    """

    def __init__(
        self, config: RunConfig, task: Task, run: Run, fabric: Fabric, weights: dict[str, Tensor] | None
    ) -> None:
        self.config, self.task, self.run, self.fabric = config, task, run, fabric
        self.share = shared(config, fabric.world_size)
        with seeded(config.seed):
            self.network = task.network()
            if weights is not None:
                self.network.load_state_dict(self.network.state_dict() | weights, strict=True)
            average = copy.deepcopy(self.network).requires_grad_(False) if config.average else None
            trained = task.trained(self.network)
        rates = config.optimiser
        optimiser = torch.optim.AdamW(trained.parameters(), lr=rates.rate, weight_decay=rates.decay)
        self.model, optimiser = fabric.setup(trained, optimiser)
        self.state = State(trained, optimiser, average if average is None else average.to(fabric.device))
        restore(self.state, run, fabric)
        self.events = run.events(self.state.step) if fabric.is_global_zero else None
        self.begin, self.since = time.perf_counter(), self.state.step

    def feed(self, workers: int) -> None:
        """Prepare the samples of the remaining steps."""
        numbers = list(samples(self.config, self.fabric.global_rank, self.fabric.world_size, self.state.step))
        pin = self.fabric.device.type == "cuda"
        self.batches = batches(self.task.samples(), numbers, self.share, workers, pin=pin)

    def step(self) -> Measured:
        """Forward, backward and update, over all parts of a batch.

        Raises:
            MaxcaError: if the loss of a sample is not finite.
        """
        config, state = self.config, self.state
        rate = scheduled(config, state.step)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        sums: dict[str, Tensor] = {}
        self.model.train()
        for part in range(config.accumulate):
            with self.fabric.no_backward_sync(self.model, enabled=part < config.accumulate - 1):
                terms = self._terms(next(self.batches))
                self.fabric.backward(terms["loss"] / config.accumulate)
            for name, term in terms.items():
                sums[name] = sums.get(name, 0) + term.detach() / config.accumulate
        clip = config.optimiser.clip or math.inf
        norm = self.fabric.clip_gradients(self.model, state.optimiser, max_norm=clip, error_if_nonfinite=False)
        state.optimiser.step()
        state.optimiser.zero_grad()
        state.step += 1
        if state.average is not None:
            follow(state.average, self.network, min(config.average, state.step / (state.step + 10)))
        return Measured(sums, rate, torch.as_tensor(norm))

    def _terms(self, batch: Sample) -> dict[str, Tensor]:
        tensors = {k: self.fabric.to_device(v) for k, v in batch.items() if isinstance(v, Tensor)}
        terms = self.task.terms(self.model, tensors, self.state.step)
        if not bool(torch.isfinite(terms["loss"])):
            names = ", ".join(batch["name"])
            raise MaxcaError(f"step {self.state.step}: the loss of {names} is {float(terms['loss'])}")
        return terms

    def after_step(self, measured: Measured, report: Report) -> None:
        """Log, validate and save, each at its interval."""
        row: dict[str, float] = {}
        if self._due(LOGGED_EVERY):
            row |= self._logged(measured)
        if self._due(self.config.validate):
            if self.fabric.is_global_zero:
                row |= {"step": self.state.step, **self._validated()}
            self.fabric.barrier()
        if row and self.events is not None:
            self.run.log(row)
            report(row)
            for name, value in row.items():
                self.events.add_scalar(name, value, self.state.step)
        if self._due(self.config.save):
            if self.fabric.is_global_zero:
                self.run.save_checkpoint(as_checkpoint(self.state))
            self.fabric.barrier()

    def _due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self.config.steps

    def _logged(self, measured: Measured) -> dict[str, float]:
        terms = {name: torch.as_tensor(self.fabric.all_reduce(value)) for name, value in measured.terms.items()}
        return {
            "step": self.state.step,
            **{name: float(value) for name, value in terms.items()},
            "rate": measured.rate,
            "gradient": float(measured.norm),
            "seconds_per_step": (time.perf_counter() - self.begin) / (self.state.step - self.since),
        }

    def _validated(self) -> dict[str, float]:
        """Validate the network, or its average, and save it, also as the best if it is."""
        row, save = self.task.validate(self.state.average or self.network, self.fabric)
        save(self.run.model("last"))
        score = row.get("score", self.state.step)  # without a validation, the last is the best
        if score > self.state.best:
            self.state.best = score
            save(self.run.model("best"))
        return row

    def close(self) -> None:
        """Finish the files of the run."""
        if self.events is not None:
            self.events.close()


def shared(config: RunConfig, processes: int) -> int:
    """Number of samples that one process computes at once.

    Raises:
        MaxcaError: if the batch is not divisible.
    """
    parts = processes * config.accumulate
    if config.batch % parts:
        raise MaxcaError(f"a batch of {config.batch} is not divisible into {parts} equal parts")
    return config.batch // parts


def samples(config: RunConfig, rank: int, processes: int, start: int) -> Iterator[int]:
    """Indices of the samples of a process from step ``start`` on."""
    share = config.batch // processes
    for step in range(start, config.steps):
        first = step * config.batch + rank * share
        yield from range(first, first + share)


def scheduled(config: RunConfig, step: int) -> float:
    """The learning rate of a step."""
    rates = config.optimiser
    warm = min(1.0, (step + 1) / (rates.warmup + 1))
    done = min(1.0, step / max(config.steps, 1))
    return rates.rate * warm * ((1 + math.cos(math.pi * done)) / 2 if rates.cosine else 1.0)


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, share: float) -> None:
    """Update the moving average of the weights with decay ``share``."""
    for old, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        old.lerp_(new, 1 - share) if old.is_floating_point() else old.copy_(new)


def as_checkpoint(state: State) -> dict[str, Any]:
    """The state as tensors, numbers and names."""
    return {
        "step": state.step,
        "best": state.best,
        "network": state.network.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "average": None if state.average is None else state.average.state_dict(),
    }


def restore(state: State, run: Run, fabric: Fabric) -> None:
    """Restore the state of a run from its checkpoint."""
    held = run.checkpoint(fabric.device)
    if held is None:
        return
    try:
        state.network.load_state_dict(held["network"], strict=True)
        state.optimiser.load_state_dict(held["optimiser"])
        if state.average is not None:
            state.average.load_state_dict(held["average"], strict=True)
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise MaxcaError(
            f"{run.folder / CHECKPOINT}: does not fit the network of this run: {one_line(str(error), 200)}; remove it "
            "to start again"
        ) from error
    state.step, state.best = int(held["step"]), float(held["best"])
