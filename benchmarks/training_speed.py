"""A training step of the paper's brain experiment, compared with a literal implementation of the formulas.

    python benchmarks/training_speed.py --threads 2 -o benchmarks/results/training_speed.csv    # rows are added
    python benchmarks/training_speed.py --threads 2 --shape 96 128 112 -o benchmarks/results/training_speed.csv
    python benchmarks/training_speed.py --device cuda --steps 10

``paper_brain`` on noise of 144 x 192 x 160 voxels, or another shape: forward, loss, backward, optimiser, in bfloat16
autocast. Each in a separate process; out of memory is recorded in a row. ``checkpointing`` stores only
the input of each block and recomputes the rest in the backward pass.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from block_speed import made_plain
from memory import forget_peak, peak_gb

from maxca.blocks import MAXCA
from maxca.networks import NetworkConfig
from maxca.training.objective import objective
from maxca.training.recipes import paper_brain

WAYS = ("ours", "ours, checkpointing", "reference")
FIELDS = ("way", "shape", "seconds_per_step", "steps_per_second", "peak_gb", "steps", "threads", "device", "error")


def main() -> None:
    """Measure each implementation, print and write."""
    options = parsed()
    if options.way:
        print(json.dumps(measured(options)))
        return
    rows = []
    for way in options.ways.split(";"):
        command = [sys.executable, __file__, "--way", way, *sys.argv[1:]]
        done = subprocess.run(command, capture_output=True, text=True)
        row = {"way": way, "shape": "x".join(map(str, options.shape)), "steps": options.steps}
        row |= {"threads": options.threads, "device": options.device, "error": ""}
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            row["error"] = f"more than {memory_limit() / 1e9:.0f} GB" if "memory" in last.lower() else last[:200]
        else:
            row |= json.loads(done.stdout.splitlines()[-1])
        rows.append(row)
        print(*row.values(), flush=True)
    if options.output:
        is_new = not options.output.exists()
        with options.output.open("a", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerows(rows)


def measured(options: argparse.Namespace) -> dict[str, object]:
    """Seconds of a step, excluding the first, and peak memory."""
    cuda = options.device == "cuda"
    if not cuda:
        torch.set_num_threads(options.threads)
        resource.setrlimit(resource.RLIMIT_DATA, (memory_limit(), memory_limit()))
    torch.manual_seed(0)
    config = paper_brain()
    heads = [2 * 2**level for level in range(4)]
    kept = {"block": [partial(MAXCA, heads=h, region=6, checkpointing=True) for h in heads]}
    if "checkpointing" in options.way:
        config = replace(config, network=NetworkConfig("corrxca", kept))
    network = config.network.build()
    network = (made_plain(network) if options.way == "reference" else network).to(options.device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    batch = {name: torch.rand(1, 1, *options.shape, device=options.device) for name in ("fixed", "moving")}
    batch["spacing"] = torch.ones(1, 3, device=options.device)
    forget_peak()
    times = []
    for _ in range(options.steps + 1):
        begin = time.perf_counter()
        with torch.autocast(options.device, dtype=torch.bfloat16):
            loss = objective(network, batch, config.losses)["loss"]
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    seconds = sum(times[1:]) / options.steps
    peak = torch.cuda.max_memory_allocated() / 1e9 if cuda else peak_gb()
    device = torch.cuda.get_device_name() if cuda else "cpu"
    return {
        "seconds_per_step": round(seconds, 3),
        "steps_per_second": round(1 / seconds, 4),
        "peak_gb": round(peak, 2),
        "device": device,
    }


def memory_limit() -> int:
    """Memory limit of a process in bytes: slightly less than the machine has."""
    return int(0.93 * psutil.virtual_memory().total)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shape", type=int, nargs=3, default=paper_brain().shape)
    parser.add_argument("--steps", type=int, default=2, help="after a warm-up step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--ways", default=";".join(WAYS), help="with semicolons between")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
