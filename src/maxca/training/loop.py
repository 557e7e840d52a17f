"""One loop for every recipe: forward, backward, step; now and then a validation and a checkpoint.

A sample is a pure function of its number, so a run that was killed goes on from its last checkpoint with the same
numbers, and several processes take the shares of a step that one would take.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from maxca.datasets.prepared import Prepared
from maxca.errors import MaxcaError, one_line
from maxca.runtime import seeded
from maxca.training.config import TrainingConfig
from maxca.training.guide import guided, label_names
from maxca.training.loader import MadeUp, Pairs, batches
from maxca.training.objective import objective
from maxca.training.run import CHECKPOINT, Run
from maxca.training.validation import distribution, domain, validated

Report = Callable[[dict[str, float]], None]
LOGGED_EVERY = 10


@dataclass
class State:
    """What a checkpoint holds."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    average: nn.Module | None
    step: int = 0
    best: float = -math.inf


def train(
    config: TrainingConfig,
    data: Prepared,
    run: Run,
    fabric: Fabric,
    *,
    weights: dict[str, Tensor] | None = None,
    workers: int = 0,
    report: Report = lambda _row: None,
) -> None:
    """Train until ``config.steps``, from where the run stands.

    Args:
        config: what to do.
        data: prepared scans.
        run: the folder of the run; a checkpoint in it is gone on from.
        fabric: launched; devices and precision.
        weights: of a network to start from, in place of random ones.
        workers: processes that prepare samples, beside the one that trains.
        report: called with each row of the log, by the first process.

    Raises:
        MaxcaError: when the loss of a pair is not finite; it names the pair.
    """
    share = shared(config, fabric.world_size)
    names = label_names(data) if config.losses.segmentation else []
    with seeded(config.seed):
        network = config.network.build()
        if weights is not None:
            network.load_state_dict(weights, strict=True)
        average = copy.deepcopy(network).requires_grad_(False) if config.average else None
        trained = guided(network, len(names), config.losses.lattice) if names else network
    rates = config.optimiser
    model, optimiser = fabric.setup(
        trained, torch.optim.AdamW(trained.parameters(), lr=rates.rate, weight_decay=rates.decay)
    )
    state = State(trained, optimiser, average if average is None else average.to(fabric.device))
    restore(state, run, fabric)
    pairs = training_pairs(config, data)
    numbers = list(samples(config, fabric.global_rank, fabric.world_size, state.step))
    feed = batches(pairs, numbers, share, workers, pin=fabric.device.type == "cuda")
    events = run.events(state.step) if fabric.is_global_zero else None
    begin, since = time.perf_counter(), state.step
    while state.step < config.steps:
        rate = scheduled(config, state.step)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        sums: dict[str, Tensor] = {}
        model.train()
        for part in range(config.accumulate):
            batch = next(feed)
            tensors = {k: fabric.to_device(v) for k, v in batch.items() if isinstance(v, Tensor)}
            last = part == config.accumulate - 1
            with fabric.no_backward_sync(model, enabled=not last):
                terms = objective(model, tensors, config.losses, chosen=state.step, names=names)
                if not bool(torch.isfinite(terms["loss"])):
                    raise MaxcaError(
                        f"step {state.step}: the loss of {', '.join(batch['name'])} is {float(terms['loss'])}"
                    )
                fabric.backward(terms["loss"] / config.accumulate)
            for name, term in terms.items():
                sums[name] = sums.get(name, 0) + term.detach() / config.accumulate
        norm = fabric.clip_gradients(model, optimiser, max_norm=rates.clip or math.inf, error_if_nonfinite=False)
        optimiser.step()
        optimiser.zero_grad()
        state.step += 1
        if state.average is not None:
            follow(state.average, network, min(config.average, state.step / (state.step + 10)))
        row: dict[str, float] = {}
        if state.step % LOGGED_EVERY == 0 or state.step == config.steps:
            means = {name: float(torch.as_tensor(fabric.all_reduce(value))) for name, value in sums.items()}
            seconds = (time.perf_counter() - begin) / (state.step - since)
            row = {
                "step": state.step,
                **means,
                "rate": rate,
                "gradient": float(torch.as_tensor(norm)),
                "seconds_per_step": seconds,
            }
        if state.step % config.validate == 0 or state.step == config.steps:
            judged = state.average or network
            if fabric.is_global_zero:
                row |= {"step": state.step, **validated(judged, config, data, fabric)}
                known = (
                    (domain(config, data, row["gain"]), distribution(judged, data)) if "gain" in row else (None, None)
                )
                run.save_model("last", judged, config, known)
                score = row.get("score", state.step)  # with nothing to validate on, the last is the best
                if score > state.best:
                    state.best = score
                    run.save_model("best", judged, config, known)
            fabric.barrier()
        if row and events is not None:
            run.log(row)
            report(row)
            for name, value in row.items():
                events.add_scalar(name, value, state.step)
        if state.step % config.save == 0 or state.step == config.steps:
            if fabric.is_global_zero:
                run.save_checkpoint(as_checkpoint(state))
            fabric.barrier()
    if events is not None:
        events.close()


def training_pairs(config: TrainingConfig, data: Prepared) -> Pairs | MadeUp:
    """The samples of a run.

    Raises:
        MaxcaError: when there are none.
    """
    if config.synth is not None:
        return MadeUp(data, config.synth, config.seed)
    pairs = Pairs(data, "train", config.augmentation, config.seed, config.shape)
    if not len(pairs):
        raise MaxcaError(f"{data.folder}: holds no pairs to train on")
    return pairs


def shared(config: TrainingConfig, processes: int) -> int:
    """Pairs of a batch that one process takes at once.

    Raises:
        MaxcaError: when they do not come out even.
    """
    parts = processes * config.accumulate
    if config.batch % parts:
        raise MaxcaError(f"a batch of {config.batch} pairs does not go into {parts} equal parts")
    return config.batch // parts


def samples(config: TrainingConfig, rank: int, processes: int, start: int) -> Iterator[int]:
    """Numbers of the samples that a process takes from step ``start`` on."""
    share = config.batch // processes
    for step in range(start, config.steps):
        first = step * config.batch + rank * share
        yield from range(first, first + share)


def scheduled(config: TrainingConfig, step: int) -> float:
    """The learning rate of a step."""
    rates = config.optimiser
    warm = min(1.0, (step + 1) / (rates.warmup + 1))
    done = min(1.0, step / max(config.steps, 1))
    return rates.rate * warm * ((1 + math.cos(math.pi * done)) / 2 if rates.cosine else 1.0)


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, share: float) -> None:
    """Move the average towards the network, keeping ``share`` of what it was."""
    for old, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        old.lerp_(new, 1 - share) if old.is_floating_point() else old.copy_(new)


def as_checkpoint(state: State) -> dict[str, Any]:
    """Tensors, numbers and names only."""
    return {
        "step": state.step,
        "best": state.best,
        "network": state.network.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "average": None if state.average is None else state.average.state_dict(),
    }


def restore(state: State, run: Run, fabric: Fabric) -> None:
    """Bring a state to where the run stands."""
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
            "to start from the beginning"
        ) from error
    state.step, state.best = int(held["step"]), float(held["best"])
