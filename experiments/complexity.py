"""Cost and accuracy of networks: seconds and memory by resolution, and Dice against seconds.

    python experiments/complexity.py            # ten minutes; resumes
    python experiments/complexity.py --only "corrxca window 64"

The networks and blocks are those of ``block_swap``; the Dice of the last panel is that after training with labels,
``block_swap_labels``. Each point is measured in a separate process that keeps freed memory: one warm-up pass, then the
median of three.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import tables
from block_swap import BLOCKS, NETWORKS

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import memory

SIDES = (32, 48, 64, 96, 128)
SHOWN = {
    "corrxca": ("maxca", "window", "gmlp", "conv=multiply-adds"),
    "nice_net": ("maxca", "conv=multiply-adds"),
    "voxelmorph": ("maxca", "conv=multiply-adds"),
    "transmorph": ("maxca", "window"),
}
PARETO_SIDE = 64
COLUMNS = ("network", "block", "side", "seconds", "extra_gb", "parameters", "multiply_adds_per_voxel", "threads")


def measured(network: str, block: str, side: int, threads: int) -> dict[str, Any]:
    """One row, measured in this process."""
    import torch

    from maxca.blocks import cost
    from maxca.networks import build_network

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    built = build_network(network, **NETWORKS[network], block=BLOCKS[block]).eval()
    pair = torch.rand(2, 1, 1, side, side, side)
    probe = torch.zeros(1, 1, 48, 48, 48)
    spent = cost(built, probe, probe)
    seconds = []
    with torch.inference_mode():
        built(*pair[..., :16, :16, :16])  # libraries are loaded here, before the measurement
        memory.forget_peak()
        before = memory.peak_gb()
        for _ in range(4):
            begin = time.perf_counter()
            built(*pair)
            seconds.append(time.perf_counter() - begin)
    row = (
        *(network, block, side, statistics.median(seconds[1:]), memory.peak_gb() - before),
        *(spent.parameters, round(spent.multiply_adds_per_voxel), threads),
    )
    return dict(zip(COLUMNS, row, strict=True))


def main() -> None:
    """Measure the missing points."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, default=tables.RESULTS / "complexity.csv")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help="network, block and side of one row, such as 'corrxca window 64'")
    parser.add_argument("--quick", action="store_true", help="the two smallest sides of one network")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        network, block, side = options.one.split()
        print(json.dumps(measured(network, block, int(side), options.threads)))
        return
    wanted = [(n, b, str(side)) for n, blocks in SHOWN.items() for b in blocks for side in SIDES]
    wanted = wanted[:2] if options.quick else [w for w in wanted if not options.only or " ".join(w) == options.only]
    for task in wanted:
        rows = tables.read(options.output)
        if any((row["network"], row["block"], row["side"]) == task for row in rows):
            continue
        command = [sys.executable, __file__, "--one", " ".join(task), "--threads", str(options.threads)]
        done = subprocess.run(command, env=os.environ | memory.KEPT, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(task)} failed:\n{done.stderr}")
        row = json.loads(done.stdout.splitlines()[-1])
        rounded = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in row.items()}
        tables.write(options.output, rounded, COLUMNS)
        print(*task, f"{row['seconds']:.3f} s, {row['extra_gb']:.2f} GB", flush=True)


if __name__ == "__main__":
    main()
