"""Compiled loops and the same computation by torch, in one run: seconds of the inverse of a deformation.

    python benchmarks/kernels.py ../shared/data -o benchmarks/results/kernels.csv [--pairs 2]

The fields are those of ``maxca.register`` with ``balanced`` and no model, of the first pairs of each data set. Each is
inverted by both in turn, five times, on one thread and on two. A row has the medians of the seconds, their ratio, the
largest error that each leaves at a node, and the largest difference of the two, in voxels.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import time
from pathlib import Path

import torch

import maxca
from maxca import native
from maxca.geometry import DenseField
from maxca.io.atomic import atomic_path

SETS = ("oasis", "acdc", "hippocampus")
REPEATS = 5
COLUMNS = (
    *("set", "pair", "voxels", "threads", "compiled_seconds", "torch_seconds", "ratio"),
    *("compiled_error", "torch_error", "difference"),
)


def inverted(field: DenseField, *, compiled: bool) -> tuple[DenseField, float, float]:
    """The inverse, its largest error at a node in voxels, and seconds."""
    os.environ[native.SWITCH] = "1" if compiled else "0"
    begin = time.perf_counter()
    inverse, residual = field.inverse()
    return inverse, residual.max / field.grid.smallest_spacing, time.perf_counter() - begin


def row(field: DenseField, threads: int) -> dict[str, object]:
    """Both in turn."""
    torch.set_num_threads(threads)
    runs = [(inverted(field, compiled=True), inverted(field, compiled=False)) for _ in range(REPEATS)]
    ours, theirs = (statistics.median(run[which][2] for run in runs) for which in (0, 1))
    first, second = runs[0]
    apart = (first[0].displacement - second[0].displacement).norm(dim=0).max()
    return {
        "voxels": field.displacement[0].numel(),
        "threads": threads,
        "compiled_seconds": f"{ours:.4f}",
        "torch_seconds": f"{theirs:.4f}",
        "ratio": f"{theirs / ours:.2f}",
        "compiled_error": f"{first[1]:.5f}",
        "torch_error": f"{second[1]:.5f}",
        "difference": f"{float(apart) / field.grid.smallest_spacing:.4f}",
    }


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=2, help="of each data set")
    options = parser.parse_args()
    if native.compiled() is None:
        parser.error("no compiled loops: install a C compiler and maxca again")
    rows = []
    for name in SETS:
        with (options.data / name / "pairs_val.csv").open(newline="", encoding="utf-8") as table:
            pairs = list(csv.DictReader(table))[: options.pairs]
        for number, pair in enumerate(pairs):
            images = (options.data / name / pair[side] for side in ("fixed", "moving"))
            chain = maxca.register(*images, model="none", threads=2).chain
            (field,) = (step for step in chain.steps if isinstance(step, DenseField))
            rows += [{"set": name, "pair": number, **row(field, threads)} for threads in (1, 2)]
            print(rows[-2], rows[-1], sep="\n", flush=True)
    with atomic_path(options.output) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as table:
        writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
