"""Cohorts with one fault each at a random moment, compared with a cohort without any.

    tests/workflows/slurm.sh python benchmarks/cohort_faults.py DATA [--count 60] [--seed 0] [-o FILE]

DATA is the folder with ``hippocampus``. Each cohort registers 6 pairs of every second voxel by real processes of Dask;
without SLURM, leave out its script, and its fault is left out. Rows are added to ``-o FILE`` (CSV); faults that it has
already are not repeated.

Columns: ``done`` pairs when the fault happened; of all pairs, how many were lost, differ from those of a cohort without
faults, are unfinished folders, done again though they were done (``done_again``), or written twice by whatever
process (``rewritten``). A pair in flight is computed again elsewhere: its first computation leaves nothing.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import random
import resource
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import nibabel as nib
from cohort import LISTS, append, hashes
from dask_processes import Processes, kill, wait

from maxca.io.pairs import Pair, read_pairs, write_pairs
from maxca.workflows.cohort.plan import read_plan
from maxca.workflows.cohort.task import TASK

PRELOADED = [
    "maxca.registration.facade",
    "maxca.cli.main",
    "maxca.workflows.cohort.slurm",
    "distributed.cli.dask_worker",
]
PAIRS = 6
ONE_AT_A_TIME = threading.Lock()  # for faults of SLURM, whose jobs are of one user
LONGEST = 600  # seconds of a cohort


class Forked:
    """``python -m MODULE …`` in a session of its own, forked from a process that has imported it.

    Args:
        words: the module and its arguments.
        log: of what it prints.
        limits: of the process.
    """

    def __init__(self, words: Sequence[str], log: Path, limits: Mapping[int, int] | None = None) -> None:
        processes = multiprocessing.get_context("forkserver")
        processes.set_forkserver_preload(PRELOADED)
        self.process = processes.Process(target=_become, args=(list(words), str(log), dict(limits or {})))
        self.process.start()
        self.pid = self.process.pid or 0
        wait(lambda: os.getpgid(self.pid) == self.pid)  # or a signal to its session would not reach it

    def wait(self, seconds: float | None = None) -> int:
        """Its exit code."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, "waited too long"
        return self.process.exitcode


def _become(words: Sequence[str], log: str, limits: Mapping[int, int]) -> None:
    os.setsid()
    for number in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    for kind, most in limits.items():
        resource.setrlimit(kind, (most, most))
    sys.argv[1:] = words[1:]
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


class ForkedProcesses(Processes):
    """Those of Dask, forked."""

    def _start(self, *words: str, limits: Mapping[int, int] | None = None) -> Any:
        name = {"scheduler": "dask_scheduler", "worker": "dask_worker"}[words[1]]
        process = Forked((f"distributed.cli.{name}", *words[2:]), self.folder / f"{len(self.running)}.log", limits)
        self.running.append(process)
        return process


class Case:
    """A cohort and its processes.

    Args:
        folder: of everything.
        pairs: copied into it.
        choice: of the moment.
    """

    def __init__(self, folder: Path, pairs: Sequence[Pair], choice: random.Random) -> None:
        self.folder, self.out, self.choice = folder, folder / "out", choice
        (folder / "dask").mkdir(parents=True)
        self.processes = ForkedProcesses(folder / "dask")
        copied = []
        for number, pair in enumerate(pairs):
            for side in ("fixed", "moving"):
                image = nib.nifti1.load(getattr(pair, side)).slicer[::2, ::2, ::2]
                nib.save(image, folder / f"{side}{number}.nii.gz")
            copied.append(Pair(folder / f"fixed{number}.nii.gz", folder / f"moving{number}.nii.gz"))
        write_pairs(folder / "pairs.csv", copied)
        self.before: dict[str, int] = {}
        self.seen: dict[str, set[tuple[int, int]]] = {}
        self.ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """Note every result that is ever there."""
        while not self.ended.wait(0.03):
            self.done()

    def start(self, limits: Mapping[int, int] | None = None) -> str:
        """The address of a new scheduler with one worker."""
        self.address, self.scheduler = self.processes.scheduler()
        self.worker = self.processes.worker(self.address, "--no-nanny", limits=limits)
        return self.address

    def client(self, *where: str) -> Any:
        """A new client."""
        usual = ("--effort", "fast", "--model", "none", "--no-page", "-q")
        words = ("maxca", "cohort", str(self.folder / "pairs.csv"), "-o", str(self.out), *usual, *where)
        process = Forked(words, self.folder / "client.log")
        self.processes.running.append(process)
        return process

    def run(self, *where: str) -> None:
        """A cohort to its end, which must be good."""
        code = self.client(*where).wait(LONGEST)
        assert code == 0, (self.folder / "client.log").read_text()[-2000:]

    def moment(self) -> None:
        """Wait until some pairs are done and a random time longer."""
        enough = self.choice.randrange(0, PAIRS - 1)
        wait(lambda: len(self.done()) >= enough, LONGEST)
        time.sleep(self.choice.uniform(0, 1))
        self.before = self.done()

    def done(self) -> dict[str, int]:
        """The finished pairs and the times of their results."""
        found = {}
        for path in self.out.glob(f"[!.]*/{TASK}"):
            status = path.stat()
            found[path.parent.name] = status.st_mtime_ns
            self.seen.setdefault(path.parent.name, set()).add((status.st_ino, status.st_mtime_ns))
        return found

    def compared(self, expected: Mapping[str, Mapping[str, str]]) -> dict[str, int]:
        """The counts of the row."""
        found = {p.name: hashes(self.out / p.name) for p in read_plan(self.out).pairs if p.state == "done"}
        after = self.done()
        return {
            "done": len(self.before),
            "lost": len(expected.keys() - found.keys()),
            "differing": sum(found[name] != files for name, files in expected.items() if name in found),
            "unfinished": sum(path.is_dir() for path in self.out.glob(".*")),
            "done_again": sum(after.get(name) != time for name, time in self.before.items()),
            "rewritten": sum(len(versions) > 1 for versions in self.seen.values()),
        }

    def end(self) -> None:
        """End all processes."""
        self.ended.set()
        self.processes.end()


