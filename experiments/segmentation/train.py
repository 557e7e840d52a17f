"""Train a segmentation network for brains or hearts, for a given time or number of steps, on any device.

    python experiments/segmentation/train.py brains PACKED OUT --minutes 8 [--variant maxca] [--start WEIGHTS]

Writes OUT/log.jsonl, OUT/last.pt (to resume) and OUT/weights.safetensors (moving average, half precision).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from scans import Scans, Triple, load, opened
from torch import Tensor

from maxca.blocks import MAXCA
from maxca.blocks.conv import matched
from maxca.engine.volume import normalise
from maxca.networks.segmentation import SegmentationUNet, unfolded
from maxca.training.loop import follow
from maxca.training.variation import Anatomy, Variation, repainted, reshaped
from maxca.training.voxels import AtVoxels, chosen_voxels, voxel_loss

WARMUP = 100  # steps
AVERAGED = 0.998  # decay of the moving average of the weights per step
CONTRASTS = ("as is", "inverted", "t2-like")


@dataclass(frozen=True)
class Task:
    """Data and architecture of a task.

    Args:
        frame: voxels of the validation images.
        crop: voxels of the training images.
        spacing: mm of both.
        variation: how they vary.
        fold, strides: see ``SegmentationUNet``.
        region: of MAXCA.
        contrasts: of the validation scans.
    """

    frame: Triple
    crop: Triple
    spacing: tuple[float, float, float]
    variation: Variation
    fold: Triple
    strides: tuple[Triple, ...]
    region: Triple
    contrasts: tuple[str, ...] = ("as is",)


TASKS = {
    "brains": Task(
        (160, 192, 160),
        (144, 176, 144),
        (1.0, 1.0, 1.0),
        Variation(inverted=0.2, curve=0.2, painted=0.12, head=0.2),
        (2, 2, 2),
        ((2, 2, 2),) * 3,
        (8, 8, 8),
        CONTRASTS,
    ),
    "hearts": Task(
        (128, 128, 16),
        (128, 128, 16),
        (1.5, 1.5, 8.0),
        Variation(rotate=180.0, scale=0.2, shift=0.09, nodes=(5, 10), elastic=(0.1, 0.08), curve=0.2),
        (2, 2, 1),
        ((2, 2, 1), (2, 2, 2), (2, 2, 2)),
        (8, 8, 4),
    ),
}


def build(task: Task, classes: int, variant: str, channels: tuple[int, ...]) -> SegmentationUNet:
    """The network: plain, with MAXCA at the finest level, or with convolutions of as many multiply-adds there."""
    maxca = partial(MAXCA, heads=2, region=task.region)
    finest = {"conv": None, "maxca": maxca, "matched": matched(maxca, "multiply_adds", side=16)}[variant]
    return SegmentationUNet(classes, channels, task.fold, task.strides, finest=finest)


def in_contrast(image: Tensor, how: str) -> Tensor:
    """An image in [0, 1], 0 outside the head, as it is or in another contrast."""
    changed = {"as is": image, "inverted": 1 - image, "t2-like": (1.1 - image) ** 1.5}[how]
    return torch.where(image > 0, changed, image)


@torch.no_grad()
def dice_of(network: SegmentationUNet, scans: Scans, how: str = "as is") -> list[float]:
    """For each scan the mean Dice of the classes that occur in it, background left out."""
    kind = scans.images.device.type
    each = []
    for image, label in zip(scans.images, scans.labels, strict=True):
        x = image[None].float() / 255
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
            embeddings = network(normalise(in_contrast(x, how)[0, 0])[None, None])
        best = [network.scores(part.float()).argmax(-1) for part in embeddings.split(8, dim=1)]
        found = unfolded(torch.cat(best, dim=1), network.fold)
        found = torch.where(x[:, 0] > 0, found, torch.zeros_like(found)).flatten()
        truth = label.flatten().long()
        n = network.classes.out_features
        sizes = torch.bincount(truth, minlength=n) + torch.bincount(found, minlength=n)
        both = torch.bincount(truth[truth == found], minlength=n)
        present = torch.bincount(truth, minlength=n) > 0
        present[0] = False
        each.append(float((2 * both[present] / sizes[present]).mean()))
    return each


class Training:
    """A training in progress.

    Args:
        options: from the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        torch.manual_seed(options.seed)
        self.options = options
        self.device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.task = TASKS[options.task]
        self.arrays = opened(options.packed, options.task)
        self.scans = load(self.arrays, "train", self.task.crop, self.device)
        swap, tissues = (torch.as_tensor(self.arrays[k], device=self.device).long() for k in ("swap", "tissues"))
        self.anatomy = Anatomy(self.task.spacing, swap, tissues)
        self.random = torch.Generator(self.device).manual_seed(options.seed)
        make = partial(build, self.task, len(self.arrays["numbers"]), options.variant, tuple(options.channels))
        self.network, self.average = make().to(self.device), make().to(self.device)
        self.step = self._start()
        self.fast = self.device.type == "cuda"
        if self.fast:
            torch.backends.cudnn.benchmark = True
            self.network = self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=options.rate, weight_decay=0.01, fused=self.fast
        )
        compiled = torch.compile if options.compile else lambda each: each
        self.scores: Callable[[Tensor, Tensor], Tensor] = compiled(AtVoxels(self.network))
        self.loss: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = compiled(voxel_loss)
        options.out.mkdir(parents=True, exist_ok=True)

    def _start(self) -> int:
        start: Path | None = self.options.start
        if start is None:
            self.average.load_state_dict(self.network.state_dict())
            return 0
        if start.suffix == ".safetensors":
            weights = load_file(start, device=str(self.device))
            state: dict[str, Any] = {"network": weights, "average": weights, "step": 0}
        else:
            state = torch.load(start, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        return int(state["step"])

    def run(self) -> None:
        """Train until the time or the steps are over, then validate once unless ``--skip``."""
        losses: list[Tensor] = []
        begin = saved = time.monotonic()
        for done in self._progress():
            losses.append(self.advance(done))
            now = time.monotonic()
            if self.step % self.options.every == 0:
                self.log(
                    step=self.step, seconds=round(now - begin, 1), loss=round(float(torch.stack(losses).mean()), 4)
                )
                losses = []
            if now - saved > self.options.save_every:
                self.save()
                saved = now
        self.save()
        if self.options.skip:
            return
        held_back = load(self.arrays, "val", self.task.frame, self.device)
        for how in self.task.contrasts:
            each = dice_of(self.average, held_back, how)
            self.log(
                step=self.step, validation=how, dice=round(sum(each) / len(each), 4), each=[round(e, 4) for e in each]
            )

    def _progress(self) -> Iterator[float]:
        """The completed fraction of the training, before each step."""
        begin, first = time.monotonic(), self.step
        while True:
            by_time = (time.monotonic() - begin) / (60 * self.options.minutes)
            by_steps = (self.step - first) / self.options.steps if self.options.steps else 0.0
            if max(by_time, by_steps) >= 1:
                return
            yield max(by_time, by_steps)

    def advance(self, done: float) -> Tensor:
        """One step; returns its loss."""
        options, task = self.options, self.task
        fall = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))
        for group in self.optimiser.param_groups:
            group["lr"] = options.rate * min(1.0, (self.step + 1) / WARMUP) * fall
        chosen = torch.randint(len(self.scans.names), (options.batch,), device=self.device, generator=self.random)
        with torch.no_grad():
            images, labels = self.scans.images[chosen].float() / 255, self.scans.labels[chosen]
            images, labels = reshaped(images, labels, self.anatomy, task.variation, self.random)
            images = repainted(images, labels, self.anatomy, task.variation, self.random)
            where = chosen_voxels(images, labels, options.voxels, self.random)
            truth = labels.flatten(1).gather(1, where).flatten()
        if self.fast:
            images = images.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.fast or options.bfloat16):
            scores = self.scores(images, where).flatten(0, 1)
        entropy, misses = self.loss(scores, truth)
        loss = entropy + misses
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.step += 1
        keep = min(AVERAGED, (1 + self.step) / (10 + self.step))
        follow(self.average, self.network, keep)
        return loss.detach()

    def save(self) -> None:
        """Save the checkpoint and the averaged weights."""
        out: Path = self.options.out
        state = {"network": self.network.state_dict(), "average": self.average.state_dict(), "step": self.step}
        torch.save(state, out / "last.part")
        (out / "last.part").replace(out / "last.pt")
        halves = {k: v.half().contiguous() for k, v in self.average.state_dict().items()}
        save_file(halves, out / "weights.safetensors")

    def log(self, **row: Any) -> None:
        """Write a line to the log and to the terminal."""
        text = json.dumps(row)
        with (self.options.out / "log.jsonl").open("a") as file:
            file.write(text + "\n")
        print(self.options.out.name, text, flush=True)


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("packed", type=Path, help="folder that pack.py filled")
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--steps", type=int, default=0, help="at most; by default as many as the time allows")
    parser.add_argument("--variant", choices=("conv", "maxca", "matched"), default="conv")
    parser.add_argument("--channels", type=int, nargs="+", default=(24, 48, 96, 192))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--voxels", type=int, default=200_000, help="per image and step")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=50, help="steps between lines of the log")
    parser.add_argument("--save-every", type=float, default=60, help="seconds")
    parser.add_argument("--device")
    parser.add_argument("--start", type=Path, help="last.pt or weights.safetensors")
    parser.add_argument("--skip", action="store_true", help="the validation")
    parser.add_argument("--compile", action="store_true", help="the network and the loss, with torch.compile")
    parser.add_argument("--bfloat16", action="store_true", help="on a CPU that has it")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    Training(parsed()).run()
