"""JSON from and to types; errors name the file, the field and the problem."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from maxca.errors import MaxcaError, one_line
from maxca.io.regular import check_regular, read_bytes

T = TypeVar("T")
LARGEST = (
    64 << 20
)  # most bytes of a JSON file; the largest written by maxca, a manifest of 10 000 scans, has about 6 MB
REFUSALS = (msgspec.MsgspecError, RecursionError, OverflowError, ValueError)


def read_json(path: str | Path, kind: type[T], meant: str) -> T:
    """Read and validate a JSON file.

    Args:
        path: a regular file, UTF-8.
        kind: a dataclass, a ``TypedDict``, ``dict[str, float]``, …; unknown keys are ignored.
        meant: the expected content, and what to do otherwise: ``"the record of a run; start it again"``.

    Raises:
        MaxcaError: for a file that is missing, not regular, too large, not JSON, or does not fit ``kind``.
    """
    return decode(read_text(path), kind, path, meant)


def read_text(path: str | Path, largest: int = LARGEST) -> bytes:
    """The content of a text file.

    Raises:
        MaxcaError: for a file that is missing, not regular, or larger than ``largest`` bytes.
    """
    path = Path(path)
    if (size := check_regular(path)) > largest:
        raise MaxcaError(f"{path}: {size / 1e6:.0f} MB, more than expected of this kind of file; choose another file")
    return read_bytes(path)


def decode(text: bytes | str, kind: type[T], place: str | Path, meant: str) -> T:
    """Validate JSON text; ``place`` is its name in errors, the other arguments are those of ``read_json``."""
    text = text.removeprefix(b"\xef\xbb\xbf") if isinstance(text, bytes) else text
    try:
        # Not msgspec's parser: it rejects file names that are not UTF-8, which JSON can represent and maxca writes.
        return msgspec.convert(json.loads(text), type=kind)
    except REFUSALS as error:
        raise _refusal(error, place, meant) from error


def fitted(value: Any, kind: type[T], place: str | Path, meant: str) -> T:
    """Validate plain data (dicts, lists, numbers, strings) against a type; raises like ``decode``."""
    try:
        return msgspec.convert(value, type=kind)
    except REFUSALS as error:
        raise _refusal(error, place, meant) from error


def encode(value: Any) -> str:
    """A dataclass, or other data of numbers, texts and arrays, as JSON that ``decode`` reads.

    Fields of a dataclass that are None by default and None now are left out. NaN and infinity, which JSON does not
    know, become null.
    """
    return json.dumps(_plain(value), indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        each = {one.name: getattr(value, one.name) for one in fields(value)}
        missing = {one.name for one in fields(value) if one.default is None and each[one.name] is None}
        return {name: _plain(held) for name, held in each.items() if name not in missing}
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _refusal(error: Exception, place: str | Path, meant: str) -> MaxcaError:
    if isinstance(error, RecursionError):
        said = "nested too deeply"
    else:
        said = one_line(str(error), 240).replace(" - at `$", " at `")
        parsed = isinstance(error, msgspec.MsgspecError)  # otherwise parsing failed
        said = f"{said[:1].lower()}{said[1:]}" if parsed else f"not a JSON file: {said}"
    what, _, advice = meant.partition("; ")
    return MaxcaError(f"{place}: not {what}: {said.replace('`.', '`')}; {advice}")
