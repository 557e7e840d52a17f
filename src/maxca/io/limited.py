"""A separate process with limits on memory and time, for native code that reads untrusted files.

A library that crashes, loops endlessly or exhausts memory terminates this process only.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec

import psutil

LIMITS = find_spec("resource") is not None  # not on Windows, where only the time is limited

ROOM = 256 << 20  # bytes in addition to those in use after start and reading of the input
REFUSED = 3  # exit status: the content was rejected with a reason on stderr


def run_limited(module: str, content: bytes, seconds: float) -> bytes:
    """Run ``python -m MODULE`` on some bytes and return its output; its ``__main__`` calls ``serve``.

    Args:
        module: full name; its imports determine the time to start.
        content: its standard input.
        seconds: time limit.

    Raises:
        ValueError: with its reason if it rejected the content, or if it crashed or took too long.
    """
    places = [place for place in sys.path if place]  # an empty entry is the working folder, whose files are not trusted
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(places),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "LIMITED_SECONDS": str(int(seconds) + 1),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", module],
            input=content,
            capture_output=True,
            timeout=seconds,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"damaged: reading it did not finish within {seconds:.0f} s") from error
    if done.returncode == REFUSED:
        raise ValueError(done.stderr.decode("utf-8", errors="replace").strip())
    if done.returncode:
        raise ValueError("damaged: the library that reads it failed")
    return done.stdout


def serve(process: Callable[[bytes], bytes]) -> int:
    """The counterpart of ``run_limited``: process standard input within the limits.

    Args:
        process: from input to output; a ``ValueError`` of one line rejects the content.

    Returns:
        The exit status.
    """
    content = sys.stdin.buffer.read()
    _limit_time(int(os.environ["LIMITED_SECONDS"]))
    grant(0)
    try:
        sys.stdout.buffer.write(process(content))
    except ValueError as error:
        sys.stderr.write(str(error).splitlines()[0])
        return REFUSED
    except MemoryError:
        sys.stderr.write("damaged: it requires more memory than its size can need")
        return REFUSED
    sys.stdout.buffer.flush()
    return 0


def grant(size: int) -> None:
    """Raise the memory limit of a process run by ``serve`` to the given number of bytes above the current use."""
    if not LIMITS or "LIMITED_SECONDS" not in os.environ:
        return
    import resource

    held = psutil.Process().memory_info().vms
    with suppress(ValueError, OSError):  # there may already be a lower limit
        resource.setrlimit(resource.RLIMIT_AS, (held + size + ROOM, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _limit_time(seconds: int) -> None:
    if not LIMITS:
        return
    import resource

    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
