"""Scaling of blocks: time and peak memory from 16³ voxels up to a limit of memory and time, and the exponents.

    python benchmarks/block_scaling.py --threads 2 -o benchmarks/results/block_scaling.csv --figure …/block_scaling.png

Each point is measured in a separate process: one warm-up pass, then the median of three, or a single one if it takes
longer than ten seconds. A block stops where extrapolation exceeds ``--most-gb`` or ``--most-seconds``. The exponent is
the slope of the logarithm of time or memory against that of the voxels, over the five largest sizes of a block; smaller
ones are dominated by overhead. ``--blocks`` repeats some blocks and keeps the other rows of the file.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import memory
import numpy as np
import torch
from torch import nn

from maxca.blocks import BLOCKS, MAXCA, SelfAttention, Window

CHANNELS = 24
SIDES = (16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256, 288, 352, 400)
KINDS: dict[str, Callable[..., nn.Module]] = {
    "maxca": partial(MAXCA, heads=2, region=6),
    "window": partial(Window, heads=2, window=6),
    "self_attention": partial(SelfAttention, heads=2, most_tokens=10**9),
    "conv": BLOCKS["conv"],
    "gmlp": BLOCKS["gmlp"],
}
SHOWN = (16, 32, 64, 128, 256)  # on the axis
LARGEST = 5
LONG = 10.0  # seconds
FIELDS = ("block", "side", "voxels", "seconds", "extra_gb", "device", "threads")


def main() -> None:
    """Measure, print, write and draw."""
    options = parsed()
    if options.one:
        kind, side = options.one.split(",")
        print(json.dumps(measured(kind, int(side), options)))
        return
    asked = options.blocks.split(",")
    rows = [row for row in earlier(options.output) if row["block"] not in asked]
    for kind in asked:
        mine: list[dict[str, Any]] = []
        for side in SIDES:
            if expected(mine, "extra_gb", side) > options.most_gb:
                break
            if expected(mine, "seconds", side) > options.most_seconds:
                break
            row = apart(kind, side, options)
            if row is None:
                break
            mine.append(row)
            print(*(f"{v:.3g}" if isinstance(v, float) else v for v in row.values()), flush=True)
        rows += mine
    rows.sort(key=lambda row: (list(KINDS).index(str(row["block"])), row["voxels"]))
    with options.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    for kind in dict.fromkeys(row["block"] for row in rows):
        print(kind, *(f"{name}: {exponent(rows, kind, name):.3f}" for name in ("seconds", "extra_gb")))
    if options.figure:
        draw(rows, options.figure)


def expected(rows: list[dict], name: str, side: int) -> float:
    """Time or memory at the next size, extrapolated from the last two."""
    if len(rows) < 2 or not rows[-2][name] > 0:
        return 0.0
    before, last = rows[-2:]
    power = np.log(last[name] / before[name]) / np.log(last["voxels"] / before["voxels"])
    return float(last[name] * (side**3 / last["voxels"]) ** power)


def earlier(path: Path) -> list[dict[str, Any]]:
    """The rows of an earlier run."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [
            row | {n: float(row[n]) for n in FIELDS[2:5]} | {"side": int(float(row["side"]))}
            for row in csv.DictReader(file)
        ]


def apart(kind: str, side: int, options: argparse.Namespace) -> dict[str, Any] | None:
    """One row from a fresh process; None when it ran out of memory or time."""
    command = [sys.executable, __file__, "--one", f"{kind},{side}", "--threads", str(options.threads)]
    command += ["--device", options.device]
    limits: dict[str, Any] = {"check": True, "capture_output": True, "text": True, "timeout": 10 * options.most_seconds}
    try:
        done = subprocess.run(command, env=os.environ | memory.KEPT, **limits)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return json.loads(done.stdout)


def measured(kind: str, side: int, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and extra memory of one inference."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    cuda = options.device == "cuda"
    block = KINDS[kind](CHANNELS).eval().to(options.device)
    x = torch.randn(1, CHANNELS, side, side, side, device=options.device)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    seconds: list[float] = []
    with torch.inference_mode():
        block(x[:, :, :12, :12, :12])  # libraries are loaded here, before the measurement
        forget_peak(cuda)
        before = peak(cuda)
        while len(seconds) < (4 if not seconds or seconds[0] < LONG else 2):
            begin = time.perf_counter()
            block(x)
            if cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begin)
    extra = peak(cuda) - before
    row = (kind, side, side**3, statistics.median(seconds[1:]), extra, options.device, options.threads)
    return dict(zip(FIELDS, row, strict=True))


def forget_peak(cuda: bool) -> None:
    """Reset the peak to the current use."""
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    else:
        memory.forget_peak()


def peak(cuda: bool) -> float:
    """Peak memory since the reset, in GB."""
    return torch.cuda.max_memory_allocated() / 1e9 if cuda else memory.peak_gb()


def exponent(rows: list[dict], kind: str, name: str) -> float:
    """Slope of log(time or memory) against log(voxels)."""
    points = sorted((float(r["voxels"]), float(r[name])) for r in rows if r["block"] == kind and r[name] > 0)
    if len(points) < 2:
        return float("nan")
    voxels, figures = np.log(np.array(points[-LARGEST:])).T
    return float(np.polyfit(voxels, figures, 1)[0])


def draw(rows: list[dict], path: Path) -> None:
    """Two log-log panels: seconds and memory against voxels."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 4.2), constrained_layout=True)
    names = {"seconds": "seconds per pass", "extra_gb": "extra memory [GB]"}
    markers = dict(zip(KINDS, "os^Dv", strict=True))
    for panel, (name, label) in zip(panels, names.items(), strict=True):
        for kind in KINDS:
            mine = [row for row in rows if row["block"] == kind and row[name] > 0]
            slope = exponent(rows, kind, name)
            legend = kind if np.isnan(slope) else f"{kind} (exponent {slope:.2f})"
            panel.loglog([r["voxels"] for r in mine], [r[name] for r in mine], marker=markers[kind], label=legend)
        panel.set_xticks([side**3 for side in SHOWN], [f"{side}³" for side in SHOWN])
        panel.minorticks_off()
        panel.set_xlabel("voxels")
        panel.set_ylabel(label)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.suptitle(f"One block, {CHANNELS} channels, float32, inference on {rows[0]['device']}")
    figure.savefig(path, dpi=150)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", default=",".join(KINDS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--most-gb", type=float, default=20.0)
    parser.add_argument("--most-seconds", type=float, default=100.0, help="of a pass")
    parser.add_argument("-o", "--output", type=Path, default=Path("block_scaling.csv"))
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
