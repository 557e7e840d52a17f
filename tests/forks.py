"""Processes that have imported everything when they start: importing torch takes longer than most of them last."""

from __future__ import annotations

import multiprocessing
import os
import resource
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PRELOADED = ["maxca.evaluate.scores", "maxca.registration.facade", "maxca.cli.main", "maxca.training.start"]


def started(target: Callable[..., object], *arguments: object) -> BaseProcess:
    """A process of its own, forked from one without tests, that may be killed."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(PRELOADED)
    process = processes.Process(target=target, args=arguments)
    process.start()
    return process


def run(command: Sequence[str], environment: Mapping[str, str]) -> Any:
    """``maxca.evaluate.processes.run`` of ``python -m MODULE …``, but forked."""
    from maxca.evaluate.processes import Usage, _ending, _last_line

    with tempfile.TemporaryDirectory() as place:
        begin = time.perf_counter()
        process = started(module, list(command), dict(environment), place)
        try:
            process.join()
        except BaseException:
            process.kill()
            raise
        seconds = time.perf_counter() - begin
        out, err = ((Path(place) / name).read_text(encoding="utf-8") for name in ("out", "err"))
        peak = Path(place) / "peak"
        status = process.exitcode or 0
        error = _last_line(err) or f"exit status {status}" if status else ""
        assert not _ending(status, error)
        return Usage(seconds, float(peak.read_text()) if peak.exists() else 0.0, out, error)


def completed(command: Sequence[str], **options: object) -> subprocess.CompletedProcess[str]:
    """``subprocess.run`` of ``python SCRIPT …`` with captured text, but forked."""
    assert options == {"capture_output": True, "text": True}
    with tempfile.TemporaryDirectory() as place:
        process = started(script, list(command), place)
        process.join()
        out, err = (Path(place, name).read_text(encoding="utf-8") for name in ("out", "err"))
    return subprocess.CompletedProcess(command, process.exitcode or 0, out, err)


def script(command: Sequence[str], place: str) -> None:
    """Become ``python SCRIPT …``."""
    redirect(place)
    program, *sys.argv = command
    assert program == sys.executable
    sys.path[0] = str(Path(sys.argv[0]).parent)
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        sys.stdout.flush()


def redirect(place: str) -> None:
    """Send what this process prints to the files ``out`` and ``err``."""
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{place}/{name}", os.O_WRONLY | os.O_CREAT), number)


def module(command: Sequence[str], environment: Mapping[str, str], place: str) -> None:
    """Become ``python -m MODULE …``."""
    import torch

    os.environ.clear()
    os.environ.update(environment)
    redirect(place)
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))  # read by OpenMP when it was loaded
    program, option, name, *sys.argv[1:] = command
    assert (program, option) == (sys.executable, "-m")
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    finally:
        sys.stdout.flush()
        (Path(place) / "peak").write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
