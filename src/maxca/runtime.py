"""Settings of the whole process, each as a context manager that puts back what it found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


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
