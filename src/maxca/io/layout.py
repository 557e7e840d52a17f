"""The content of a MetaImage or NRRD header: storage and geometry of the voxels."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from maxca.errors import MaxcaError
from maxca.io.regular import check_regular

LONGEST_HEADER = 1 << 20
LARGEST_SIZE = 10**9  # of an axis
MOST_AXES = 16
WHOLE = re.compile(r"[+-]?\d{1,18}")
REAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?")


@dataclass(frozen=True)
class Piece:
    """A file, or a part of one, that contains voxels.

    Args:
        path: the file.
        start: bytes before the voxels; −1 if the voxels are the last bytes of the file.
        lines: lines before the voxels, skipped first.
        inner: bytes to skip after decompression.
    """

    path: Path
    start: int = 0
    lines: int = 0
    inner: int = 0


@dataclass(frozen=True, eq=False)
class Layout:
    """Storage and geometry of voxels.

    Args:
        size: voxels per axis, in the order of the file, the first one fastest.
        dtype: of the numbers, with byte order.
        components: numbers per voxel, stored together.
        axes: (n, n) matrix whose columns are the steps between voxels along each axis, LPS mm.
        origin: (n,) position of the first voxel, LPS mm.
        pieces: the locations of the voxels, in order, with equal numbers of voxels.
        packing: ``"raw"``, or the compression, ``"zlib"`` or ``"gzip"``.
        warnings: assumptions, one line each.
        fields: of the header, by the names of the format.
    """

    size: tuple[int, ...]
    dtype: np.dtype
    components: int
    axes: np.ndarray
    origin: np.ndarray
    pieces: tuple[Piece, ...]
    packing: str = "raw"
    warnings: tuple[str, ...] = ()
    fields: dict[str, str] = field(default_factory=dict)


class Damaged(ValueError):
    """Raised for an invalid header, with a message to follow the name of its file."""


def read_header(path: Path, parse: Callable[[BinaryIO], Layout]) -> Layout:
    """The result of ``parse`` for the header of a regular file.

    Args:
        path: the file.
        parse: raises ``Damaged`` for an invalid header.

    Raises:
        MaxcaError: for a file that is missing, not regular or not readable; for a header that is damaged, has no
            position, or refers to files outside its folder.
    """
    check_regular(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise MaxcaError(f"{path}: cannot be read; check its permissions") from error
    with file:
        try:
            return parse(file)
        except Damaged as error:
            raise MaxcaError(f"{path}: {error}") from error


def header_line(file: BinaryIO) -> str | None:
    """The next line of a header without its end, None at the end of the file.

    Raises:
        Damaged: for a header of more than ``LONGEST_HEADER`` bytes.
    """
    line = file.readline(LONGEST_HEADER)
    if file.tell() >= LONGEST_HEADER:
        raise Damaged("its header has no end; copy or convert it again")
    return line.decode("latin-1").rstrip("\r\n") if line else None


def whole_numbers(text: str, name: str) -> list[int]:
    """The integers of a field, separated by spaces.

    Raises:
        Damaged: for anything else.
    """
    words = text.split()
    if not words or not all(WHOLE.fullmatch(word) for word in words):
        raise Damaged(f"damaged: its {name} is {text[:40]!r}, not integers; copy or convert it again")
    return [int(word) for word in words]


def real_numbers(text: str, name: str, count: int | None = None) -> list[float]:
    """The finite numbers of a field, separated by spaces.

    Raises:
        Damaged: for anything else, or a wrong number of values.
    """
    words = text.split()
    values = [float(word) for word in words if REAL.fullmatch(word)]
    if len(values) != len(words) or not np.isfinite(values).all() or len(values) != (count or len(values)):
        wanted = f"{count} numbers" if count else "numbers"
        raise Damaged(f"damaged: its {name} is {text[:60]!r}, not {wanted}; repair the header or convert it again")
    return values


def one_of(text: str, choices: Sequence[int], name: str) -> int:
    """A field with one integer out of several allowed ones.

    Raises:
        Damaged: for any other value.
    """
    (value, *more) = whole_numbers(text, name)
    if more or value not in choices:
        raise Damaged(f"damaged: its {name} is {text[:40]!r}; copy or convert it again")
    return value


def sizes(text: str, name: str, count: int) -> tuple[int, ...]:
    """The field with the number of voxels per axis.

    Raises:
        Damaged: for a wrong number of axes, or an axis without voxels.
    """
    values = whole_numbers(text, name)
    if len(values) != count or not all(1 <= value <= LARGEST_SIZE for value in values):
        raise Damaged(f"damaged: its {name} is {text[:60]!r} in {count} dimensions; copy or convert it again")
    return tuple(values)


class Fields(dict[str, str]):
    """The fields of a header, each of which may occur once."""

    def say(self, name: str, value: str) -> None:
        """Add a field.

        Raises:
            Damaged: for a duplicate field.
        """
        if name in self:
            raise Damaged(f"damaged: its {name} occurs twice; repair the header or convert it again")
        self[name] = value

    def first(self, *names: str) -> str | None:
        """The value of a field with several names, None if it is missing.

        Raises:
            Damaged: for values that differ.
        """
        found = {self[name] for name in names if self.get(name)}
        if len(found) > 1:
            raise Damaged(f"damaged: its {' and '.join(names)} differ; repair the header or convert it again")
        return next(iter(found), None)

    def need(self, name: str) -> str:
        """The value of a field.

        Raises:
            Damaged: where there is none.
        """
        if not self.get(name):
            raise Damaged(f"truncated or damaged: its header has no {name}; copy or convert it again")
        return self[name]
