"""The kinds of transforms that ITK's files are made of, as steps of a chain and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from maxca.errors import MaxcaError
from maxca.geometry import Affine, DenseField
from maxca.geometry.transforms import Transform
from maxca.io.atomic import full_suffix
from maxca.io.itk import FLIP, flipped, grid_from_sitk, guarded_itk


def read_parts(path: Path) -> list[sitk.Transform]:
    """The simple transforms in a file, in the order in which they meet a point."""
    try:
        with guarded_itk():
            parts = list(_parts(sitk.ReadTransform(str(path))))
    except RuntimeError as error:
        raise MaxcaError(f"{path}: not a transform that ITK can read, or damaged; copy or write it again") from error
    if full_suffix(path) in (".tfm", ".txt"):
        _check_complete(path, parts)
    return parts


def _parts(transform: Any, depth: int = 0) -> Iterator[sitk.Transform]:
    # SimpleITK wraps a kind that it has no class for, like MatrixOffsetTransformBase, into a composite of itself: the
    # first condition stops at the linear ones, the second at the others.
    inner = transform.GetNumberOfTransforms() if isinstance(transform, sitk.CompositeTransform) else 0
    if inner == 0 or (inner == 1 and transform.IsLinear()):
        yield transform
    elif depth > 20:
        raise ValueError("it holds a transform that is not supported; make it affines and displacement fields")
    else:
        for index in reversed(range(inner)):
            yield from _parts(transform.GetNthTransform(index), depth + 1)


def _check_complete(path: Path, parts: list[sitk.Transform]) -> None:
    """Hold a text file against what ITK made of it: ITK fills up the parameters of a truncated one."""
    lines = path.read_text(encoding="latin-1").splitlines()
    stored = sum(len(line.split()) - 1 for line in lines if line.startswith("Parameters:"))
    ended = sum(line.startswith("FixedParameters:") for line in lines)
    if stored != sum(len(part.GetParameters()) for part in parts) or ended < len(parts):
        raise MaxcaError(f"{path}: truncated, parameters are missing; copy or write it again")


def step_of(transform: sitk.Transform) -> Transform:
    """One simple ITK transform as ours."""
    if isinstance(transform, sitk.DisplacementFieldTransform):
        return _field_of(transform.GetDisplacementField())
    if transform.IsLinear():
        return Affine(_matrix_of(transform))
    raise ValueError(
        f"a {transform.GetName()} is not supported; sample it on the fixed image first (in SimpleITK: "
        "TransformToDisplacementField)"
    )


def _matrix_of(transform: sitk.Transform) -> np.ndarray:
    """The RAS matrix of a linear transform, from where it puts points: so no parameter or centre is overlooked."""
    n = transform.GetDimension()
    at_zero = np.array(transform.TransformPoint([0.0] * n))
    columns = [np.array(transform.TransformPoint(unit.tolist())) - at_zero for unit in np.eye(n)]
    matrix = np.eye(4)
    matrix[:n, :n] = np.stack(columns, axis=1)
    matrix[:n, 3] = at_zero
    return flipped(matrix)


def _field_of(image: sitk.Image) -> DenseField:
    grid = grid_from_sitk(image)
    vectors = sitk.GetArrayViewFromImage(image).T.reshape(-1, *grid.shape)
    displacement = np.zeros((3, *grid.shape), dtype=np.float32)
    displacement[: len(vectors)] = vectors
    return DenseField(torch.from_numpy(displacement * FLIP.astype(np.float32).reshape(3, 1, 1, 1)), grid)


def itk_parameters(step: Transform) -> tuple[str, np.ndarray, np.ndarray]:
    """ITK's name, fixed parameters and parameters of a step."""
    if isinstance(step, Affine):
        matrix = flipped(step.matrix)
        return "AffineTransform", np.zeros(3), np.concatenate([matrix[:3, :3].ravel(), matrix[:3, 3]])
    if isinstance(step, DenseField):
        grid = step.grid
        direction = (grid.direction * FLIP[:, None]).ravel()
        fixed = np.concatenate([grid.shape, grid.origin * FLIP, grid.spacing, direction])
        return "DisplacementFieldTransform", fixed, itk_vectors(step).transpose(2, 1, 0, 3).ravel()
    raise MaxcaError(f"a {type(step).__name__} cannot be written; put it on a grid with Chain.field_on first")


def itk_vectors(field: DenseField) -> np.ndarray:
    """Displacements (I, J, K, 3), LPS mm, float32."""
    vectors = field.displacement.detach().float().cpu().numpy() * FLIP.astype(np.float32).reshape(3, 1, 1, 1)
    return np.moveaxis(vectors, 0, -1)
