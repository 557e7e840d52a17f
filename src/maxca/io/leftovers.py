"""Hidden names of unfinished outputs that identify their process, so that leftovers of killed processes can be removed.

A name is ``.STEM.HOST-PID-START-RANDOM`` and a suffix. Files of other machines, and of processes that may still be
running, are never touched, so that several runs can write to one folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
from contextlib import suppress
from pathlib import Path

import psutil

STEM = 40  # characters of the target's name kept in the hidden one: a file system allows 255 bytes
OWNER = r"([0-9a-f]{8})-([0-9a-f]+)-([0-9a-f]+)-[0-9a-f]{8}"
SLACK = 3  # seconds by which the reported start of a process may differ after the clock was set


def hidden(target: Path, suffix: str = "") -> Path:
    """A new hidden name next to a target for a file written by this process."""
    pid = os.getpid()
    owner = f"{_host()}-{pid:x}-{int(psutil.Process(pid).create_time()):x}-{secrets.token_hex(4)}"
    return target.with_name(f".{_stem(target, suffix)}.{owner}{suffix}")


def abandoned(target: Path, suffix: str = "") -> list[Path]:
    """Hidden names next to a target whose process has ended, oldest first."""
    pattern = re.compile(rf"\.{re.escape(_stem(target, suffix))}\.{OWNER}{re.escape(suffix)}", re.DOTALL)
    found = []
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            match = pattern.fullmatch(entry.name)
            if match and match[1] == _host() and not _lives(int(match[2], 16), int(match[3], 16)):
                found.append((entry.stat(follow_symlinks=False).st_mtime, Path(entry.path)))
    return [path for _, path in sorted(found)]


def remove(path: Path) -> None:
    """Remove a leftover file or folder, as far as possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()


def _stem(target: Path, suffix: str) -> str:
    name = target.name
    return (name[: len(name) - len(suffix)] if name.lower().endswith(suffix.lower()) else name)[:STEM]


def _host() -> str:
    """This machine and, in a container, its process namespace."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def _lives(pid: int, start: int) -> bool:
    try:
        return abs(psutil.Process(pid).create_time() - start) <= SLACK
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, OSError, OverflowError, ValueError):
        return True  # unknown: keep it
