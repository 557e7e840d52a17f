"""Text files with a bare 4x4 matrix, whose convention has to be given."""

from __future__ import annotations

import re

import numpy as np

from maxca.geometry import Affine, Grid
from maxca.io.transforms.fsl import flirt_affine
from maxca.options import MatrixConvention

CHOICES = (
    "matrix_convention=ras (fixed to moving, RAS mm: greedy, NiftyReg) or matrix_convention=fsl (FLIRT's -omat: "
    "moving to fixed, in its scaled voxels)"
)


def parse_matrix(content: bytes) -> np.ndarray | None:
    """The (4, 4) matrix in a text of four lines of four numbers and nothing else; None for any other content."""
    if len(content) > 10_000 or b"\0" in content:
        return None
    rows = [re.split(r"[\s,]+", line.strip()) for line in content.decode("latin-1").splitlines() if line.strip()]
    if [len(row) for row in rows] != [4] * 4:
        return None
    try:
        return np.array(rows, dtype=np.float64)
    except ValueError:
        return None


def affine_of(matrix: np.ndarray, convention: MatrixConvention | None, images: tuple[Grid, Grid] | None) -> Affine:
    """The affine of a bare matrix in a given convention.

    Args:
        matrix: (4, 4), as in the file.
        convention: ``"ras"``: fixed to moving world points, RAS+ mm; ``"fsl"``: from the moving image to the fixed one,
            both in FSL's scaled voxels.
        images: the grids of the fixed and the moving image, if known; required for ``"fsl"``.

    Returns:
        Fixed world points → moving world points, RAS+ mm.

    Raises:
        ValueError: without a convention, for an unknown one, without the images for ``"fsl"``, or for a matrix that is
            not finite, not affine or singular.
    """
    if convention is None:
        raise ValueError(f"a bare 4x4 matrix, whose convention is not defined; pass {CHOICES}")
    if convention not in ("ras", "fsl"):
        raise ValueError(f"a matrix convention is ras or fsl, received {convention!r}; pass {CHOICES}")
    if convention == "ras":
        return Affine(matrix)
    if images is None:
        raise ValueError(
            "a matrix of FLIRT requires its two images, which are not both known here; convert it first: maxca "
            "transform convert THIS_FILE --matrix-convention fsl --fixed FIXED --moving MOVING -o affine.tfm"
        )
    return flirt_affine(matrix, images)
