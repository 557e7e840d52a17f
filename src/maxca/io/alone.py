"""Exclusive use of a file or folder by one process."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maxca.errors import MaxcaError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

WITHOUT_LOCKS = (
    errno.ENOLCK,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EBADF,
    errno.EINVAL,
)  # on some network file systems


@contextmanager
def alone_in(folder: Path, who: str) -> Iterator[None]:
    """Lock a folder for this process; the kernel releases the lock when the process ends, for whatever reason.

    Args:
        folder: an existing folder.
        who: the other process that may be using it, such as ``"another maxca train"``.

    Raises:
        MaxcaError: if another process holds the lock. File systems without locks are not protected.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise MaxcaError(
                    f"{folder}: {who} is running in it; wait until it has ended, or choose another folder"
                ) from error
            except OSError as error:
                if error.errno not in WITHOUT_LOCKS:
                    raise
        yield
    finally:
        os.close(descriptor)
