"""Loops over voxels that are compiled from C when the package is built; torch computes the same where they are not.

The library is made from ``kernels.c`` by ``hatch_build.py`` with the compiler of the machine, and is part of a wheel.
Without a compiler the package has none. It is loaded by ctypes, so that it fits every version of Python, and lets other
threads run.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path

LIBRARY = Path(__file__).with_name("kernels.so")
SWITCH = "MAXCA_NATIVE"  # environment variable: 0 computes everything with torch

_FLOATS, _INT, _LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
_ARGUMENTS = {
    "maxca_interleave": (_FLOATS, _FLOATS, _LONG, _LONG, _LONG),
    "maxca_invert": (_FLOATS, _FLOATS, _FLOATS, *[_INT] * 5, ctypes.c_float, _INT, _INT),
}


def compiled() -> ctypes.CDLL | None:
    """The compiled library, or None if there is none or the environment switches it off."""
    return None if os.environ.get(SWITCH) == "0" else _loaded()


@cache
def _loaded() -> ctypes.CDLL | None:
    try:
        loaded = ctypes.CDLL(str(LIBRARY))
    except OSError:
        return None
    for name, arguments in _ARGUMENTS.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, None
    return loaded


def in_ranges(count: int, threads: int, work: Callable[[int, int], object]) -> None:
    """Call ``work(first, last)`` for ``threads`` parts of ``count`` items, side by side."""
    edges = [count * part // threads for part in range(threads + 1)]
    parts = [(first, last) for first, last in pairwise(edges) if last > first]
    if len(parts) < 2:
        for part in parts:
            work(*part)
        return
    with ThreadPoolExecutor(len(parts)) as pool:
        for done in [pool.submit(work, *part) for part in parts]:
            done.result()
