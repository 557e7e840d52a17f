"""A process of its own, with limits of memory and time, for native code that reads files nobody vouches for.

A library that crashes, runs in circles or asks for all memory takes this process with it, not the one that called.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec

import psutil

LIMITS = find_spec("resource") is not None  # Windows has none; the time is limited there too

ROOM = 256 << 20  # bytes beyond what the process holds once it has started and read its input
REFUSED = 3  # exit status: the content was understood and refused, stderr says why


def run_limited(module: str, content: bytes, seconds: float) -> bytes:
    """Run ``python -m MODULE`` on some bytes and give what it answers; its ``__main__`` calls ``serve``.

    Args:
        module: full name; what it imports decides how fast it starts.
        content: what it reads from its standard input.
        seconds: after which it is ended.

    Raises:
        ValueError: with its reason where it refused the content; or that it crashed or took too long.
    """
    places = [
        place for place in sys.path if place
    ]  # an empty one is the working folder, where anybody may have put files
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
        raise ValueError(f"damaged: reading it did not end within {seconds:.0f} s") from error
    if done.returncode == REFUSED:
        raise ValueError(done.stderr.decode("utf-8", errors="replace").strip())
    if done.returncode:
        raise ValueError("damaged: the library that reads it failed")
    return done.stdout


def serve(answer: Callable[[bytes], bytes]) -> int:
    """The other end of ``run_limited``: answer the bytes on standard input under limits.

    Args:
        answer: from content to answer; a ``ValueError`` of one line refuses the content.

    Returns:
        The exit status.
    """
    content = sys.stdin.buffer.read()
    _limit_time(int(os.environ["LIMITED_SECONDS"]))
    grant(0)
    try:
        sys.stdout.buffer.write(answer(content))
    except ValueError as error:
        sys.stderr.write(str(error).splitlines()[0])
        return REFUSED
    except MemoryError:
        sys.stderr.write("damaged: it asks for more memory than its size can need")
        return REFUSED
    sys.stdout.buffer.flush()
    return 0


def grant(size: int) -> None:
    """Let a process that ``serve`` limits hold so many bytes more than now; in any other, nothing happens."""
    if not LIMITS or "LIMITED_SECONDS" not in os.environ:
        return
    import resource

    held = psutil.Process().memory_info().vms
    with suppress(ValueError, OSError):  # a limit may be set from outside already
        resource.setrlimit(resource.RLIMIT_AS, (held + size + ROOM, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _limit_time(seconds: int) -> None:
    if not LIMITS:
        return
    import resource

    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
