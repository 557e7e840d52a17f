"""What a series has found so far, next to its output, so that the same command goes on after an interruption."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxca.io.alone import alone_in
from maxca.io.atomic import atomic_path, output_folder
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
def resumable(target: str | Path, overwrite: bool, belongs: str) -> Iterator[tuple[Path, Checkpoint]]:
    """An output folder, see ``io.atomic.output_folder``, and a folder of unfinished work next to it.

    The unfinished work, ``.NAME.unfinished``, is removed when the output has its name. After an interruption or an
    error it remains if a part was stored, and the same run goes on with it.

    Args:
        target: the output folder.
        overwrite: replace an earlier output.
        belongs: see ``fingerprint``; what another run has left is removed.

    Yields:
        The folder to write into, and what this run has found before.

    Raises:
        MaxcaError: if the same output is being computed by another process, exists, or cannot be written.
    """
    path = Path(target).resolve()
    folder = path.with_name(f".{path.name[:NAMED]}.unfinished")
    with ExitStack() as lock:  # held until the unfinished work is removed
        with output_folder(target, overwrite) as place:
            folder.mkdir(parents=True, exist_ok=True)
            lock.enter_context(alone_in(folder, "another maxca series"))
            mine = folder / BELONGS
            if not mine.is_file() or mine.read_text(encoding="utf-8") != belongs:
                _empty(folder)
                with atomic_path(mine) as unfinished:
                    unfinished.write_text(belongs, encoding="utf-8")
            try:
                yield place, Checkpoint(folder)
            finally:
                if folder.is_dir() and os.listdir(folder) == [BELONGS]:  # no part was stored
                    shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def _empty(folder: Path) -> None:
    for each in folder.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
