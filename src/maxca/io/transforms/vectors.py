"""Displacement fields in MHA and NRRD as written by ITK, elastix and 3D Slicer: LPS, mm."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from maxca.errors import MaxcaError
from maxca.geometry import Chain
from maxca.io.containers import READERS, read_container
from maxca.io.transforms.parts import field_of_vectors

VECTOR_SUFFIXES = tuple(READERS)
LPS = ("left-posterior-superior", "lps")


def read_vectors(path: Path) -> Chain:
    """A displacement field from fixed to moving world points, of the dimension of its file.

    Raises:
        MaxcaError: for a file that is damaged, not a field of floating-point vectors, or not in LPS mm.
        ValueError: for an invalid grid or invalid vectors.
    """
    stored = read_container(path, vectors=True)
    if path.suffix.lower() in (".nrrd", ".nhdr"):
        _check_nrrd(path, stored.layout.fields)
    n, components, dtype = stored.dimension, stored.layout.components, stored.data.dtype
    if components != n or dtype.kind != "f":
        raise MaxcaError(
            f"{path}: {components} numbers of type {dtype} per voxel, but a displacement field in {n} "
            f"dimensions has {n} floating-point numbers; pass the file of the field"
        )
    with np.errstate(over="ignore"):
        field = field_of_vectors(stored.data.astype(np.float32), stored.grid)
    return Chain((field,), n)


def _check_nrrd(path: Path, said: dict[str, str]) -> None:
    """Reject a NRRD whose vectors may have another basis than its positions."""
    space, units, frame = said.get("space", LPS[0]), said.get("spaceunits", ""), said.get("measurementframe", "")
    if space.lower() not in LPS:
        raise MaxcaError(
            f"{path}: its space is {space[:40]!r}, and programs differ on the basis of its vectors; write both "
            "as left-posterior-superior"
        )
    if set(re.findall(r'"([^"]*)"', units)) - {"mm", ""}:
        raise MaxcaError(f"{path}: its space units are {units[:40]}; write the field in mm")
    if frame and not _is_identity(frame):
        raise MaxcaError(f"{path}: its measurement frame {frame[:60]} rotates its vectors; write the field without one")


def _is_identity(frame: str) -> bool:
    """Whether a matrix, written (1,0,0) (0,1,0) (0,0,1), is the identity."""
    numbers = [float(number) for number in re.findall(r"[-+.\deE]*\d[-+.\deE]*", frame)]
    size = round(len(numbers) ** 0.5)
    return size**2 == len(numbers) and bool(np.array_equal(np.reshape(numbers, (size, size)), np.eye(size)))
