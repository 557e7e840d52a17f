"""Time and peak memory of a process, as measured by the kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from maxca.errors import MaxcaError

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # sent by a user or a scheduler; crashes have others


class Usage(NamedTuple):
    """Resources and output of a process.

    Args:
        seconds: wall time, including the start of Python.
        peak_mb: peak memory.
        output: its standard output.
        error: its last line on stderr if it failed, otherwise empty.
    """

    seconds: float
    peak_mb: float
    output: str
    error: str


def run(command: Sequence[str], environment: Mapping[str, str]) -> Usage:
    """Run a process to its end; it is terminated together with this one.

    Raises:
        MaxcaError: if it was terminated from outside, which is not a failure of the method.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env=dict(environment))
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        error = _last_line(err.read()) or f"exit status {process.returncode}" if process.returncode else ""
        if ending := _ending(process.returncode, error):
            raise MaxcaError(f"a process was terminated by {ending}; run the same command to continue")
        return Usage(seconds, used.ru_maxrss / 1024, out.read(), error)


def _ending(status: int, error: str) -> str:
    """The signal that terminated a process (``-n``), or on which it exited: ``128 + n``, a Python module 1."""
    if error == "KeyboardInterrupt":
        return "SIGINT"
    return next((ending.name for ending in ENDINGS if status in (-ending, 128 + ending)), "")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
