"""All files of an image: a header may keep its voxels in others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from maxca.errors import MaxcaError
from maxca.io.regular import check_regular

LONGEST_HEADER = 1 << 20
MOST_FILES = 100_000
NAMED = {
    ".mhd": re.compile(r"^\s*ElementDataFile\s*=\s*(.*?)\s*$", re.IGNORECASE | re.MULTILINE),
    ".nhdr": re.compile(r"^data ?file:\s*(.*?)\s*$", re.IGNORECASE | re.MULTILINE),
}
NUMBERED = re.compile(r"%(0?)(\d{0,3})[dui]")


def files_of(path: Path) -> tuple[Path, ...]:
    """The regular files that an image consists of, its header first.

    Args:
        path: either file of a ``.hdr``/``.img`` pair, a ``.mhd`` or ``.nhdr`` header, or a file that holds everything.

    Raises:
        MaxcaError: for a file that is missing, not regular, or outside the folder of its header.
    """
    suffix = path.suffix.lower()
    check_regular(path)
    if suffix in (".hdr", ".img"):
        upper = path.suffix.isupper()
        pair = [path.with_suffix(other.upper() if upper else other) for other in (".hdr", ".img")]
        files = tuple(each for each in pair if each == path or each.exists())
    elif suffix in NAMED:
        files = (path, *_data_files(path))
    else:
        return (path,)
    folder = path.parent.resolve()
    for file in files:
        if folder not in file.resolve().parents and file.parent != path.parent:
            raise MaxcaError(f"{path}: names voxels outside its own folder ({str(file)[:100]}), which are not read")
        check_regular(file)
    return files


def _data_files(path: Path) -> Iterator[Path]:
    try:
        with path.open("rb") as file:
            header = file.read(LONGEST_HEADER).decode("latin-1")
    except OSError as error:
        raise MaxcaError(f"{path}: cannot be read; check its permissions") from error
    found = NAMED[path.suffix.lower()].search(header)
    if found is None or found[1].upper() == "LOCAL":
        return
    for name in _names(found[1], header[found.end() :]):
        yield path.parent / name.encode("latin-1").decode("utf-8", errors="surrogateescape")


def _names(value: str, rest: str) -> list[str]:
    """The names of data files: one, those on the lines that follow, or a pattern with first, last and step."""
    words = value.split()
    if words and words[0].upper() == "LIST":
        return [line.strip() for line in rest.splitlines() if line.strip()][:MOST_FILES]
    if len(words) >= 4 and NUMBERED.search(words[0]) and all(re.fullmatch(r"-?\d{1,9}", word) for word in words[1:4]):
        first, last, step = map(int, words[1:4])
        numbers = range(first, last + (1 if step > 0 else -1), step) if step else range(first, first + 1)
        return [NUMBERED.sub(partial(_digits, number), words[0]) for number in numbers[:MOST_FILES]]
    return [value]


def _digits(number: int, found: re.Match[str]) -> str:
    """A number as C's printf writes it."""
    width = int(found[2] or 0)
    return f"{number:0{width}d}" if found[1] else f"{number:{width or 1}d}"
