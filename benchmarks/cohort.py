"""`maxca cohort` measured: overhead of a task, seconds per pair against the command line, faults at random moments.

    python benchmarks/cohort.py overhead [--tasks 10000]
    python benchmarks/cohort.py throughput DATA [--pairs 20] [--kinds hippocampus heart brain] [--effort balanced]
    python benchmarks/cohort.py faults DATA [--count 60] [--seed 0]

DATA is the folder with ``hippocampus``, ``acdc`` and ``oasis``; rows are added to ``-o FILE`` (CSV).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from dask_processes import Processes, kill, wait
from memory import forget_peak, peak_gb

from maxca.io.atomic import RESULT_FILE
from maxca.io.pairs import Pair, read_pairs, write_pairs
from maxca.workflows.cohort.cluster import Needed, connected
from maxca.workflows.cohort.options import CohortOptions
from maxca.workflows.cohort.plan import read_plan
from maxca.workflows.cohort.stream import stream

LISTS = {"hippocampus": "hippocampus/pairs_val.csv", "heart": "acdc/pairs_val.csv", "brain": "oasis/pairs_val.csv"}
FAULTS = ("worker", "client", "scheduler", "full disc", "corrupt input")
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


def faults(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Cohorts of hippocampi with one fault each at a random moment, compared with a cohort without any."""
    choice = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        pairs = read_pairs(given.data / LISTS["hippocampus"])[: given.pairs]
        case = Case(folder / "usual", pairs)
        case.run(case.client(case.start()))
        expected = case.hashes()
        case.processes.end()
        for number in range(given.count):
            kind = FAULTS[number % len(FAULTS)]
            case = Case(folder / str(number), pairs)
            try:
                again = FAULT[kind](case, choice)
                found = case.hashes()
            finally:
                case.processes.end()
            yield {
                "what": "fault",
                "kind": kind,
                "count": len(pairs),
                "lost": len(expected.keys() - found.keys()),
                "differing": sum(found[name] != files for name, files in expected.items() if name in found),
                "unfinished": sum(path.is_dir() for path in case.out.glob(".*")),
                "done_again": again,
            }
            shutil.rmtree(case.folder)


class Case:
    """A cohort and its processes.

    Args:
        folder: of everything.
        pairs: copied into it.
    """

    def __init__(self, folder: Path, pairs: Sequence[Pair]) -> None:
        self.folder, self.out = folder, folder / "out"
        (folder / "dask").mkdir(parents=True)
        self.processes = Processes(folder / "dask")
        copied = []
        for number, pair in enumerate(pairs):
            moving = folder / f"{number}.nii.gz"
            shutil.copy(pair.moving, moving)
            moving.chmod(0o644)
            copied.append(Pair(pair.fixed, moving))
        write_pairs(folder / "pairs.csv", copied)

    def start(self, limits: Mapping[int, int] | None = None) -> str:
        """The address of a new scheduler with one worker."""
        self.address, self.scheduler = self.processes.scheduler()
        self.worker = self.processes.worker(self.address, "--no-nanny", limits=limits)
        return self.address

    def client(self, address: str, *words: str) -> subprocess.Popen:
        """A new client."""
        usual = ("--effort", "fast", "--model", "none", "--no-page", "-q", "--scheduler", address)
        command = [*MAXCA, "cohort", str(self.folder / "pairs.csv"), "-o", str(self.out), *usual, *words]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)

    def run(self, client: subprocess.Popen, code: int = 0) -> None:
        """Wait for a client and check its exit code."""
        assert client.wait(300) == code, client.returncode

    def moment(self, choice: random.Random) -> dict[str, int]:
        """Wait until some pairs are done and a random time longer; the pairs done then, and their times."""
        enough = choice.randrange(0, len(read_pairs(self.folder / "pairs.csv")) - 1)
        wait(lambda: len(self.done()) >= enough, 300)
        time.sleep(choice.uniform(0, 2))
        return self.done()

    def done(self) -> dict[str, int]:
        """The finished pairs and the times of their results."""
        return {path.parent.name: path.stat().st_mtime_ns for path in self.out.glob(f"[!.]*/{RESULT_FILE}")}

    def hashes(self) -> dict[str, dict[str, str]]:
        """The files of the pairs that the plan says are done."""
        return {p.name: hashes(self.out / p.name) for p in read_plan(self.out).pairs if p.state == "done"}

    def again(self, before: Mapping[str, int]) -> int:
        """How many of the pairs that were done have been done again."""
        after = self.done()
        return sum(after.get(name) != time for name, time in before.items())


def _worker(case: Case, choice: random.Random) -> int:
    client = case.client(case.start())
    before = case.moment(choice)
    kill(case.worker)
    case.processes.worker(case.address, "--no-nanny")
    case.run(client)
    return case.again(before)


def _client(case: Case, choice: random.Random) -> int:
    client = case.client(case.start())
    before = case.moment(choice)
    kill(client)
    case.run(case.client(case.address))
    return case.again(before)


def _scheduler(case: Case, choice: random.Random) -> int:
    client = case.client(case.start())
    before = case.moment(choice)
    kill(case.scheduler)
    client.wait(120)
    kill(case.worker)
    case.run(case.client(case.start()))
    return case.again(before)


def _full(case: Case, choice: random.Random) -> int:
    """Files of the worker end at a random length, as on a full disc; a new worker has room."""
    client = case.client(case.start({resource.RLIMIT_FSIZE: choice.randrange(1_000, 400_000)}))
    case.run(client, 1)
    before = case.done()
    kill(case.worker)
    case.worker = case.processes.worker(case.address, "--no-nanny")
    case.run(case.client(case.address))
    return case.again(before)


def _corrupt(case: Case, choice: random.Random) -> int:
    path = case.folder / f"{choice.randrange(len(read_pairs(case.folder / 'pairs.csv')))}.nii.gz"
    content = path.read_bytes()
    path.write_bytes(content[: choice.randrange(len(content))])
    case.run(case.client(case.start()), 1)
    before = case.done()
    path.write_bytes(content)
    case.run(case.client(case.address))
    return case.again(before)


FAULT: dict[str, Callable[[Case, random.Random], int]] = dict(
    zip(FAULTS, (_worker, _client, _scheduler, _full, _corrupt), strict=True)
)


def main() -> None:
    """Measure, and print and store the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("overhead", "throughput", "faults"))
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--alone", type=int, help="pairs that the command line registers; by default all")
    parser.add_argument("--kinds", nargs="+", choices=tuple(LISTS), default=list(LISTS))
    parser.add_argument("--effort", default="balanced")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    measured = {"overhead": overhead, "throughput": throughput, "faults": faults}[given.what]
    for row in measured(given):
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        if given.output is not None:
            _append(given.output, row)


def _append(path: Path, row: Mapping[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
