"""ITK's and ANTs' ``.mat``: a transform as named columns of numbers in MATLAB's level-4 format."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.io import savemat

from maxca.geometry import Affine
from maxca.io.transforms.parts import Part, itk_part

LONGEST_NAME = 256
# First number of a header: 1000 for the other byte order, 100 for row-major (equal here), 10 for float32.
LITTLE, BIG = (0, 10, 100, 110), (1000, 1010, 1100, 1110)


def parse_matlab(content: bytes) -> list[Part]:
    """The parts of a ``.mat``: pairs of columns, the parameters under the name of their kind, and ``fixed``.

    Raises:
        ValueError: for anything else.
    """
    if content.startswith(b"MATLAB"):
        raise ValueError("a MATLAB file of level 5 or 7.3, but transforms of ITK and ANTs are of level 4")
    columns = list(_columns(content))
    kinds, fixed = columns[::2], columns[1::2]
    if len(kinds) != len(fixed) or any(name != "fixed" for name, _ in fixed):
        raise ValueError("truncated or damaged: not pairs of parameters and fixed parameters, as ITK writes")
    return [Part(kind, held, numbers) for (kind, numbers), (_, held) in zip(kinds, fixed, strict=True)]


def write_matlab(affine: Affine, path: Path, dimension: int = 3) -> None:
    """Write an affine in the format of ANTs."""
    kind, fixed, parameters = itk_part(affine, dimension)
    savemat(path, {kind: parameters[:, None], "fixed": fixed[:, None]}, format="4")


def _columns(content: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """Names and numbers of the whole file. A strict reader, because ITK's trusts every size in the file."""
    at = 0
    while at < len(content):
        if len(content) < at + 20:
            raise ValueError("truncated: it ends within a header")
        order = "<" if struct.unpack_from("<i", content, at)[0] in LITTLE else ">"
        code, rows, columns, imaginary, length = struct.unpack_from(f"{order}5i", content, at)
        known = code in (LITTLE if order == "<" else BIG)
        if not known or imaginary or columns != 1 or rows < 0 or not 1 < length <= LONGEST_NAME:
            raise ValueError("not a transform of ITK or ANTs in MATLAB's level-4 format, or damaged")
        at += 20
        number = np.dtype(f"{order}f{4 if code // 10 % 10 else 8}")
        end = at + length + rows * number.itemsize
        if end > len(content):
            raise ValueError(f"truncated: it claims {end} bytes and has {len(content)}")
        name, zero, rest_of_name = content[at : at + length].partition(b"\0")
        if not zero or rest_of_name:
            raise ValueError("damaged: the name of a column is not terminated")
        yield name.decode("ascii", errors="replace"), np.frombuffer(content, number, rows, at + length).astype(float)
        at = end
