"""The voxel files named by a header, restricted to its folder."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from maxca.io.layout import Damaged, one_of
from maxca.io.regular import check_regular

MOST_FILES = 100_000
LONGEST_NAME = 4096
NUMBER = re.compile(r"-?\d{1,9}")
NUMBERED = re.compile(r"([^%]*)%(0?)(\d{0,3})[dui]([^%]*)")


def file_names(value: str, lines: Iterable[str]) -> list[str]:
    """The names of the files of an image.

    Args:
        value: the entry of the header: a file, a pattern with the first and last number and the step, or ``LIST``.
        lines: the lines after the header, one name each for a list.

    Raises:
        Damaged: for an invalid pattern, or for too many files.
    """
    word, *numbers = value.split() or [""]
    if word.upper() == "LIST":
        names = [line.strip() for line in islice(lines, MOST_FILES) if line.strip()]
    elif "%" in word and len(numbers) in (3, 4) and all(NUMBER.fullmatch(number) for number in numbers):
        names = _numbered(word, *map(int, numbers[:3]))
    else:
        names = [value]
    if not names or not all(0 < len(name) <= LONGEST_NAME and "\0" not in name for name in names):
        raise Damaged("damaged: the name of its file of voxels is empty or endless; convert it again")
    return names


def named_files(value: str, lines: Iterable[str], size: Sequence[int]) -> list[str]:
    """``file_names``, checked against the size of the image, its fastest axis first.

    Raises:
        Damaged: as there, and for a number of files that does not match the size.
    """
    names = file_names(value, lines)
    words = value.split()
    axes = " ".join(words[1:] if words[0].upper() == "LIST" else words[4:]).upper().removesuffix("D")
    several = len(names) > 1 or words[0].upper() == "LIST"
    # Number of axes per file, as 2 or 2D.
    stored = one_of(axes, range(1, len(size) + 1), "number of axes in a file") if several and axes else None
    total = math.prod(size)
    if total % len(names) or (stored is not None and len(names) != math.prod(size[stored:])):
        raise Damaged(f"damaged: it names {len(names)} files of voxels for a size of {tuple(size)}; convert it again")
    return names


def sibling(header: Path, name: str) -> Path:
    """The file of a name in a header.

    Args:
        header: the file that names it.
        name: as decoded from Latin-1.

    Raises:
        Damaged: for an invalid name, or a path outside the folder of the header, through ``..``,
            an absolute path or a symbolic link.
        MaxcaError: for a file that is missing or not a regular one.
    """
    path = header.parent / os.fsdecode(name.encode("latin-1"))
    try:
        inside = path.resolve().is_relative_to(header.parent.resolve())
    except (OSError, RuntimeError) as error:
        raise Damaged(f"the file of its voxels, {name[:80]!r}, cannot be found; copy it next to the header") from error
    if not inside:
        raise Damaged(
            f"refers to voxels outside its folder ({name[:80]!r}), which is not allowed; copy them there and correct "
            "the name in the header"
        )
    if not os.path.lexists(path):
        raise Damaged(f"its voxel file {name[:80]!r} is missing in its folder; copy it there")
    check_regular(path)
    return path


def _numbered(pattern: str, first: int, last: int, step: int) -> list[str]:
    """Numbered file names from a pattern in the syntax of C's printf, without printf."""
    found = NUMBERED.fullmatch(pattern)
    if found is None or step == 0 or not 0 <= (last - first) // step < MOST_FILES:
        raise Damaged(
            f"damaged: {pattern[:60]!r} {first} {last} {step} is no pattern of numbered files; convert it again"
        )
    before, zero, width, after = found.groups()
    style = f"{zero}{width or 1}d"
    return [f"{before}{number:{style}}{after}" for number in range(first, last + (1 if step > 0 else -1), step)]
