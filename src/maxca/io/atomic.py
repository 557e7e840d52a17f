"""Writing files and folders beside their place and renaming them, so that a failed job leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from maxca.errors import MaxcaError
from maxca.io import leftovers

DOUBLE_SUFFIXES = (".nii.gz", ".mrk.json")
RESULT_FILE = "result.json"
OLD = ".old"  # an earlier output, while another takes its place


def full_suffix(path: Path) -> str:
    """The suffix of a path in lower case, ``.nii.gz`` and ``.mrk.json`` counted as one."""
    name = path.name.lower()
    return next((suffix for suffix in DOUBLE_SUFFIXES if name.endswith(suffix)), path.suffix.lower())


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Write a file under a hidden name beside its place; it is renamed at success, and removed at any failure.

    Args:
        target: where the file shall be; an earlier file there is replaced, missing folders are made.

    Yields:
        The path to write to: same folder, same suffix.

    Raises:
        MaxcaError: when the file cannot be written: no permission, disc full.
    """
    target = Path(target)
    suffix = full_suffix(target)
    for left in leftovers.abandoned(target, target.name[len(target.name) - len(suffix) :]):
        leftovers.remove(left)
    temporary = leftovers.hidden(target, target.name[len(target.name) - len(suffix) :])
    try:
        with folders_of(target):
            try:
                temporary.touch(exist_ok=False)
                yield temporary
                temporary.replace(target)
            finally:
                _unlink(temporary)
    except OSError as error:
        raise _cannot_write(target, error) from error


@contextmanager
def folders_of(target: Path) -> Iterator[None]:
    """Make the folders that are missing above a target; those that stay empty are removed in the end."""
    missing = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        _remove_empty(missing)


def check_new_file(path: str | Path, suffixes: Sequence[str], overwrite: bool) -> None:
    """Refuse a file that could not be written in the end, before the work.

    Args:
        path: where the file shall be.
        suffixes: the formats it may have.
        overwrite: whether a file that is there may be replaced.

    Raises:
        MaxcaError: for another suffix, a file that exists, or a folder that cannot be made or written to.
    """
    path = Path(path)
    if full_suffix(path) not in suffixes:
        raise MaxcaError(f"{path}: this output ends in one of {', '.join(suffixes)}; use one of these suffixes")
    try:
        if path.is_dir():
            raise MaxcaError(f"{path} is a folder; name a file for the output")
        if path.exists() and not overwrite:
            raise MaxcaError(f"{path} exists; pass --overwrite to replace it")
        with tempfile.TemporaryFile(dir=next(folder for folder in path.absolute().parents if folder.exists())):
            pass
    except OSError as error:
        raise _cannot_write(path, error) from error


@contextmanager
def output_folder(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Fill a hidden folder beside ``path``; it takes that place at success, and is removed at any failure.

    Everything that can refuse the place is checked on entry, before any computation.

    Args:
        path: the folder of the results; missing parents are created.
        overwrite: replace an earlier output, recognised by its ``result.json``.

    Yields:
        The folder to write into.

    Raises:
        MaxcaError: when ``path`` exists and may not be replaced, or cannot be written.
    """
    target = Path(path).resolve()
    _clear(target)
    _check_replaceable(target, path, overwrite)
    temporary = leftovers.hidden(target)
    missing = [parent for parent in target.parents if not parent.exists()]
    done = False
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _check_replaceable(target, path, overwrite)
        _swap(temporary, target)
        done = True
    except OSError as error:
        ours = (str(target), str(target.with_name(f".{target.name}.")), *map(str, missing))
        if error.filename and not str(error.filename).startswith(ours):
            raise  # about a file that was read while the folder was being filled
        raise _cannot_write(Path(path), error) from error
    except MaxcaError as error:  # about a file in the hidden folder, whose name would mean nothing to the reader
        raise MaxcaError(str(error).replace(str(temporary), str(path))) from error
    finally:
        if not done:
            shutil.rmtree(temporary, ignore_errors=True)
            _remove_empty(missing)


def _clear(target: Path) -> None:
    """Remove what killed runs left beside a target; one that was killed while it replaced an output left that there."""
    for left in reversed(leftovers.abandoned(target, OLD)):
        try:
            if not os.path.lexists(target):
                left.rename(target)
                continue
        except OSError:
            continue  # it may be all there is of the earlier output
        leftovers.remove(left)
    for left in leftovers.abandoned(target):
        leftovers.remove(left)


def _check_replaceable(target: Path, named: str | Path, overwrite: bool) -> None:
    """Refuse a target that holds anything but an earlier output that may be replaced."""
    try:
        if not target.exists():
            return
        if not target.is_dir():
            raise MaxcaError(f"{named} is a file; name a folder for the output")
        if target.is_mount():
            raise MaxcaError(f"{named} is a mount point and cannot be replaced; name a folder inside it")
        if not any(target.iterdir()):
            return
        is_output = (target / RESULT_FILE).exists()
    except OSError as error:
        raise _cannot_write(Path(named), error) from error
    if not overwrite:
        raise MaxcaError(f"{named} exists; pass --overwrite to replace it")
    if not is_output:
        raise MaxcaError(f"{named} exists and is not an earlier output (no {RESULT_FILE}); name another folder")


def _swap(new: Path, target: Path) -> None:
    """Put ``new`` in the place of ``target``; whatever interrupts it, one of the two is there and whole."""
    if not target.exists():
        new.rename(target)
        return
    old = leftovers.hidden(target, OLD)
    try:
        target.rename(old)
        new.rename(target)
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(old, ignore_errors=True)


def _remove_empty(folders: list[Path]) -> None:
    """Remove the parents that were made for the output, innermost first, as far as they are empty."""
    for folder in folders:
        if folder.is_dir():
            if any(folder.iterdir()):
                return
            folder.rmdir()


def _unlink(path: Path) -> None:
    """Remove a file if it is there, silently when its folder is not even a folder."""
    if os.path.lexists(path):
        path.unlink(missing_ok=True)


def _cannot_write(target: Path, error: OSError) -> MaxcaError:
    reason = error.strerror or str(error)
    return MaxcaError(f"cannot write {target}: {reason[:1].lower()}{reason[1:]}; free space or name another place")
