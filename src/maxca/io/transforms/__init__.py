"""Transforms in files: what ITK, ANTs, greedy and Slicer read and write, one format per file of this room."""

from __future__ import annotations

from pathlib import Path

from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io.atomic import atomic_path, full_suffix
from maxca.io.itk import refuse_shear
from maxca.io.transforms.composite import write_composite
from maxca.io.transforms.field import read_field, write_field
from maxca.io.transforms.matlab import write_matlab
from maxca.io.transforms.matrix import plain_matrix
from maxca.io.transforms.parts import read_parts, step_of
from maxca.io.transforms.text import write_text

TEXT_SUFFIXES = (".tfm", ".txt")
AFFINE_SUFFIXES = (*TEXT_SUFFIXES, ".mat")
COMPOSITE_SUFFIXES = (".h5", ".hdf5")
FIELD_SUFFIXES = (".nii", ".nii.gz")
TRANSFORM_SUFFIXES = COMPOSITE_SUFFIXES + AFFINE_SUFFIXES + FIELD_SUFFIXES


def read_transform(path: str | Path) -> Chain:
    """Read a transform from fixed to moving world points.

    ``.h5``, ``.tfm``, ``.txt`` and ``.mat`` hold what ITK, ANTs, elastix and Slicer write: affine transforms with their
    centre, displacement fields, and composites of them; those of 2-D images move nothing along the third axis. A text
    file that is just a 4x4 matrix is taken for greedy's or NiftyReg's: RAS mm, fixed to moving. FSL's matrices look
    the same and mean something else: convert them first (``c3d_affine_tool -fsl2ras``).

    A displacement NIfTI is 5-D (X, Y, Z, 1, 3), in mm. With intent 1007 (VECTOR), as ANTs and ITK write it, its
    vectors are LPS. With intent 1006 (DISPVECT) they are RAS: SimpleITK 2.5 (ITK 5.4) changes the sign of their x and y
    on reading, which it does not do for 1007.

    Returns:
        The chain of its steps, RAS+ mm; ``steps[0]`` meets the fixed point first.

    Raises:
        MaxcaError: for a file that is missing, damaged, singular, not finite, or of a kind that is not supported.
    """
    path = Path(path)
    suffix = full_suffix(path)
    if not path.is_file():
        raise MaxcaError(f"{path}: no such file; check the path of the transform")
    try:
        if suffix in FIELD_SUFFIXES:
            return Chain((read_field(path),))
        if suffix in AFFINE_SUFFIXES and (matrix := plain_matrix(path)) is not None:
            return Chain((Affine(matrix),))
        if suffix in AFFINE_SUFFIXES + COMPOSITE_SUFFIXES:
            return Chain(tuple(step_of(part) for part in read_parts(path)))
    except ValueError as error:
        raise MaxcaError(f"{path}: {error}; write the transform again") from error
    known = ", ".join(TRANSFORM_SUFFIXES)
    raise MaxcaError(f"{path}: a transform ends in one of {known}; convert it to one of these")


def write_transform(chain: Chain, path: str | Path, grid: Grid | None = None) -> None:
    """Write a chain from fixed to moving world points for ITK, ANTs and Slicer.

    ``.h5`` holds any chain: one ITK composite of affines and float32 fields, compressed. ``.tfm``, ``.txt`` and
    ``.mat`` hold an affine. ``.nii`` and ``.nii.gz`` hold one displacement field: 5-D, intent 1007, LPS mm.

    Args:
        chain: fixed to moving world points, RAS+ mm.
        path: the suffix chooses the format.
        grid: where a displacement NIfTI has its nodes, in fixed space; the grid of the first field unless given.

    Raises:
        MaxcaError: when the format cannot hold the chain, or the file cannot be written.
    """
    path = Path(path)
    suffix = full_suffix(path)
    if suffix in COMPOSITE_SUFFIXES:
        for step in chain.steps:
            if isinstance(step, DenseField):
                refuse_shear(step.grid, path)
        with atomic_path(path) as temporary:
            write_composite(chain, temporary)
    elif suffix in AFFINE_SUFFIXES:
        if not chain.is_affine:
            raise MaxcaError(
                f"{path}: this format holds an affine transform only; name the file .h5 to keep the field too"
            )
        affine = Chain((Affine.identity(), *chain.steps)).as_affine()
        # Not through ITK, which writes half a file to a full disc without a word.
        with atomic_path(path) as temporary:
            (write_text if suffix in TEXT_SUFFIXES else write_matlab)(affine, temporary)
    elif suffix in FIELD_SUFFIXES:
        write_field(chain, path, grid)
    else:
        known = ", ".join(TRANSFORM_SUFFIXES)
        raise MaxcaError(f"{path}: a transform ends in one of {known}; name it so")
