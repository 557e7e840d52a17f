"""``maxca info``: the software and hardware environment."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from maxca.cli.terminal import report

EXAMPLE = "Example:  maxca info"
PACKAGES = ("torch", "numpy", "scipy", "nibabel", "SimpleITK", "h5py", "nilearn", "matplotlib")


def info() -> None:
    """Print versions, devices, threads and memory, as needed for a bug report."""
    import psutil
    import torch

    from maxca import native
    from maxca.version import installed_version

    memory = psutil.virtual_memory()
    lines = {
        "maxca": installed_version(),
        "python": f"{platform.python_version()} on {platform.platform()}",
        **{name: _version(name) for name in PACKAGES},
        "cpu": f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads",
        "memory": f"{memory.total / 1e9:.1f} GB, {memory.available / 1e9:.1f} GB free",
        "loops": "compiled" if native.compiled() else "by torch, slower: no C compiler when maxca was installed",
        "gpu": _gpus(),
        "problems": "report them at the project's issue tracker, with these lines and the command run with --debug",
    }
    for name, value in lines.items():
        report(f"{name:<11} {value}")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _gpus() -> str:
    import torch

    names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return ", ".join(names) or "none usable by torch"
