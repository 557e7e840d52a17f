"""Reading of regular files that fit into memory."""

from __future__ import annotations

import stat
from pathlib import Path

import psutil

from maxca.errors import MaxcaError


def check_regular(path: Path) -> int:
    """Reject anything but a regular file; a pipe or a device may never end.

    Returns:
        Its size in bytes.

    Raises:
        MaxcaError: for a path that is missing, not accessible, or not a regular file.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MaxcaError(f"{path}: no such file; check the path") from error
    except (OSError, ValueError) as error:
        raise MaxcaError(f"{path}: cannot be read; check the path and its permissions") from error
    if not stat.S_ISREG(found.st_mode):
        raise MaxcaError(f"{path}: a folder, pipe or device, but a file is expected; pass a file")
    return found.st_size


def read_bytes(path: Path) -> bytes:
    """The content of a regular file.

    Raises:
        MaxcaError: like ``check_regular``, and for a file larger than the free memory or not readable.
    """
    size, free = check_regular(path), psutil.virtual_memory().available
    if size > free:
        raise MaxcaError(
            f"{path}: {size / 1e9:.3g} GB, but only {free / 1e9:.3g} GB of memory are free; check the file"
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise MaxcaError(f"{path}: cannot be read; check its permissions") from error
