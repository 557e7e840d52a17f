"""ITK's transforms in text files: ``.tfm``, ``.txt``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maxca.geometry import Affine
from maxca.io.transforms.parts import COMPOSITE, Part, itk_part

FIRST_LINE = "#Insight Transform File V1.0"


def parse_text(content: bytes) -> list[Part]:
    """The parts of a text file, in its order.

    Raises:
        ValueError: for text not written by ITK, or truncated text.
    """
    text = content.decode("latin-1")
    lines = [line.strip() for line in text.splitlines()]
    if not lines or lines[0] != FIRST_LINE:
        raise ValueError(f"not a transform of ITK (its first line would be {FIRST_LINE!r}) or a 4x4 matrix")
    require_last_line(text)
    fields = [_field(line) for line in lines if line and not line.startswith("#")]
    parts: list[Part] = []
    while fields:
        kind = _take(fields, "Transform")
        if kind.startswith(COMPOSITE):
            parts.append(Part(kind, np.zeros(0), np.zeros(0)))
        else:
            parameters = _numbers(_take(fields, "Parameters"))
            parts.append(Part(kind, _numbers(_take(fields, "FixedParameters")), parameters))
    return parts


def write_text(affine: Affine, path: Path, dimension: int = 3) -> None:
    """Write an affine as ITK's text."""
    kind, fixed, parameters = itk_part(affine, dimension)
    lines = [FIRST_LINE, "#Transform 0", f"Transform: {kind}"]
    lines += [f"Parameters: {_spaced(parameters)}", f"FixedParameters: {_spaced(fixed)}", ""]
    path.write_text("\n".join(lines), encoding="ascii")


def require_last_line(text: str) -> None:
    """Refuse text that may be cut within the last number of a file.

    Raises:
        ValueError: for text whose last line is not terminated.
    """
    if not text.endswith(("\n", "\r")):
        raise ValueError("truncated within its last line; copy it again, or terminate the line if it is complete")


def _field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise ValueError(f"damaged: the line {line[:60]!r} has no colon")
    return name.strip(), value.strip()


def _take(fields: list[tuple[str, str]], wanted: str) -> str:
    """The value of the next line, which must have this name."""
    if not fields:
        raise ValueError(f"truncated: its line {wanted}: is missing")
    name, value = fields.pop(0)
    if name != wanted:
        raise ValueError(f"damaged: a line {name[:40]!r} instead of {wanted!r}")
    return value


def _numbers(value: str) -> np.ndarray:
    try:
        return np.array(value.split(), dtype=np.float64)
    except ValueError as error:
        raise ValueError("damaged: one of its parameters is not a number") from error


def _spaced(numbers: np.ndarray) -> str:
    return " ".join(map(repr, numbers.tolist()))
