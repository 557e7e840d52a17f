"""Speed of MAXCA compared with a literal implementation, as a block and within CorrXCA.

    python benchmarks/block_speed.py --threads 2 -o benchmarks/results/block_speed.csv

Both alternate in one process, in one precision; a row contains the medians and their ratio. Memory is measured in
separate processes: the peak in addition to the input and the parameters.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from memory import forget_peak, peak_gb
from parity.reference import Reference
from parity.reference_fuse import ReferenceFuse

from maxca.blocks import MAXCA
from maxca.networks import build_network
from maxca.networks.correlation import CorrelationConv

SIDE, CHANNELS = 96, 24
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FIELDS = ("what", "precision", "mode", "ours", "reference", "ratio", "runs", "threads", "machine")


def main() -> None:
    """Measure, print and write."""
    options = parsed()
    torch.set_num_threads(options.threads)
    if options.memory:
        print(json.dumps(extra_memory(options.memory, options.precision, options.side)))
        return
    rows = []
    for what in options.what.split(","):
        for precision in options.precision.split(","):
            for mode in options.mode.split(","):
                rows.append(compared(what, precision, mode, options))
                print(
                    *(f"{value:.3g}" if isinstance(value, float) else value for value in rows[-1].values()), flush=True
                )
    if options.output:
        with options.output.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(rows)


def compared(what: str, precision: str, mode: str, options: argparse.Namespace) -> dict[str, object]:
    """One row: both implementations alternately."""
    row: dict[str, object] = {"what": what, "precision": precision, "mode": mode}
    if mode == "memory":
        values = [measured_apart(f"{what}-{which}", precision, options) for which in ("ours", "reference")]
        runs = 1
    else:
        work = [job(what, which, precision, mode, options.side) for which in ("ours", "reference")]
        seconds: list[list[float]] = [[], []]
        for run in range(options.runs + 1):
            for times, each in zip(seconds, work, strict=True):
                begin = time.perf_counter()
                each()
                if run:  # the first warms up
                    times.append(time.perf_counter() - begin)
        values, runs = [statistics.median(times) for times in seconds], options.runs
    ours, reference = values
    return row | {
        "ours": ours,
        "reference": reference,
        "ratio": reference / ours,
        "runs": runs,
        "threads": options.threads,
        "machine": platform.processor() or platform.machine(),
    }


def job(what: str, which: str, precision: str, mode: str, side: int) -> Callable[[], object]:
    """The timed function: one forward pass, or forward and backward."""
    torch.manual_seed(0)
    dtype = PRECISIONS[precision]
    module: nn.Module
    if what == "block":
        module = MAXCA(CHANNELS, heads=2, region=6)
        inputs = [torch.randn(1, CHANNELS, side, side, side)]
    else:
        module = build_network("corrxca")
        inputs = [torch.rand(1, 1, side, side, side) for _ in range(2)]
    if which == "reference":
        module = made_plain(module)
    else:  # each gets its preferred layout, as from the preceding layer
        inputs = [x.contiguous(memory_format=torch.channels_last_3d) for x in inputs]
    module, inputs = module.to(dtype), [x.to(dtype) for x in inputs]

    def forward() -> torch.Tensor:
        out = module(*inputs)
        return out if isinstance(out, torch.Tensor) else out.flow

    if mode == "train":
        return lambda: forward().float().square().mean().backward()
    module.eval()
    return torch.inference_mode()(forward)


def made_plain(module: nn.Module) -> nn.Module:
    """The same module with literal implementations of its blocks and correlations."""
    plain = {MAXCA: Reference, CorrelationConv: ReferenceFuse}
    if type(module) in plain:
        return plain[type(module)](module)
    for name, child in module.named_children():
        setattr(module, name, made_plain(child))
    return module


def measured_apart(what: str, precision: str, options: argparse.Namespace) -> float:
    """Gigabytes of ``extra_memory``, in a fresh process."""
    command = [sys.executable, __file__, "--memory", what, "--precision", precision]
    command += ["--threads", str(options.threads), "--side", str(options.side)]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def extra_memory(what: str, precision: str, side: int) -> float:
    """Peak of the first pass in addition to the memory before it, in GB."""
    name, which = what.split("-")
    work = job(name, which, precision, "inference", side)
    forget_peak()
    before = peak_gb()
    work()
    return peak_gb() - before


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--what", default="block,corrxca")
    parser.add_argument("--precision", default="float32,bfloat16")
    parser.add_argument("--mode", default="inference,train,memory")
    parser.add_argument("--side", type=int, default=SIDE, help="voxels along each axis")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
