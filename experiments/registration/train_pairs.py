"""Train registration networks on packed pairs for a given time, on any device; several in lockstep on the same samples.

    python experiments/registration/train_pairs.py hearts PACKED.npz.xz OUT --minutes 8 [--variants maxca matched]

Samples are made on the device. Writes OUT/log.jsonl and, for each variant, OUT/VARIANT.safetensors: the moving average
of the weights in half precision, with the segmentation heads, to continue with ``--resume OUT``.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pair_samples import TASKS, Batch, Samples, Scans, Task, Triple, warped_dice
from safetensors.torch import load_file, save_file
from torch import Tensor

from maxca.blocks import MAXCA
from maxca.blocks.conv import matched
from maxca.losses.overlap import one_hot, soft_dice
from maxca.losses.regularity import diffusion
from maxca.networks import build_network, warp
from maxca.networks.pyramid import CoarseToFine
from maxca.training.guide import Guided, GuidedPrediction
from maxca.training.loop import follow

WARMUP, AVERAGED = 100, 0.995  # steps; decay of the moving average of the weights per step
REGION = 4


def build(task: Task, variant: str, channels: tuple[int, int]) -> Guided:
    """CorrXCA, or the same with convolutions of as many multiply-adds at each level, with segmentation heads."""
    levels = 4 - task.flow.finest
    blocks = [partial(MAXCA, heads=2 * 2**level, region=REGION) for level in range(levels)]
    block = [matched(each, "multiply_adds", side=3 * REGION) for each in blocks] if variant == "matched" else blocks
    arguments = {"encoder_channels": channels[0], "decoder_channels": channels[1], "levels": 4, "region": REGION}
    network = build_network("corrxca", flow=task.flow, block=block, **arguments)
    assert isinstance(network, CoarseToFine)
    return Guided(network, task.labels)


def similarity(fixed: Tensor, warped: Tensor, window: Triple) -> Tensor:
    """Mean squared local correlation."""
    mean = partial(F.avg_pool3d, kernel_size=window, stride=1, padding=[n // 2 for n in window])
    a, b = fixed - mean(fixed), warped - mean(warped)
    cross, one, other = mean(a * b), mean(a * a), mean(b * b)
    return (cross.square() / (one * other + 1e-5)).mean()


def objective(prediction: GuidedPrediction, batch: Batch, task: Task) -> dict[str, Tensor]:
    """The terms of the loss of the recipes, over the whole batch at once."""
    names = range(1, 1 + task.labels)
    hot = {side: one_hot(batch[f"{side}_labels"], list(names)) for side in ("fixed", "moving")}
    flow = prediction.flow.float()
    moved = warp(torch.cat([batch["moving"], hot["moving"]], dim=1), flow, "border")
    spacing = (batch["spacing"][0] / batch["spacing"][0].min()).tolist()
    terms = {
        "image": -0.1 * similarity(batch["fixed"], moved[:, :1], task.window),
        "diffusion": 0.02 * diffusion(flow, spacing),
        "overlap": 2 * (1 - soft_dice(moved[:, 1:], hot["fixed"])),
    }
    shape = prediction.shape
    both = torch.cat([hot["fixed"], hot["moving"]])
    whole = F.pad(both, [p for n, m in zip(reversed(shape), reversed(both.shape[2:]), strict=True) for p in (0, n - m)])
    heads = []
    for logits, (level, _) in zip(prediction.logits, prediction.levels, strict=True):
        kernel = tuple(n // m for n, m in zip(shape, level, strict=True))
        shares = F.avg_pool3d(whole[: len(logits)], kernel) if max(kernel) > 1 else whole[: len(logits)]
        log = logits.float().log_softmax(dim=1)
        truth = torch.cat([1 - shares.sum(1, keepdim=True), shares], dim=1)
        heads.append(-(truth * log).sum(1).mean() + 1 - soft_dice(log.exp()[:, 1:], shares))
    terms["segmentation"] = 0.5 * torch.stack(heads).mean()
    return terms


class Runner:
    """One network in training.

    Args:
        variant: its name.
        options: of the command line.
        device: for it.
    """

    def __init__(self, variant: str, options: argparse.Namespace, device: torch.device) -> None:
        self.variant, self.options, self.task = variant, options, TASKS[options.task]
        torch.manual_seed(options.seed)
        make = partial(build, self.task, variant, tuple(options.channels))
        self.network, self.average = make().to(device), make().to(device).requires_grad_(False)
        self.fast = device.type == "cuda"
        self.device = device
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=options.rate, weight_decay=0.01, fused=self.fast
        )
        self.step = 0
        if options.resume:
            weights = load_file(options.resume / f"{variant}.safetensors", device=str(device))
            for module in (self.network, self.average):
                module.load_state_dict({k: v.float() for k, v in weights.items()})
        else:
            self.average.load_state_dict(self.network.state_dict())

    def advance(self, batch: Batch, rate: float) -> dict[str, Tensor]:
        """One step; the terms of its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.fast):
            prediction = self.network(batch["fixed"], batch["moving"])
        terms = objective(prediction, batch, self.task)
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for weights in self.network.parameters():
            if weights.grad is not None:
                weights.grad.nan_to_num_(0.0, 0.0, 0.0)  # a step with an infinite gradient changes nothing
        self.optimiser.step()
        self.step += 1
        follow(self.average, self.network, min(AVERAGED, (1 + self.step) / (10 + self.step)))
        return {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def dice(self, samples: Samples, most: int) -> float:
        """Mean ``warped_dice`` over evenly spaced pairs, of the averaged network."""
        pairs = samples.scans.pairs
        chosen = [pairs[round(n)] for n in np.linspace(0, len(pairs) - 1, min(most, len(pairs)))]
        found = []
        for pair in chosen:
            batch = samples.sampled([pair], samples.slices(pair), augmented=False)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.fast):
                flow = self.average.network(batch["fixed"], batch["moving"]).flow.float()
            found.append(warped_dice(flow, batch, self.task.labels))
        return float(np.mean(found))

    def save(self, out: Path) -> None:
        """The averaged weights, in half precision."""
        halves = {k: v.half().contiguous() for k, v in self.average.state_dict().items()}
        save_file(halves, out / f"{self.variant}.safetensors")


