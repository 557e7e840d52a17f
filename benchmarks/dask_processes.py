"""A real Dask scheduler, and real workers, processes on loopback that may be killed."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

WAITED = 60  # seconds for a process to be there


LOOPBACK = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", "--no-dashboard")


class Processes:
    """``dask scheduler`` and ``dask worker``.

    Args:
        folder: of their logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[Any] = []

    def scheduler(self, port: int = 0) -> tuple[str, subprocess.Popen]:
        """The address of a new scheduler, and its process."""
        file = self.folder / f"scheduler{len(self.running)}.json"
        words = (*LOOPBACK, "--port", str(port), "--scheduler-file", str(file))
        process = self._start("dask", "scheduler", *words)
        wait(lambda: file.is_file() and "tcp://" in file.read_text())
        address = file.read_text().split('"address": "')[1].split('"')[0]
        return address, process

    def worker(self, address: str, *words: str, limits: Mapping[int, int] | None = None) -> subprocess.Popen:
        """A worker of one thread; with ``--no-nanny`` nothing starts it again.

        Args:
            address: of its scheduler.
            words: further options.
            limits: of the process, such as ``{resource.RLIMIT_FSIZE: 100_000}``.
        """
        fixed = (*LOOPBACK, "--nthreads", "1", "--local-directory", str(self.folder))
        return self._start("dask", "worker", address, *fixed, *words, limits=limits)

    def end(self) -> None:
        """End all of them, with the processes that they started."""
        for process in self.running:
            kill(process)

    def _start(self, *words: str, limits: Mapping[int, int] | None = None) -> subprocess.Popen:
        def limit() -> None:
            for kind, most in (limits or {}).items():
                resource.setrlimit(kind, (most, most))

        with (self.folder / f"{len(self.running)}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=limit,
            )
        self.running.append(process)
        return process


def kill(process: subprocess.Popen) -> None:
    """``kill -9`` of a process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait(until: Callable[[], object], seconds: float = WAITED) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
