"""Transform files of ITK, ANTs, FSL, FreeSurfer, SPM, NiftyReg, AFNI, elastix and others, one format per module."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io.atomic import atomic_path, full_suffix
from maxca.io.itk import refuse_shear
from maxca.io.regular import check_regular, read_bytes
from maxca.io.transforms.afni import parse_1d
from maxca.io.transforms.composite import parse_composite, write_composite
from maxca.io.transforms.elastix import is_elastix, read_elastix
from maxca.io.transforms.field import read_field, write_field
from maxca.io.transforms.lta import parse_lta
from maxca.io.transforms.m3z import parse_m3z
from maxca.io.transforms.matlab import parse_matlab, write_matlab
from maxca.io.transforms.matrix import affine_of, parse_matrix
from maxca.io.transforms.parts import Part, read_dimension, steps_of, written_dimension
from maxca.io.transforms.text import parse_text, write_text
from maxca.io.transforms.tools import NIFTI, Order, check_for, suffixes_of, tool_of, write_for
from maxca.io.transforms.vectors import VECTOR_SUFFIXES, read_vectors
from maxca.io.transforms.x5 import chain_of, is_x5
from maxca.options import MatrixConvention, TransformTool

TEXT_SUFFIXES = (".tfm", ".txt")
AFFINE_SUFFIXES = (*TEXT_SUFFIXES, ".mat")
COMPOSITE_SUFFIXES = (".h5", ".hdf5")
FIELD_SUFFIXES = NIFTI
ITK_SUFFIXES = COMPOSITE_SUFFIXES + AFFINE_SUFFIXES + FIELD_SUFFIXES
TRANSFORM_SUFFIXES = (*ITK_SUFFIXES, ".lta", ".1d", ".x5")  # written and read
READ_SUFFIXES = (*TRANSFORM_SUFFIXES, ".m3z", ".m3d", *VECTOR_SUFFIXES)
PARSERS: dict[str, Callable[[bytes], list[Part]]] = {
    **dict.fromkeys((*COMPOSITE_SUFFIXES, ".x5"), parse_composite),
    **dict.fromkeys(TEXT_SUFFIXES, parse_text),
    ".mat": parse_matlab,
}
T = TypeVar("T")
AFNI_ROW = re.compile(r"(.+\.1[Dd])\{(\d{1,6})\}")
MCFLIRT = re.compile(r"MAT_\d{4,}")
ANTS_PAIR = re.compile(r"\[(.+),\s*([01])\]")


def read_transform(
    path: str | Path,
    matrix_convention: MatrixConvention | None = None,
    images: tuple[Grid, Grid] | None = None,
) -> Chain:
    """Read a transform from fixed to moving world points.

    ``.h5``, ``.tfm``, ``.txt`` and ``.mat`` hold what ITK, ANTs and Slicer write: affine transforms with their centre,
    displacement fields, and composites of them; those of 2-D images have no motion along the third axis. A text
    file with a bare 4x4 matrix needs ``matrix_convention``.

    Those of FreeSurfer (``.lta``, ``.m3z``), AFNI (``.1D``, 3dQwarp), elastix (parameter files with the initial
    transforms in the same folder), FSL (FNIRT) and X5 are recognised by their content.

    A displacement NIfTI is 5-D (X, Y, Z, 1, 3), or (X, Y, 1, 1, 2) in two dimensions, in mm. With intent 1007 (VECTOR),
    as written by ANTs and ITK, its vectors are LPS. With intent 1006 (DISPVECT) they are RAS: SimpleITK 2.5 (ITK 5.4)
    changes the sign of their x and y on reading, unlike for 1007. Deformations of SPM (``y_*.nii``) and
    NiftyReg, which have intent 1007 too, are recognised by the name of the intent. Displacement fields in MHA and NRRD
    are LPS mm.

    Args:
        path: the file; ``[FILE,1]``, as in antsApplyTransforms, is the inverse of an affine, and ``FILE.1D{3}``, as in
            AFNI, the fourth matrix of a series.
        matrix_convention: convention of a bare 4x4 matrix: ``"ras"``, fixed to moving in RAS mm (greedy, NiftyReg),
            or ``"fsl"``, FLIRT's ``-omat``, which needs ``images``.
        images: the grids of the fixed and the moving image, if both are known; required for files of FSL and AFNI.

    Returns:
        The chain of its steps, RAS+ mm; ``steps[0]`` is applied to the fixed point first.

    Raises:
        MaxcaError: for a file that is missing, damaged, singular, not finite, or of a kind that is not supported.
    """
    pair = ANTS_PAIR.fullmatch(str(path))
    if pair and not Path(path).exists():
        chain = read_transform(pair[1].strip(), matrix_convention, images)
        return chain if pair[2] == "0" else _inverse(chain, pair[1])
    row = AFNI_ROW.fullmatch(str(path))
    if row and not Path(path).exists():
        content = read_bytes(Path(row[1]))
        return Chain((_named(Path(path), lambda: parse_1d(content, images, int(row[2]))),))
    path = Path(path)
    suffix = _read_suffix(path)
    if suffix not in READ_SUFFIXES:
        known = ", ".join(READ_SUFFIXES)
        raise MaxcaError(f"{path}: unknown suffix of a transform; convert it to one of {known}")
    if suffix in FIELD_SUFFIXES + VECTOR_SUFFIXES:
        check_regular(path)
        read = partial(read_field, images=images) if suffix in FIELD_SUFFIXES else read_vectors
        return _named(path, lambda: read(path))
    content = read_bytes(path)
    return _named(path, lambda: _parsed(path, content, matrix_convention, images))


def _read_suffix(path: Path) -> str:
    """The suffix of a file, that of a matrix for those of MCFLIRT, which have none."""
    return ".mat" if MCFLIRT.fullmatch(path.name) else full_suffix(path)


def _parsed(
    path: Path, content: bytes, matrix_convention: MatrixConvention | None, images: tuple[Grid, Grid] | None
) -> Chain:
    """The chain in the content of a file other than an image."""
    suffix = _read_suffix(path)
    if suffix in (".m3z", ".m3d"):
        return parse_m3z(content)
    if suffix == ".lta":
        return Chain((parse_lta(content),))
    if suffix == ".1d":
        return Chain((parse_1d(content, images),))
    if suffix in AFFINE_SUFFIXES and (matrix := parse_matrix(content)) is not None:
        return Chain((affine_of(matrix, matrix_convention, images),))
    if suffix in TEXT_SUFFIXES and is_elastix(content):
        return read_elastix(path)
    parts = PARSERS[suffix](content)
    return chain_of(parts) if is_x5(parts) else Chain(steps_of(parts), read_dimension(parts))


def write_transform(
    chain: Chain,
    path: str | Path,
    grid: Grid | None = None,
    tool: TransformTool | None = None,
    images: tuple[Grid, Grid] | None = None,
) -> None:
    """Write a chain from fixed to moving world points for ITK, ANTs and Slicer, or for another tool.

    ``.h5`` holds any chain: one ITK composite of affines and float32 fields, compressed. ``.tfm``, ``.txt`` and
    ``.mat`` hold an affine. ``.nii`` and ``.nii.gz`` hold one displacement field: 5-D, intent 1007, LPS mm.
    A chain of the plane (``dimension`` 2) is written in two dimensions if it does not mix z with x and y.

    Args:
        chain: fixed to moving world points, RAS+ mm.
        path: the suffix chooses the format.
        grid: of the nodes of a displacement NIfTI, in fixed space; by default that of the first field.
        tool: that reads the file; by default ITK, except for ``.lta`` (FreeSurfer), ``.1D`` (AFNI) and ``.x5``. For
            ANTs, ``path`` is a prefix, to which ``1Warp.nii.gz`` and ``0GenericAffine.mat`` are appended.
        images: the grids of the fixed and the moving image; required for FSL, FreeSurfer and AFNI.

    Raises:
        MaxcaError: if the format cannot store the chain, or the file cannot be written.
    """
    path = Path(path)
    suffix = full_suffix(path)
    tool = tool_of(path, tool)
    if tool == "ants":
        return _write_pair(chain, path, grid)
    if tool != "itk":
        return write_for(tool, Order(chain, path, grid, images))
    check_format(chain, path)
    if suffix in COMPOSITE_SUFFIXES:
        with atomic_path(path) as temporary:
            write_composite(chain, temporary)
    elif suffix in AFFINE_SUFFIXES:
        affine = Chain((Affine.identity(), *chain.steps)).as_affine()
        # Not through ITK, which silently writes half a file to a full disk.
        with atomic_path(path) as temporary:
            write_affine = write_text if suffix in TEXT_SUFFIXES else write_matlab
            write_affine(affine, temporary, written_dimension(chain))
    else:
        write_field(chain, path, grid)


def written_files(path: str | Path, tool: TransformTool | None = None) -> list[tuple[Path, tuple[str, ...]]]:
    """The files that ``write_transform`` writes, and the suffixes that each may have.

    Those of ANTs are the field and the affine, in the order of ``-t``; an affine alone has no field.
    """
    tool = tool_of(Path(path), tool)
    if tool == "ants":
        return [(Path(f"{path}1Warp.nii.gz"), FIELD_SUFFIXES), (Path(f"{path}0GenericAffine.mat"), AFFINE_SUFFIXES)]
    return [(Path(path), ITK_SUFFIXES if tool == "itk" else suffixes_of(tool))]


def _write_pair(chain: Chain, prefix: Path, grid: Grid | None) -> None:
    """Write an affine and, unless the chain is affine, a field, which is applied to a fixed point first."""
    (warp, _), (matrix, _) = written_files(prefix, "ants")
    affine = Chain(tuple(step for step in chain.steps if isinstance(step, Affine))).as_affine()
    write_transform(Chain((affine,), chain.dimension), matrix)
    if not chain.is_affine:
        field = Chain((*chain.steps, affine.inverse()[0]), chain.dimension).simplified()
        write_transform(_without_identity(field), warp, grid)


def _without_identity(chain: Chain) -> Chain:
    kept = (each for each in chain.steps if not (isinstance(each, Affine) and np.allclose(each.matrix, np.eye(4))))
    return Chain(tuple(kept), chain.dimension)


def check_format(chain: Chain, path: Path, tool: TransformTool | None = None) -> None:
    """Check before a computation that the format of an output can store a chain, or its inverse.

    Raises:
        MaxcaError: for an unknown suffix, a field in a format for affines, or a field on a sheared grid.
    """
    suffix = full_suffix(path)
    tool = tool_of(path, tool)
    if tool not in ("itk", "ants"):
        return check_for(tool, chain, path)
    if suffix in AFFINE_SUFFIXES and not chain.is_affine:
        raise MaxcaError(
            f"{path}: this format stores an affine transform only; write the file as .h5 to keep the field too"
        )
    if suffix in COMPOSITE_SUFFIXES:
        for step in chain.steps:
            if isinstance(step, DenseField):
                refuse_shear(step.grid, path)
    if suffix not in ITK_SUFFIXES and tool != "ants":
        raise MaxcaError(f"{path}: a transform ends in one of {', '.join(ITK_SUFFIXES)}; use one of these suffixes")


def _named(path: Path, read: Callable[[], T]) -> T:
    """The result of ``read``, with its ``ValueError`` converted to a ``MaxcaError`` that names the file."""
    try:
        with np.errstate(all="ignore"):  # numbers are checked afterwards, and NumPy would print warnings
            return read()
    except ValueError as error:
        advice = "" if ";" in str(error) else "; copy or write it again"
        raise MaxcaError(f"{path}: {error}{advice}") from error


def _inverse(chain: Chain, path: str) -> Chain:
    if not chain.is_affine:
        raise MaxcaError(
            f"{path}: contains a displacement field, but [FILE,1] inverts affines only, as in ANTs; pass the "
            "inverse field stored with it, or compute one: maxca transform invert -i FILE -o inverse.h5"
        )
    return Chain((chain.as_affine().inverse()[0],))