def worker(case: Case) -> None:
    """``kill -9`` of the worker; another one comes."""
    client = case.client("--scheduler", case.start())
    case.moment()
    kill(case.worker)
    case.processes.worker(case.address, "--no-nanny")
    assert client.wait(LONGEST) == 0


def client(case: Case) -> None:
    """``kill -9`` of the client; the same command resumes."""
    running = case.client("--scheduler", case.start())
    case.moment()
    kill(running)
    case.run("--scheduler", case.address)


def scheduler(case: Case) -> None:
    """``kill -9`` of the scheduler; the same command resumes with another."""
    running = case.client("--scheduler", case.start())
    case.moment()
    kill(case.scheduler)
    running.wait(LONGEST)
    kill(case.worker)
    case.run("--scheduler", case.start())


def out_of_memory(case: Case) -> None:
    """The worker may allocate little more than it has, from a random moment; another has enough."""
    running = case.client("--scheduler", case.start())
    case.moment()
    status = Path(f"/proc/{case.worker.pid}/status").read_text()
    most = 1024 * int(status.split("VmSize:")[1].split()[0]) + case.choice.randrange(1, 30_000_000)
    resource.prlimit(case.worker.pid, resource.RLIMIT_AS, (most, most))
    time.sleep(case.choice.uniform(0, 3))
    kill(case.worker)  # as the kernel ends it in the end
    case.processes.worker(case.address, "--no-nanny")
    running.wait(LONGEST)
    case.run("--scheduler", case.address, "--retry", "failed")


def full_disc(case: Case) -> None:
    """The output is on a file system of a random size, and then there is room."""
    case.out.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={case.choice.randrange(50, 1000)}k", "maxca", str(case.out)]
    if subprocess.run(mounted, capture_output=True, check=False).returncode:
        limits = {resource.RLIMIT_FSIZE: case.choice.randrange(1_000, 50_000)}
        case.client("--scheduler", case.start(limits)).wait(LONGEST)
        kill(case.worker)
        case.processes.worker(case.address, "--no-nanny")
    else:
        case.client("--scheduler", case.start()).wait(LONGEST)
        subprocess.run(["mount", "-o", "remount,size=1g", str(case.out)], check=True)
    case.before = case.done()
    case.run("--scheduler", case.address)


def corrupt_input(case: Case) -> None:
    """A scan is cut at a random byte, and then it is whole."""
    path = case.folder / f"moving{case.choice.randrange(PAIRS)}.nii.gz"
    content = path.read_bytes()
    path.write_bytes(content[: case.choice.randrange(len(content))])
    assert case.client("--scheduler", case.start()).wait(LONGEST) == 1
    case.before = case.done()
    path.write_bytes(content)
    case.run("--scheduler", case.address)


def slurm_job(case: Case) -> None:
    """``scancel`` of a running job."""
    with ONE_AT_A_TIME:
        running = case.client("--slurm", "partition=long,interface=lo", "--workers", "2")
        wait(_jobs, LONGEST)
        case.moment()
        if jobs := _jobs():
            subprocess.run(["scancel", case.choice.choice(jobs)], check=True)
        assert running.wait(LONGEST) == 0


def _jobs() -> list[str]:
    done = subprocess.run(["squeue", "-h", "-t", "RUNNING", "--format=%A"], capture_output=True, text=True, check=True)
    return done.stdout.split()


FAULTS: tuple[Callable[[Case], None], ...] = (
    worker,
    client,
    scheduler,
    out_of_memory,
    full_disc,
    corrupt_input,
    slurm_job,
)


def main() -> None:
    """Measure, and print and store the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parallel", type=int, default=2, help="cohorts at a time")
    given = parser.parse_args()
    finished = set()
    if given.output is not None and given.output.exists():
        with given.output.open(encoding="utf-8", newline="") as file:
            finished = {int(row["number"]) for row in csv.DictReader(file)}
    kinds = FAULTS if "SLURM_CONF" in os.environ else FAULTS[:-1]
    with tempfile.TemporaryDirectory() as place:
        folder, pairs = Path(place), read_pairs(given.data / LISTS["hippocampus"])[:PAIRS]
        usual = Case(folder / "usual", pairs, random.Random())
        usual.run("--scheduler", usual.start())
        usual.end()
        expected = {p.name: hashes(usual.out / p.name) for p in read_plan(usual.out).pairs}

        def one(number: int) -> dict[str, Any]:
            case = Case(folder / str(number), pairs, random.Random(1000 * given.seed + number))
            return measured(kinds[number % len(kinds)], number, case, expected)

        with ThreadPoolExecutor(given.parallel) as pool:
            for row in as_completed(pool.submit(one, n) for n in range(given.count) if n not in finished):
                print(", ".join(f"{name} {value}" for name, value in row.result().items()), flush=True)
                if given.output is not None:
                    append(given.output, row.result())


def measured(
    fault: Callable[[Case], None], number: int, case: Case, expected: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """The row of a fault."""
    begin = time.monotonic()
    try:
        fault(case)
        counts = case.compared(expected)
    finally:
        case.end()
        subprocess.run(["umount", str(case.out)], capture_output=True, check=False)
    shutil.rmtree(case.folder)
    seconds = round(time.monotonic() - begin, 1)
    return {"number": number, "kind": fault.__name__, "pairs": PAIRS, **counts, "seconds": seconds}


if __name__ == "__main__":
    main()
