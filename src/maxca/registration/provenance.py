"""What a registration was made from and with: files and their hashes, versions, memory."""

from __future__ import annotations

import platform
import resource
import sys
from importlib.metadata import version

from maxca.registration.inputs import Side, identified


def identities(**sides: Side) -> dict[str, dict[str, str]]:
    """Which file played which role, ``"fixed"``, ``"fixed_labels"``, …, and its hash."""
    return {
        name if role == "image" else f"{name}_{role}": identified(path)
        for name, side in sides.items()
        for role, path in side.sources.items()
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages whose numbers a result depends on."""
    packages = ("torch", "numpy", "nibabel", "SimpleITK")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def peak_memory_mb() -> int:
    """Of this process, since it began."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3))