def parsed() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("packed", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--steps", type=int, default=0, help="at most; by default as many as the time allows")
    parser.add_argument("--variants", choices=("maxca", "matched"), nargs="+", default=("maxca",))
    parser.add_argument("--channels", type=int, nargs=2, default=(12, 24))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=50, help="steps between lines of the log")
    parser.add_argument("--save-every", type=float, default=60, help="seconds")
    parser.add_argument("--pairs", type=int, default=40, help="of the validation at the end; 0 for none")
    parser.add_argument("--resume", type=Path, help="folder with VARIANT.safetensors")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def main() -> None:
    """Train until the time or the steps are over, then validate once."""
    options = parsed()
    options.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(options.device)
    torch.backends.cudnn.benchmark = True
    with np.load(io.BytesIO(lzma.decompress(options.packed.read_bytes()))) as file:
        arrays = {name: file[name] for name in file.files}
    samples = Samples(Scans(arrays, "train", device), TASKS[options.task], options.seed)
    runners = [Runner(variant, options, device) for variant in options.variants]
    kept: list[list[dict[str, Tensor]]] = [[] for _ in runners]

    def log(**row: Any) -> None:
        with (options.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(options.task, json.dumps(row), flush=True)

    begin = saved = time.monotonic()
    for number in range(10**9):
        by_steps = number / options.steps if options.steps else 0.0
        done = max((time.monotonic() - begin) / (60 * options.minutes), by_steps)
        if done >= 1:
            break
        rate = options.rate * min(1, (number + 1) / WARMUP) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        batch = samples.draw(options.batch)
        for terms, runner in zip(kept, runners, strict=True):
            terms.append(runner.advance(batch, rate))
        if (number + 1) % options.every == 0:
            for terms, runner in zip(kept, runners, strict=True):
                means = {k: round(float(torch.stack([t[k] for t in terms]).mean()), 4) for k in terms[0]}
                log(step=runner.step, variant=runner.variant, seconds=round(time.monotonic() - begin, 1), **means)
                terms.clear()
        if time.monotonic() - saved > options.save_every:
            saved = time.monotonic()
            for runner in runners:
                runner.save(options.out)
    for runner in runners:
        runner.save(options.out)
    if options.pairs:
        held_back = Samples(Scans(arrays, "val", device), TASKS[options.task], 0)
        for runner in runners:
            log(step=runner.step, variant=runner.variant, validation=round(runner.dice(held_back, options.pairs), 4))


if __name__ == "__main__":
    main()
