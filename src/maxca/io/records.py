"""JSON and other plain data read against a type, so that an error names the file, the field and what is wrong there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from maxca.errors import MaxcaError, one_line
from maxca.io.regular import check_regular, read_bytes

T = TypeVar("T")
LARGEST = 64 << 20  # bytes of a JSON file; the largest that maxca writes, a manifest of 10 000 scans, has about 6 MB
REFUSALS = (msgspec.MsgspecError, RecursionError, OverflowError, ValueError)


def read_json(path: str | Path, kind: type[T], meant: str) -> T:
    """Read a JSON file against a type.

    Args:
        path: a regular file, UTF-8.
        kind: a dataclass, a ``TypedDict``, ``dict[str, float]``, …; keys that it does not name are passed over.
        meant: what the file should be, and what to do if it is not: ``"the record of a run; start it again"``.

    Raises:
        MaxcaError: for a file that is missing, no regular file, too large, no JSON, or does not fit ``kind``.
    """
    return decode(read_text(path), kind, path, meant)


def read_text(path: str | Path, largest: int = LARGEST) -> bytes:
    """The content of a file of text.

    Raises:
        MaxcaError: for a file that is missing, no regular file, or larger than ``largest`` bytes.
    """
    path = Path(path)
    if (size := check_regular(path)) > largest:
        raise MaxcaError(f"{path}: {size / 1e6:.0f} MB, more than a file of this kind can have; name another file")
    return read_bytes(path)


def decode(text: bytes | str, kind: type[T], place: str | Path, meant: str) -> T:
    """JSON against a type; ``place`` is what an error calls it, the rest is as in ``read_json``."""
    text = text.removeprefix(b"\xef\xbb\xbf") if isinstance(text, bytes) else text
    try:
        # Not msgspec's own parser: it refuses the names of files that are no UTF-8, as JSON can hold and maxca writes.
        return msgspec.convert(json.loads(text), type=kind)
    except REFUSALS as error:
        raise _refusal(error, place, meant) from error


def fitted(value: Any, kind: type[T], place: str | Path, meant: str) -> T:
    """Plain data (dicts, lists, numbers, texts) against a type; raises as ``decode`` does."""
    try:
        return msgspec.convert(value, type=kind)
    except REFUSALS as error:
        raise _refusal(error, place, meant) from error


def _refusal(error: Exception, place: str | Path, meant: str) -> MaxcaError:
    if isinstance(error, RecursionError):
        said = "nested too deeply"
    else:
        said = one_line(str(error), 240).replace(" - at `$", " at `")
        parsed = isinstance(error, msgspec.MsgspecError)  # else it could not even be parsed
        said = f"{said[:1].lower()}{said[1:]}" if parsed else f"not a JSON file: {said}"
    what, _, cure = meant.partition("; ")
    return MaxcaError(f"{place}: not {what}: {said.replace('`.', '`')}; {cure}")
