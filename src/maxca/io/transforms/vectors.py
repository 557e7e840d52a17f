"""Displacement fields in MHA and NRRD, as ITK, elastix and 3D Slicer write them: LPS, mm."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from maxca.errors import MaxcaError
from maxca.geometry import Chain
from maxca.io.images import ITK_SUFFIXES, read_itk
from maxca.io.itk import grid_from_sitk
from maxca.io.transforms.parts import field_of_vectors

VECTOR_SUFFIXES = ITK_SUFFIXES
LPS = ("left-posterior-superior", "lps")
LONGEST_HEADER = 1 << 16
NRRD_LINE = re.compile(rb"^(space|space units|measurement frame): *(.*?)\r?$", re.MULTILINE)


def read_vectors(path: Path) -> Chain:
    """A displacement field from fixed to moving world points, of the dimension of its file.

    Raises:
        MaxcaError: for a file that is damaged, not a field of floating-point vectors, or not in LPS mm.
        ValueError: for a grid or vectors that make no field.
    """
    if path.suffix.lower() in (".nrrd", ".nhdr"):
        _check_nrrd(path)
    image = read_itk(path, vectors=True)
    n, components = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
    vectors = sitk.GetArrayViewFromImage(image)
    if components != n or vectors.dtype.kind != "f":
        raise MaxcaError(
            f"{path}: {components} numbers of type {vectors.dtype} a voxel, where a displacement field in {n} "
            f"dimensions has {n} of floating point; name the file of the field"
        )
    with np.errstate(over="ignore"):
        field = field_of_vectors(vectors.T.astype(np.float32, copy=False), grid_from_sitk(image))
    return Chain((field,), n)


def _check_nrrd(path: Path) -> None:
    """Refuse a NRRD whose vectors have another basis than its positions: ITK turns the latter alone."""
    with path.open("rb") as file:
        header = file.read(LONGEST_HEADER).split(b"\n\n")[0].split(b"\r\n\r\n")[0]
    said = {name.decode(): value.decode("latin-1").strip() for name, value in NRRD_LINE.findall(header)}
    space, units, frame = said.get("space", LPS[0]), said.get("space units", ""), said.get("measurement frame", "")
    if space.lower() not in LPS:
        raise MaxcaError(
            f"{path}: its space is {space[:40]!r}, and programs differ on whether its vectors are too; write both "
            "as left-posterior-superior"
        )
    if set(re.findall(r'"([^"]*)"', units)) - {"mm", ""}:
        raise MaxcaError(f"{path}: its space units are {units[:40]}; write the field in mm")
    if frame and not _is_identity(frame):
        raise MaxcaError(f"{path}: its measurement frame {frame[:60]} turns its vectors; write the field without one")


def _is_identity(frame: str) -> bool:
    """Whether a matrix, written (1,0,0) (0,1,0) (0,0,1), is the identity."""
    numbers = [float(number) for number in re.findall(r"[-+.\deE]*\d[-+.\deE]*", frame)]
    size = round(len(numbers) ** 0.5)
    return size**2 == len(numbers) and bool(np.array_equal(np.reshape(numbers, (size, size)), np.eye(size)))
