"""ITK's text files of one affine: ``.tfm``, ``.txt``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maxca.geometry import Affine
from maxca.io.transforms.parts import itk_parameters


def write_text(affine: Affine, path: Path) -> None:
    """Write an affine as ITK's text."""
    kind, fixed, parameters = itk_parameters(affine)
    lines = ["#Insight Transform File V1.0", "#Transform 0", f"Transform: {kind}_double_3_3"]
    lines += [f"Parameters: {_spaced(parameters)}", f"FixedParameters: {_spaced(fixed)}", ""]
    path.write_text("\n".join(lines), encoding="ascii")


def _spaced(numbers: np.ndarray) -> str:
    return " ".join(map(repr, numbers.tolist()))
