"""Writers of transforms for tools other than ITK and ANTs: which tool takes which files, and what they need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maxca.errors import MaxcaError
from maxca.geometry import Affine, BSpline, Chain, DenseField, Grid
from maxca.io.atomic import atomic_path, full_suffix
from maxca.io.transforms.afni import write_1d, write_qwarp
from maxca.io.transforms.elastix import write_elastix
from maxca.io.transforms.field import write_niftyreg, write_spm
from maxca.io.transforms.fsl import write_flirt, write_fnirt
from maxca.io.transforms.lta import write_lta
from maxca.io.transforms.parts import written_dimension
from maxca.io.transforms.x5 import write_x5
from maxca.options import TransformTool

NIFTI = (".nii", ".nii.gz")
# Suffixes that only one tool uses.
OWN: dict[str, TransformTool] = {".lta": "freesurfer", ".1d": "afni", ".x5": "x5"}


class Order(NamedTuple):
    """What is to be written.

    Args:
        chain: fixed world points → moving world points.
        path: the file.
        grid: of the nodes of a field, in fixed space; by default that of the first field, or of the fixed image.
        images: the grids of the fixed and the moving image, if known.
    """

    chain: Chain
    path: Path
    grid: Grid | None
    images: tuple[Grid, Grid] | None


def tool_of(path: Path, tool: TransformTool | None = None) -> TransformTool:
    """The tool that a file is written for: the one given, or the one that the suffix belongs to, or ITK."""
    return tool or OWN.get(full_suffix(path), "itk")


def suffixes_of(tool: TransformTool) -> tuple[str, ...]:
    """The suffixes of the files of a tool other than ITK and ANTs."""
    return tuple(WRITERS[tool])


def check_for(tool: TransformTool, chain: Chain, path: Path) -> None:
    """Check before a computation that a tool can read a chain, or its inverse, from a file of this suffix.

    Raises:
        MaxcaError: for a suffix that it does not use, or a field in a format for affines.
    """
    suffix = full_suffix(path)
    if suffix not in WRITERS[tool]:
        known = ", ".join(WRITERS[tool])
        raise MaxcaError(f"{path}: a transform of {tool} ends in one of {known}; use one of these suffixes")
    if WRITERS[tool][suffix] in AFFINES and not chain.is_affine:
        others = ", ".join(known for known, write in WRITERS[tool].items() if write not in AFFINES)
        advice = f"write the file as {others}" if others else "write it for another tool"
        raise MaxcaError(
            f"{path}: this format of {tool} stores an affine transform only; {advice} to keep the field too"
        )


def write_for(tool: TransformTool, order: Order) -> None:
    """Write a chain for a tool other than ITK and ANTs.

    Raises:
        MaxcaError: as ``check_for``, without the images or the grid that the format needs, or if it cannot be written.
    """
    check_for(tool, order.chain, order.path)
    WRITERS[tool][full_suffix(order.path)](order)


def _images(order: Order) -> tuple[Grid, Grid]:
    if order.images is None:
        raise MaxcaError(f"{order.path}: this format depends on both images; pass fixed=FILE and moving=FILE")
    return order.images


def _grid(order: Order) -> Grid:
    grids = [order.grid]
    grids += [step.grid for step in order.chain.steps if isinstance(step, DenseField)]
    grids += [step.domain for step in order.chain.steps if isinstance(step, BSpline)]
    grids += [order.images[0] if order.images else None]
    found = next((grid for grid in grids if grid is not None), None)
    if found is None:
        raise MaxcaError(f"{order.path}: an affine has no grid to sample a field on; pass reference=FILE")
    return found


def _affine(order: Order) -> Affine:
    return Chain((Affine.identity(), *order.chain.steps)).as_affine()


def _flirt(order: Order) -> None:
    images = _images(order)
    with atomic_path(order.path) as temporary:
        write_flirt(_affine(order), temporary, images)


def _lta(order: Order) -> None:
    images = _images(order)
    with atomic_path(order.path) as temporary:
        write_lta(_affine(order), temporary, images)


def _1d(order: Order) -> None:
    images = _images(order)
    with atomic_path(order.path) as temporary:
        write_1d(_affine(order), temporary, images)


def _elastix(order: Order) -> None:
    fixed = order.grid or _images(order)[0]
    with atomic_path(order.path) as temporary:
        write_elastix(_affine(order), temporary, fixed, written_dimension(order.chain))


def _matrix(order: Order) -> None:
    with atomic_path(order.path) as temporary:
        np.savetxt(temporary, _affine(order).matrix, fmt="%.12g")


def _x5(order: Order) -> None:
    with atomic_path(order.path) as temporary:
        write_x5(order.chain, temporary)


AFFINES = (_flirt, _lta, _1d, _elastix, _matrix)
WRITERS: dict[str, dict[str, Callable[[Order], None]]] = {
    "fsl": {
        ".mat": _flirt,
        ".txt": _flirt,
        **dict.fromkeys(NIFTI, lambda order: write_fnirt(order.chain, order.path, _grid(order), _images(order))),
    },
    "freesurfer": {".lta": _lta},
    "spm": dict.fromkeys(NIFTI, lambda order: write_spm(order.chain, order.path, _grid(order))),
    "niftyreg": {
        ".txt": _matrix,
        **dict.fromkeys(NIFTI, lambda order: write_niftyreg(order.chain, order.path, _grid(order))),
    },
    "afni": {
        ".1d": _1d,
        **dict.fromkeys(NIFTI, lambda order: write_qwarp(order.chain, order.path, _grid(order), _images(order))),
    },
    "elastix": {".txt": _elastix},
    "x5": {".x5": _x5, ".h5": _x5},
}
