"""One process at a time on one file or folder."""

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
)  # of some network file systems


@contextmanager
def alone_in(folder: Path, who: str) -> Iterator[None]:
    """Be the only process that works in a folder; the kernel ends this with the process, however it ends.

    Args:
        folder: is there.
        who: what else may be at work in it, such as ``"another maxca train"``.

    Raises:
        MaxcaError: while somebody else is. Where the file system knows no locks, that is not made sure of.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise MaxcaError(f"{folder}: {who} is at work in it; wait for it, or name another folder") from error
            except OSError as error:
                if error.errno not in WITHOUT_LOCKS:
                    raise
        yield
    finally:
        os.close(descriptor)
