"""FreeSurfer's linear transforms, ``.lta``: text with a matrix and the geometry of the source and destination volumes.

The source is the moving and the destination the fixed image, and the matrix maps points from the source to the
destination: the inverse of what resampling needs. Type 14, tkregister's, is the exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from maxca.geometry import Affine, Grid
from maxca.geometry.grid import triple
from maxca.io.transforms.fsl import scaled_voxels
from maxca.io.transforms.text import require_last_line

LARGEST = 1_000_000  # bytes
VOXELS, RAS, SCALED, TKREGISTER, FSL = 0, 1, 2, 14, 15
GEOMETRY = {"volume": 3, "voxelsize": 3, "xras": 3, "yras": 3, "zras": 3, "cras": 3}
HEAD = "# transform file\n# created by maxca\n\ntype      = 1 # LINEAR_RAS_TO_RAS\nnxforms   = 1\n"


def parse_lta(content: bytes) -> Affine:
    """The affine, fixed (destination) → moving (source) world points, of one transform of any type.

    Raises:
        ValueError: for damaged content, several transforms, an unknown type, or a missing geometry.
    """
    if len(content) > LARGEST or b"\0" in content:
        raise ValueError("not a linear transform of FreeSurfer")
    text = content.decode("latin-1")
    require_last_line(text)
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    rest = iter([line for line in lines if line])
    kind, count = int(_values(rest, "type", 1)[0]), int(_values(rest, "nxforms", 1)[0])
    if count != 1:
        raise ValueError(f"{count} transforms in one file; write the one to be used into its own")
    _values(rest, "mean", 3), _values(rest, "sigma", 1)
    if next(rest, "").split() != ["1", "4", "4"]:
        raise ValueError("truncated or damaged: the size of its matrix, 1 4 4, is missing")
    matrix = np.array([_numbers(next(rest, ""), 4, "matrix") for _ in range(4)])
    source, destination = (_geometry(rest, name) for name in ("src", "dst"))
    if kind == RAS:
        return Affine(np.linalg.inv(Affine(matrix).matrix))
    if kind not in FRAMES:
        raise ValueError(f"a matrix of type {kind}, which is not supported; convert it: lta_convert --ltatype 1")
    if source is None or destination is None:
        raise ValueError(
            "its matrix needs the geometry of both volumes, which is marked as invalid; write it as RAS to RAS: "
            "lta_convert --src MOVING --trg FIXED --ltatype 1"
        )
    frame = FRAMES[kind]
    given = Affine(matrix).matrix
    back = given if kind == TKREGISTER else np.linalg.inv(given)
    from_source = source.affine @ np.linalg.inv(frame(source))
    return Affine(from_source @ back @ frame(destination) @ destination.world_to_voxel)


def write_lta(affine: Affine, path: Path, images: tuple[Grid, Grid]) -> None:
    """Write an affine as RAS to RAS, from the moving to the fixed image, with the geometry of both."""
    fixed, moving = images
    lines = ["mean      = 0.0000 0.0000 0.0000", "sigma     = 1.0000", "1 4 4"]
    lines += [_spaced(row) for row in np.linalg.inv(affine.matrix)]
    for name, grid in (("src", moving), ("dst", fixed)):
        lines += [f"{name} volume info", *_described(grid)]
    path.write_text(HEAD + "\n".join(lines) + "\n", encoding="ascii")


def grid_of(shape: np.ndarray, spacing: np.ndarray, axes: np.ndarray, center: np.ndarray) -> Grid:
    """The grid of FreeSurfer's description of a volume, whose centre is at half of its size.

    Args:
        shape: (3,) voxels.
        spacing: (3,) mm.
        axes: (3, 3), one direction a row.
        center: (3,) RAS mm.

    Raises:
        ValueError: for a shape or directions that are not valid.
    """
    affine = np.eye(4)
    affine[:3, :3] = axes.T * spacing
    affine[:3, 3] = center - affine[:3, :3] @ (shape / 2)
    return Grid(triple(int(n) for n in shape), affine)


def _tkregister(grid: Grid) -> np.ndarray:
    """(4, 4): voxel indices to the coordinates of tkregister, coronal axes from the centre of the volume."""
    x, y, z = grid.spacing
    matrix = np.array([[-x, 0, 0, 0], [0, 0, z, 0], [0, -y, 0, 0], [0, 0, 0, 1.0]])
    matrix[:3, 3] = -matrix[:3, :3] @ (np.array(grid.shape) / 2)
    return matrix


# By type: from voxel indices to the coordinates of the matrix.
FRAMES: dict[int, Callable[[Grid], np.ndarray]] = {
    VOXELS: lambda grid: np.eye(4),
    SCALED: lambda grid: np.diag([*grid.spacing, 1.0]),
    TKREGISTER: _tkregister,
    FSL: scaled_voxels,
}


def _geometry(rest: Iterator[str], name: str) -> Grid | None:
    """The grid of a volume; None where it is marked as invalid."""
    if next(rest, "").split() != [name, "volume", "info"]:
        raise ValueError(f"truncated or damaged: {name} volume info is missing")
    valid = int(_values(rest, "valid", 1)[0])
    if not next(rest, "").startswith("filename"):
        raise ValueError(f"truncated or damaged: the file name of {name} is missing")
    held = {key: np.array(_values(rest, key, count)) for key, count in GEOMETRY.items()}
    axes = np.stack([held["xras"], held["yras"], held["zras"]])
    return grid_of(held["volume"], held["voxelsize"], axes, held["cras"]) if valid == 1 else None


def _values(rest: Iterator[str], key: str, count: int) -> list[float]:
    name, equals, value = next(rest, "").partition("=")
    if not equals or name.strip() != key:
        raise ValueError(f"truncated or damaged: {key} is missing")
    return _numbers(value, count, key)


def _numbers(text: str, count: int, what: str) -> list[float]:
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError as error:
        raise ValueError(f"damaged: its {what} is not made of numbers") from error
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(f"truncated or damaged: its {what} has {len(numbers)} numbers, or not all are finite")
    return numbers


def _described(grid: Grid) -> list[str]:
    center = grid.to_world(np.array(grid.shape) / 2)
    axes = zip(("xras", "yras", "zras"), grid.direction.T, strict=True)
    return [
        "valid = 1  # volume info valid",
        "filename = unknown",
        f"volume = {' '.join(map(str, grid.shape))}",
        f"voxelsize = {_spaced(grid.spacing)}",
        *(f"{name}   = {_spaced(axis)}" for name, axis in axes),
        f"cras   = {_spaced(center)}",
    ]


def _spaced(numbers: np.ndarray) -> str:
    return " ".join(f"{number:.15e}" for number in numbers)
