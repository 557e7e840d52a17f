"""Atomic writing of files and folders by renaming, so that a failed job leaves no partial output."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from maxca.errors import MaxcaError
from maxca.io import leftovers

DOUBLE_SUFFIXES = (".nii.gz", ".mrk.json", ".gii.gz")
RESULT_FILE = "result.json"
OLD = ".old"  # an earlier output while it is being replaced


def full_suffix(path: Path) -> str:
    """The suffix of a path in lower case, with ``.nii.gz``, ``.mrk.json`` and ``.gii.gz`` as one suffix."""
    name = path.name.lower()
    return next((suffix for suffix in DOUBLE_SUFFIXES if name.endswith(suffix)), path.suffix.lower())


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Write a file under a hidden name in the same folder; it is renamed on success and removed on failure.

    Args:
        target: the path of the file; an existing file is replaced, missing folders are created.

    Yields:
        The path to write to: same folder, same suffix.

    Raises:
        MaxcaError: when the file cannot be written: no permission, disk full.
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
    """Create the missing parent folders of a target; those that remain empty are removed at the end."""
    missing = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        _remove_empty(missing)


def check_new_file(path: str | Path, suffixes: Sequence[str], overwrite: bool) -> None:
    """Check before a computation that its output file can be written.

    Args:
        path: the output file.
        suffixes: the allowed formats.
        overwrite: whether an existing file may be replaced.

    Raises:
        MaxcaError: for another suffix, an existing file, or a folder that cannot be created or written.
    """
    path = Path(path)
    if full_suffix(path) not in suffixes:
        raise MaxcaError(f"{path}: this output ends in one of {', '.join(suffixes)}; use one of these suffixes")
    try:
        if path.is_dir():
            raise MaxcaError(f"{path} is a folder; choose a file for the output")
        if path.exists() and not overwrite:
            raise MaxcaError(f"{path} exists; pass overwrite=True to replace it")
        with tempfile.TemporaryFile(dir=next(folder for folder in path.absolute().parents if folder.exists())):
            pass
    except OSError as error:
        raise _cannot_write(path, error) from error


@contextmanager
def output_folder(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Fill a hidden folder next to ``path``; it is renamed to ``path`` on success and removed on failure.

    The target is checked on entry, before any computation.

    Args:
        path: the output folder; missing parents are created.
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
            raise  # an error about a file that was read while the folder was being filled
        raise _cannot_write(Path(path), error) from error
    except MaxcaError as error:  # an error about a file in the hidden folder, whose name would mean nothing to the user
        raise MaxcaError(str(error).replace(str(temporary), str(path))) from error
    finally:
        if not done:
            shutil.rmtree(temporary, ignore_errors=True)
            _remove_empty(missing)


def _clear(target: Path) -> None:
    """Remove leftovers of killed runs next to a target, and restore an output whose replacement was interrupted."""
    for left in reversed(leftovers.abandoned(target, OLD)):
        try:
            if not os.path.lexists(target):
                left.rename(target)
                continue
        except OSError:
            continue  # it may be the only copy of the earlier output
        leftovers.remove(left)
    for left in leftovers.abandoned(target):
        leftovers.remove(left)


def _check_replaceable(target: Path, named: str | Path, overwrite: bool) -> None:
    """Raise an error unless a target is free or an earlier output that may be replaced."""
    try:
        if not target.exists():
            return
        if not target.is_dir():
            raise MaxcaError(f"{named} is a file; choose a folder for the output")
        if target.is_mount():
            raise MaxcaError(f"{named} is a mount point and cannot be replaced; choose a folder inside it")
        if not any(target.iterdir()):
            return
        is_output = (target / RESULT_FILE).exists()
    except OSError as error:
        raise _cannot_write(Path(named), error) from error
    if not overwrite:
        raise MaxcaError(f"{named} exists; pass overwrite=True to replace it")
    if not is_output:
        raise MaxcaError(f"{named} exists and is not an earlier output (no {RESULT_FILE}); choose another folder")


def _swap(new: Path, target: Path) -> None:
    """Replace ``target`` by ``new``; if interrupted, one of the two is complete."""
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
    """Remove the parents created for the output, innermost first, if they are empty."""
    for folder in folders:
        if folder.is_dir():
            if any(folder.iterdir()):
                return
            folder.rmdir()


def _unlink(path: Path) -> None:
    """Remove a file if it exists, silently if its folder is not a folder."""
    if os.path.lexists(path):
        path.unlink(missing_ok=True)


def _cannot_write(target: Path, error: OSError) -> MaxcaError:
    reason = error.strerror or str(error)
    return MaxcaError(f"cannot write {target}: {reason[:1].lower()}{reason[1:]}; free space or choose another path")
