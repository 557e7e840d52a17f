"""Settings of the whole process, each as a context manager that puts back what it found."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Threads that wait in a busy loop take the cores from other programs: on a loaded machine that costs a factor of ten.
# A short loop before they sleep makes work on small images a quarter faster. OpenMP reads both when torch is loaded.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
KEPT = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1}
USUAL = {M_MMAP_MAX: 65536, M_TRIM_THRESHOLD: 128 << 10}  # mallopt(3)

_lock = threading.Lock()
_keeping = 0  # calls that are inside ``freed_memory_kept``


@contextmanager
def tuned(threads: int | None = None) -> Iterator[None]:
    """Everything that makes work on one pair fast: threads, their waiting, and memory that is used again.

    Args:
        threads: of torch and SimpleITK; None changes nothing.
    """
    with environment(**WAITING), freed_memory_kept(), thread_limit(threads):
        yield


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let the C library (glibc) keep what is freed: it would have each large tensor made and zeroed anew.

    At the end of the last of several such calls, whatever thread they are in, the usual settings return and the memory
    goes back to the system. Source: mallopt(3), malloc_trim(3).
    """
    global _keeping
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):  # other C libraries have neither
        yield
        return
    assert library is not None
    with _lock:
        _keeping += 1
        for name, value in KEPT.items():
            library.mallopt(name, value)
    try:
        yield
    finally:
        with _lock:
            _keeping -= 1
            if not _keeping:
                for name, value in USUAL.items():
                    library.mallopt(name, value)
                library.malloc_trim(0)


@contextmanager
def thread_limit(count: int | None) -> Iterator[None]:
    """Let torch and SimpleITK use so many CPU threads meanwhile.

    Args:
        count: at least 1; None changes nothing.
    """
    if count is None:
        yield
        return
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
    try:
        with torch_thread_limit(count):
            yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


@contextmanager
def torch_thread_limit(count: int | None) -> Iterator[None]:
    """Let torch use so many CPU threads meanwhile: for what runs without SimpleITK, such as training.

    Args:
        count: at least 1; None changes nothing.
    """
    import torch

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw torch's random numbers from a seed meanwhile, on the CPU and on every GPU."""
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set variables of the environment that are not set, and take them away again."""
    missing = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)
