"""What a series has found so far, next to its output, so that the same command goes on after an interruption."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxca.errors import MaxcaError
from maxca.io.alone import alone_in
from maxca.io.atomic import atomic_path
from maxca.registration.record import Source
from maxca.version import installed_version

NAMED = 200  # most characters of the output's name in that of the folder: a file system allows 255 bytes
BELONGS = "series.txt"  # the fingerprint of the run


@dataclass(frozen=True)
class Checkpoint:
    """A folder of unfinished work.

    Args:
        folder: where parts are kept.
    """

    folder: Path

    def rows(self, name: str) -> list[list[Any]]:
        """The complete rows of a table, in order; numbers are exact."""
        path = self.folder / name
        if not path.is_file():
            return []
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # what follows the last line break is incomplete
        with path.open("w", encoding="utf-8") as stream:
            stream.writelines(f"{line}\n" for line in lines)
        return [json.loads(line) for line in lines]

    def add(self, name: str, row: list[Any]) -> None:
        """Add a row to a table."""
        with (self.folder / name).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")


def fingerprint(inputs: Mapping[str, Source], settings: Mapping[str, Any]) -> str:
    """The hash of what decides about a result: the contents of the inputs, the options and the version."""
    content = {role: source.sha256 for role, source in inputs.items()}
    given = {name: str(value) for name, value in settings.items()}
    text = json.dumps([installed_version(), content, given], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def checkpoint(target: str | Path, belongs: str) -> Iterator[Checkpoint]:
    """A folder next to an output, ``.NAME.unfinished``, which remains if the run is interrupted.

    Args:
        target: the output folder.
        belongs: see ``fingerprint``; what another run has left is removed.

    Yields:
        The folder, with what this run has found before.

    Raises:
        MaxcaError: if the same output is being computed by another process, or cannot be written.
    """
    path = Path(target).resolve()
    folder = path.with_name(f".{path.name[:NAMED]}.unfinished")
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder, "another maxca series"):
        mine = folder / BELONGS
        if not mine.is_file() or mine.read_text(encoding="utf-8") != belongs:
            _empty(folder)
            with atomic_path(mine) as unfinished:
                unfinished.write_text(belongs, encoding="utf-8")
        try:
            yield Checkpoint(folder)
        except MaxcaError as error:
            if not isinstance(error.__cause__, OSError):  # such as a full disc: the same command can go on
                shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            if folder.is_dir() and os.listdir(folder) == [BELONGS]:  # nothing was found yet
                shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def _empty(folder: Path) -> None:
    for each in folder.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
