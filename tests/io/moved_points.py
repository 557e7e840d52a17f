"""A transform file with an affine map and a bend, and what SimpleITK makes of points with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io.transforms import write_transform

FLIP = np.array([-1.0, -1.0, 1.0])


def bend_to(path: Path) -> Path:
    """Write the transform: a bend of up to 6 mm, then an affine map with shear."""
    nodes = np.stack(np.meshgrid(*[np.linspace(-80, 80, 33)] * 3, indexing="ij"))
    bend = np.stack([6 * np.sin(nodes[1] / 30), 5 * np.cos(nodes[2] / 25), 4 * np.sin(nodes[0] / 35)])
    grid = Grid((33, 33, 33), np.array([[5.0, 0, 0, -80], [0, 5, 0, -80], [0, 0, 5, -80], [0, 0, 0, 1]]))
    matrix = np.array([[1.1, 0.1, 0, 3], [-0.1, 0.9, 0.2, -5], [0, -0.1, 1.05, 8], [0, 0, 0, 1]])
    write_transform(Chain((DenseField(torch.as_tensor(bend, dtype=torch.float32), grid), Affine(matrix))), path)
    return path


def moved_by_itk(transform: Path, points: np.ndarray) -> np.ndarray:
    """World RAS points (N, 3), mapped by SimpleITK."""
    itk = sitk.ReadTransform(str(transform))
    return np.array([itk.TransformPoint(point) for point in (points * FLIP).tolist()]).reshape(-1, 3) * FLIP
