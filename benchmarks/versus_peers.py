"""maxca beside greedy, ANTs SyN and elastix: the same pairs, threads, machine and run.

    python benchmarks/versus_peers.py --set brain --group inter --pairs pairs_val.csv \\
        --methods maxca-balanced,maxca-fast,greedy,syn,elastix -o results.csv --figure results.png

Every registration starts from the raw pair in a fresh process; its wall time (start-up, reading, affine and writing
included) and peak memory are the kernel's figures for that process. Methods take turns pair by pair, so that a slow
hour of the machine hits them all. Warping the labels and scoring come after, outside the timing (``peers.py``,
``scoring.py``).

A row is written as soon as it is done, and rows that are there already are not done again: run the same command to go
on, and delete a row to repeat it. This process imports nothing large: a child's peak memory would count its parent's.
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
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import peers
import summary

FIELDS = [
    *("set", "pair", "fixed", "moving", "group", "method"),
    *("dice", "dice_before", "hd95_mm", "ndv_percent", "nonpositive_percent", "sdlogj"),
    *("seconds", "peak_mb", "threads", "versions", "error"),
]


class Listed(NamedTuple):
    """One line of a pair list."""

    number: int
    fixed: str
    moving: str
    fixed_labels: str
    moving_labels: str
    group: str


class Usage(NamedTuple):
    """What a process took, and its last line on stderr if it failed."""

    seconds: float
    peak_mb: float
    error: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, and summarise what is there."""
    options = parse(arguments)
    done = {(row["set"], row["pair"], row["fixed"], row["moving"], row["method"]) for row in read_rows(options.output)}
    pairs = read_pairs(options.pairs, options.group)[: options.limit]
    for pair in pairs:
        for method in options.methods:
            if (options.set, str(pair.number), pair.fixed, pair.moving, method) in done:
                continue
            row = measure(method, pair, options)
            append(options.output, row)
            outcome = row["error"] or f"Dice {row['dice']:.4f} in {row['seconds']:.1f} s, {row['peak_mb']:.0f} MB"
            print(f"{options.set} {pair.number} {method}: {outcome}", flush=True)
    rows = read_rows(options.output)
    if rows:
        table = summary.markdown(rows)
        options.output.with_suffix(".md").write_text(table, encoding="utf-8")
        print("\n" + table)
    if rows and options.figure:
        summary.figure(rows, options.figure)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare maxca with greedy, ANTs SyN and elastix on a list of pairs.")
    parser.add_argument("--pairs", type=Path, required=True, help="CSV: fixed, moving, fixed_labels, moving_labels")
    parser.add_argument("--methods", type=method_names, required=True, help="of " + ",".join(peers.METHODS))
    parser.add_argument("-o", "--output", type=Path, required=True, help="CSV; a table goes beside it as .md")
    parser.add_argument("--set", choices=tuple(peers.GREEDY), default="brain", help="which settings the peers get")
    parser.add_argument("--group", help="only pairs of this group")
    parser.add_argument("--limit", type=int, help="only the first so many pairs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--figure", type=Path, help="PNG of Dice against seconds")
    return parser.parse_args(arguments)


def method_names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if not peers.known(name)]:
        raise argparse.ArgumentTypeError(
            f"unknown method {unknown[0]}; choose of {', '.join(peers.METHODS)} and maxca-EFFORT-MODEL"
        )
    return names


def read_pairs(path: Path, group: str | None = None) -> list[Listed]:
    """The pairs of a list; each keeps its number in the whole list, also when a group is taken out of it."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    needed = {"fixed", "moving", "fixed_labels", "moving_labels"}
    if not lines or not needed <= lines[0].keys():
        raise SystemExit(f"{path}: needs the columns {', '.join(sorted(needed))} and at least one pair")
    pairs = [
        Listed(number, *(line[name] for name in Listed._fields[1:5]), line.get("group") or "")
        for number, line in enumerate(lines)
    ]
    return [pair for pair in pairs if group is None or pair.group == group]


def measure(method: str, pair: Listed, options: argparse.Namespace) -> dict[str, object]:
    """Register, warp and score one pair with one method; a failure is a row too."""
    root = options.pairs.resolve().parent
    fixed, moving, fixed_labels, moving_labels = (root / name for name in pair[1:5])
    row: dict[str, object] = {
        "set": options.set, "pair": pair.number, "fixed": pair.fixed, "moving": pair.moving, "group": pair.group,
        "method": method, "threads": options.threads, "versions": versions(method), "error": "",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        job = peers.Pair(options.set, fixed, moving, Path(folder))
        for command in commands(method, job, options.threads, fixed_labels, moving_labels):
            usage, output = run(command, options.threads)
            row.setdefault("seconds", usage.seconds)
            row.setdefault("peak_mb", usage.peak_mb)
            if usage.error:
                return {**row, "error": usage.error}
    return {**row, **json.loads(output.splitlines()[-1])}


def commands(
    method: str, job: peers.Pair, threads: int, fixed_labels: Path, moving_labels: Path
) -> Iterator[list[str]]:
    """The three processes of a row; only the first is timed."""
    yield peers.register_command(method, job, threads)
    yield peers.warp_command(method, job, moving_labels)
    scoring = Path(__file__).with_name("scoring.py")
    yield [sys.executable, *map(str, (scoring, method, job.folder, job.fixed, fixed_labels, moving_labels))]


def run(command: Sequence[str], threads: int) -> tuple[Usage, str]:
    """Run a process to its end: what it took, and what it printed."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env=peers.environment(threads))
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        error = last_line(err.read()) or f"exit status {process.returncode}" if process.returncode else ""
        return Usage(seconds, used.ru_maxrss / 1024, error), out.read()


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def versions(method: str) -> str:
    package = peers.PACKAGES.get(method, "maxca")
    try:
        found = metadata.version(package)
    except metadata.PackageNotFoundError:
        found = "from source"
    return f"{package} {found}"


def read_rows(path: Path) -> list[summary.Row]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append(path: Path, row: dict[str, object]) -> None:
    is_new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        if is_new:
            writer.writeheader()
        writer.writerow({name: rounded(row.get(name, "")) for name in FIELDS})


def rounded(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


if __name__ == "__main__":
    main()
