"""ITK's and ANTs' ``.mat``: an affine in MATLAB's level-4 format."""

from __future__ import annotations

from pathlib import Path

from scipy.io import savemat

from maxca.geometry import Affine
from maxca.io.transforms.parts import itk_parameters


def write_matlab(affine: Affine, path: Path) -> None:
    """Write an affine as ANTs does."""
    kind, fixed, parameters = itk_parameters(affine)
    savemat(path, {f"{kind}_double_3_3": parameters[:, None], "fixed": fixed[:, None]}, format="4")
