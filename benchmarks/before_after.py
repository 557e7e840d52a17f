"""Comparison of two checkouts: the same pairs registered alternately by both.

    git worktree add ../before COMMIT
    python benchmarks/before_after.py ../before . ../shared/data -o before_after.csv

Each pair is registered by `maxca register` with its defaults and labels, once per checkout and in alternating order, so
that other load on the machine affects both. Existing rows are skipped.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from maxca.geometry import Chain
from maxca.io.images import read
from maxca.io.pairs import read_pairs
from maxca.io.transforms import read_transform

SETS = {
    "brain": ("oasis/pairs_val.csv", "inter"),
    "cardiac": ("acdc/pairs_val.csv", None),
    "hippocampus": ("hippocampus/pairs_val.csv", None),
}
SCORES = ("dice", "ndv_percent", "sdlogj", "seconds", "peak_mb")
COLUMNS = (
    *("set", "pair", "identical", "voxels_mean", "voxels_max", "threads", "effort", "before", "after"),
    *(f"{score}_{side}" for score in SCORES for side in ("before", "after")),
)
STEP = 4  # voxels between the points at which two transforms are compared


def main(arguments: Sequence[str] | None = None) -> None:
    """Add the missing rows, and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("before", type=Path, help="a checkout")
    parser.add_argument("after", type=Path, help="another one")
    parser.add_argument("data", type=Path, help="the folder that holds oasis, acdc and hippocampus")
    parser.add_argument("--set", choices=tuple(SETS), action="append", help="only this one; repeatable")
    parser.add_argument("--pairs", type=int, default=10, help="of each set")
    parser.add_argument("--effort", default="balanced")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the table")
    options = parser.parse_args(arguments)
    rows = list(csv.DictReader(options.output.open())) if options.output.exists() else []
    there = {(row["set"], int(row["pair"])) for row in rows}
    trees = {"before": options.before.resolve(), "after": options.after.resolve()}
    for name, number, pair in chosen(options.data, options.set or list(SETS), options.pairs):
        if (name, number) in there:
            continue
        row = compared(pair, trees, number % 2 == 1, options.effort, options.threads)
        rows.append({"set": name, "pair": number, "threads": options.threads, "effort": options.effort, **row})
        with options.output.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        print(name, number, row, flush=True)
    for name in options.set or SETS:
        print(summary(name, [row for row in rows if row["set"] == name]))


def chosen(data: Path, sets: Sequence[str], count: int) -> Iterator[tuple[str, int, dict[str, Path]]]:
    """The first pairs of each data set, as files for a command."""
    for name in sets:
        path, group = SETS[name]
        pairs = [pair for pair in read_pairs(data / path) if group is None or pair.group == group]
        for number, pair in enumerate(pairs[:count]):
            files = {"-f": pair.fixed, "-m": pair.moving, "--fixed-labels": pair.fixed_labels}
            files["--moving-labels"] = pair.moving_labels
            yield name, number, {option: file for option, file in files.items() if file is not None}


def compared(
    pair: dict[str, Path], trees: dict[str, Path], turned: bool, effort: str, threads: int
) -> dict[str, object]:
    """One pair in both checkouts: scores, and distances between the transforms."""
    row: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for side in sorted(trees, reverse=not turned):
            out = Path(folder) / side
            row[side] = commit(trees[side])
            row |= {f"{name}_{side}": value for name, value in registered(pair, trees[side], out, effort, threads)}
        before, after = (Path(folder) / side / "transform.h5" for side in ("before", "after"))
        distances = apart(read_transform(before), read_transform(after), pair["-f"])
        row["voxels_mean"], row["voxels_max"] = f"{distances.mean():.6g}", f"{distances.max():.6g}"
        row["identical"] = not distances.any()
    return row


def registered(pair: dict[str, Path], tree: Path, out: Path, effort: str, threads: int) -> Iterator[tuple[str, float]]:
    """Run the command of a checkout in a separate process."""
    files = [str(part) for option in pair.items() for part in option]
    command = [sys.executable, "-m", "maxca", "register", *files, "-o", str(out), "--effort", effort, "-q"]
    environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
    start = time.perf_counter()
    process = subprocess.Popen([*command, "--threads", str(threads)], env=environment)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status != 0:
        raise SystemExit(f"{' '.join(command)}: ended with {os.waitstatus_to_exitcode(status)}")
    metrics = json.loads((out / "result.json").read_text())["metrics"]
    yield "dice", metrics["dice_after"]["mean"]
    yield "ndv_percent", metrics["folding"]["ndv_percent"]
    yield "sdlogj", metrics["folding"]["sd_log_jacobian"]
    yield "seconds", round(seconds, 2)
    yield "peak_mb", round(used.ru_maxrss / 1024, 1)


def apart(first: Chain, second: Chain, fixed: Path) -> np.ndarray:
    """Distances in voxels between two transforms at points of the fixed image."""
    grid = read(fixed).grid
    axes = [np.arange(0, size, STEP) for size in grid.shape]
    points = grid.to_world(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).astype(float))
    away = first.map_points(points) - second.map_points(points)
    return np.linalg.norm(away, axis=1) / float(min(grid.spacing))


def commit(tree: Path) -> str:
    """The commit of a checkout."""
    command = ["git", "-C", str(tree), "describe", "--always", "--dirty", "--abbrev=7"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def summary(name: str, rows: Sequence[dict[str, object]]) -> str:
    """A summary line of a data set."""
    if not rows:
        return f"{name}: no rows"
    mean = {column: np.mean([float(str(row[column])) for row in rows]) for column in COLUMNS if "_" in column}
    parts = [f"{score} {mean[f'{score}_before']:.6g} -> {mean[f'{score}_after']:.6g}" for score in SCORES]
    ratios = [float(str(row["seconds_after"])) / float(str(row["seconds_before"])) for row in rows]
    same = sum(str(row["identical"]) == "True" for row in rows)
    return f"{name}: {len(rows)} pairs, {same} identical; {', '.join(parts)}; time x {np.median(ratios):.3f} (median)"


if __name__ == "__main__":
    main()
