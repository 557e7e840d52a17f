"""`maxca cohort` measured: overhead of a task, seconds per pair against the command line, and what a warm worker saves.

    python benchmarks/cohort.py overhead [--tasks 10000]
    python benchmarks/cohort.py throughput DATA [--pairs 20] [--kinds hippocampus heart brain] [--effort balanced]
    python benchmarks/cohort.py warm DATA [--pairs 20] [--kinds hippocampus heart brain] [--effort balanced]

DATA is the folder with ``hippocampus``, ``acdc`` and ``oasis``; rows are added to ``-o FILE`` (CSV).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from memory import forget_peak, peak_gb

from maxca.io.pairs import Pair, read_pairs, write_pairs
from maxca.models.kept import KeptModels, fresh
from maxca.options import RegistrationOptions
from maxca.registration.inputs import SideInputs
from maxca.registration.register import register
from maxca.workflows.cohort.cluster import Needed, connected
from maxca.workflows.cohort.options import CohortOptions
from maxca.workflows.cohort.plan import read_plan
from maxca.workflows.cohort.stream import stream

LISTS = {"hippocampus": "hippocampus/pairs_val.csv", "heart": "acdc/pairs_val.csv", "brain": "oasis/pairs_val.csv"}
STAGES = ("read", "prepare", "align", "network", "optimise", "invert", "warp", "measure")
MAXCA = (sys.executable, "-m", "maxca")


def nothing(task: int) -> int:
    """A task of no work."""
    return task


def overhead(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Milliseconds per task of no work, and the memory of this process in the first and the last tenth."""
    with connected(CohortOptions(workers=2), Needed(1, 0.0, given.tasks), Path(), print) as client:
        for _ in stream(client, nothing, range(200)):
            pass
        forget_peak()
        begin, used, memory = time.perf_counter(), time.process_time(), []
        for number, _ in enumerate(stream(client, nothing, range(given.tasks))):
            if number % 100 == 0:
                memory.append(psutil.Process().memory_info().rss / 1e6)
        seconds, used = time.perf_counter() - begin, time.process_time() - used
    tenth = max(1, len(memory) // 10)
    yield {
        "what": "overhead",
        "kind": "no work",
        "count": given.tasks,
        "ms_per_task": round(1000 * seconds / given.tasks, 3),
        "cpu_ms_per_task": round(1000 * used / given.tasks, 3),
        "load": round(os.getloadavg()[0], 1),
        "memory_first_mb": round(max(memory[:tenth]), 1),
        "memory_last_mb": round(max(memory[-tenth:]), 1),
        "peak_mb": round(1000 * peak_gb(), 1),
    }


def throughput(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Seconds per pair of a cohort, and of the command line one pair after the other, which uses all cores."""
    for kind in given.kinds:
        pairs = read_pairs(given.data / LISTS[kind])[: given.pairs]
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_pairs(folder / "pairs.csv", pairs)
            cohort = ["cohort", str(folder / "pairs.csv"), "-o", str(folder / "out"), "--effort", given.effort]
            alone = [
                _timed([*MAXCA, *_register(pair), "--effort", given.effort, "-o", str(folder / str(n)), "-q"])
                for n, pair in enumerate(pairs[: given.alone or None])
            ]
            seconds, used = _timed([*MAXCA, *cohort, "--no-page", "-q"])
            one, one_used = (sum(each) / len(alone) for each in zip(*alone, strict=True))
            same = _same(folder, pairs, given.effort)
        yield {
            "what": "throughput",
            "kind": kind,
            "count": len(pairs),
            "effort": given.effort,
            "cohort_s": round(seconds / len(pairs), 2),
            "register_s": round(one, 2),
            "ratio": round(one * len(pairs) / seconds, 2),
            "cohort_cpu_s": round(used / len(pairs), 2),
            "register_cpu_s": round(one_used, 2),
            "identical": same,
            "load": round(os.getloadavg()[0], 1),
        }


def warm(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Processor seconds of a pair in a running process, with models loaded each time and kept in turn; its stages."""
    for kind in given.kinds:
        keep, seconds, stages, same = KeptModels(), dict[str, list[float]](fresh=[], kept=[]), Counter[str](), True
        options = RegistrationOptions(effort=given.effort, threads=1)
        for number, pair in enumerate(read_pairs(given.data / LISTS[kind])[: given.pairs + 1]):
            fields = []
            for name, how in (("fresh", fresh), ("kept", keep)):
                begin = time.process_time()
                result = register(SideInputs(pair.fixed), SideInputs(pair.moving), options, keep=how)
                seconds[name] += [time.process_time() - begin] if number else []  # the first pair warms up
                stages.update(result.record.seconds)
                fields.append(result.chain.field_on(result.fixed_grid).displacement)
            same = same and bool((fields[0] == fields[1]).all())
        total = sum(stages.values())
        yield {
            "what": "warm",
            "kind": kind,
            "count": len(seconds["kept"]),
            "effort": given.effort,
            "fresh_cpu_s": round(statistics.median(seconds["fresh"]), 2),
            "kept_cpu_s": round(statistics.median(seconds["kept"]), 2),
            **{f"{name}_percent": round(100 * stages[name] / total, 1) for name in STAGES},
            "identical": same,
            "load": round(os.getloadavg()[0], 1),
        }


def _register(pair: Pair) -> list[str]:
    labels = (("--fixed-labels", pair.fixed_labels), ("--moving-labels", pair.moving_labels))
    known = [str(word) for option in labels if option[1] for word in option]
    return ["register", "-f", str(pair.fixed), "-m", str(pair.moving), *known]


def _same(folder: Path, pairs: Sequence[Pair], effort: str) -> bool:
    """Whether the first pair has the files of ``register`` with one thread, byte by byte."""
    command = [*MAXCA, *_register(pairs[0]), "--effort", effort, "--threads", "1", "-o", str(folder / "x"), "-q"]
    subprocess.run(command, check=True)
    return hashes(folder / "out" / read_plan(folder / "out").pairs[0].name) == hashes(folder / "x")


def _timed(command: Sequence[str]) -> tuple[float, float]:
    """Seconds of a command, and of the processor in it and its processes."""
    variables = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    begin, used = time.perf_counter(), _used()
    subprocess.run(command, env=variables, check=True)
    return time.perf_counter() - begin, _used() - used


def _used() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def hashes(folder: Path) -> dict[str, str]:
    """The files of an output, without those that hold times and paths."""
    files = sorted(path for path in folder.iterdir() if path.suffix != ".json")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> None:
    """Measure, and print and store the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("overhead", "throughput", "warm"))
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--alone", type=int, help="pairs that the command line registers; by default all")
    parser.add_argument("--kinds", nargs="+", choices=tuple(LISTS), default=list(LISTS))
    parser.add_argument("--effort", default="balanced")
    given = parser.parse_args()
    measured = {"overhead": overhead, "throughput": throughput, "warm": warm}[given.what]
    for row in measured(given):
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        if given.output is not None:
            append(given.output, row)


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row to a table."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
