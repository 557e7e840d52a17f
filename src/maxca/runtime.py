"""Process-wide settings as context managers that restore the previous state."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Threads that wait in a busy loop occupy the cores: on a loaded machine that costs a factor of ten.
# A short loop before they sleep makes small images a quarter faster. OpenMP reads both when torch is loaded.
# NumPy's and SciPy's matrices are small, and the waiting threads of their BLAS took as much time as the affine itself.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000", "OPENBLAS_NUM_THREADS": "1"}
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
KEPT = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1}
USUAL = {M_MMAP_MAX: 65536, M_TRIM_THRESHOLD: 128 << 10}  # mallopt(3)

_lock = threading.Lock()
_keeping = 0  # calls that are inside ``freed_memory_kept``


@contextmanager
def tuned(threads: int | None = None) -> Iterator[None]:
    """All settings for a fast registration: threads, their waiting policy, and reuse of freed memory.

    Args:
        threads: of torch and SimpleITK; None keeps the current number.
    """
    with environment(**WAITING), freed_memory_kept(), thread_limit(threads), blas_on_one_thread():
        yield


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Make the C library (glibc) keep freed memory; otherwise each large tensor is allocated and zeroed anew.

    At the end of the last of several nested or parallel calls, the default settings are restored and the memory is
    returned to the system. Source: mallopt(3), malloc_trim(3).
    """
    global _keeping
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):  # not available in other C libraries
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
def blas_on_one_thread() -> Iterator[None]:
    """NumPy and SciPy, as far as they are loaded, compute products of matrices on one thread."""
    from threadpoolctl import ThreadpoolController

    with ThreadpoolController().limit(limits=1, user_api="blas"):
        yield


@contextmanager
def thread_limit(count: int | None) -> Iterator[None]:
    """Set the number of CPU threads of torch and SimpleITK within the context.

    Args:
        count: at least 1; None keeps the current number.
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
    """Set the number of CPU threads of torch within the context, without SimpleITK, for example in training.

    Args:
        count: at least 1; None keeps the current number.
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
    """Seed torch's random numbers within the context, on the CPU and on every GPU."""
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set environment variables that are unset within the context."""
    missing = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


def fast_bfloat16() -> bool:
    """Whether the processor multiplies matrices of bfloat16 in hardware (AMX)."""
    import torch

    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_tile") and capabilities.get("amx_bf16"))
