"""Conversion between the parts of ITK's transform files and steps of a chain.

Files of all formats are first read as ``Part`` objects, which are validated here before ITK uses their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk
import torch

from maxca.errors import MaxcaError
from maxca.geometry import Affine, BSpline, Chain, DenseField, Grid
from maxca.geometry.grid import SHEAR_TOLERANCE
from maxca.geometry.transforms import Transform
from maxca.io.itk import FLIP, flipped, grid_from_patient, is_plane

KIND = re.compile(r"([A-Za-z0-9]+)_(?:double|float)_([23])_([23])(_\d+)?")  # the last is the order of a B-spline
COMPOSITE = "CompositeTransform"
SPLINE = "BSplineTransform"
FIELDS = (
    "DisplacementFieldTransform",
    "GaussianSmoothingOnUpdateDisplacementFieldTransform",
    "BSplineSmoothingOnUpdateDisplacementFieldTransform",
)


class Part(NamedTuple):
    """One transform as stored in ITK's files.

    Args:
        kind: such as ``AffineTransform_double_3_3``.
        fixed: the fixed parameters in ITK: a centre, or the grid of a field.
        parameters: the numbers.
    """

    kind: str
    fixed: np.ndarray
    parameters: np.ndarray


class _Linear(NamedTuple):
    """A linear kind: its constructor and the allowed numbers of parameters and fixed parameters."""

    make: Callable[[], Any]
    parameters: int
    fixed: tuple[int, ...]


# By name and dimension. Without fixed parameters the centre is 0.
LINEAR = {
    **{("IdentityTransform", n): _Linear(partial(sitk.Transform, n, sitk.sitkIdentity), 0, (0,)) for n in (2, 3)},
    **{("TranslationTransform", n): _Linear(partial(sitk.TranslationTransform, n), n, (0,)) for n in (2, 3)},
    **{("ScaleTransform", n): _Linear(partial(sitk.ScaleTransform, n), n, (0, n)) for n in (2, 3)},
    **{
        (name, n): _Linear(partial(sitk.AffineTransform, n), n * n + n, (0, n))
        for name in ("AffineTransform", "MatrixOffsetTransformBase")  # the latter is its name in ANTs
        for n in (2, 3)
    },
    ("Rigid2DTransform", 2): _Linear(sitk.Euler2DTransform, 3, (0, 2)),
    ("Euler2DTransform", 2): _Linear(sitk.Euler2DTransform, 3, (0, 2)),
    ("Similarity2DTransform", 2): _Linear(sitk.Similarity2DTransform, 4, (0, 2)),
    ("Euler3DTransform", 3): _Linear(sitk.Euler3DTransform, 6, (0, 3, 4)),  # the fourth is the order of the rotations
    ("VersorTransform", 3): _Linear(sitk.VersorTransform, 3, (0, 3)),
    ("VersorRigid3DTransform", 3): _Linear(sitk.VersorRigid3DTransform, 6, (0, 3)),
    ("Similarity3DTransform", 3): _Linear(sitk.Similarity3DTransform, 7, (0, 3)),
    ("ScaleVersor3DTransform", 3): _Linear(sitk.ScaleVersor3DTransform, 9, (0, 3)),
    ("ComposeScaleSkewVersor3DTransform", 3): _Linear(sitk.ComposeScaleSkewVersor3DTransform, 12, (0, 3)),
    ("ScaleSkewVersor3DTransform", 3): _Linear(sitk.ScaleSkewVersor3DTransform, 15, (0, 3)),
}


def steps_of(parts: Sequence[Part]) -> tuple[Transform, ...]:
    """Steps in the order of application, from parts in the order of a file.

    Raises:
        ValueError: for an unsupported kind, invalid numbers, or parts without an order.
    """
    if not parts:
        raise ValueError("it contains no transform")
    if parts[0].kind.startswith(COMPOSITE):
        # ITK applies the last transform of a composite first.
        return tuple(step_of(part) for part in reversed(parts[1:]))
    if len(parts) > 1:
        raise ValueError(f"it contains {len(parts)} transforms without a composite that defines their order")
    return (step_of(parts[0]),)


def itk_part(step: Transform, dimension: int = 3) -> Part:
    """ITK's kind, fixed parameters and parameters of a step.

    Args:
        step: an affine or a field; of two dimensions only the plane is written.
        dimension: 2 or 3.

    Raises:
        MaxcaError: for a step that is neither an affine nor a field.
    """
    n, ending = dimension, f"double_{dimension}_{dimension}"
    if isinstance(step, Affine):
        matrix = flipped(step.matrix)
        numbers = np.concatenate([matrix[:n, :n].ravel(), matrix[:n, 3]])
        return Part(f"AffineTransform_{ending}", np.zeros(n), numbers)
    if isinstance(step, DenseField):
        vectors = itk_vectors(step)[..., :n].transpose(2, 1, 0, 3)
        return Part(f"DisplacementFieldTransform_{ending}", _described(step.grid, n), vectors.ravel())
    if isinstance(step, BSpline) and step.order == 3 and not step.grid.is_sheared:
        coefficients = step.coefficients.detach().double().cpu().numpy()[:n] * FLIP[:n].reshape(n, 1, 1, 1)
        return Part(f"{SPLINE}_{ending}", _described(step.grid, n), coefficients.transpose(0, 3, 2, 1).ravel())
    raise MaxcaError(f"a {type(step).__name__} cannot be written; put it on a grid with Chain.field_on first")


def written_dimension(chain: Chain) -> int:
    """2 for a chain of the plane that does not mix z with x and y, which ITK can store in two dimensions; else 3."""
    return 2 if chain.dimension == 2 and all(_keeps_z_apart(step) for step in chain.steps) else 3


def read_dimension(parts: Sequence[Part]) -> int:
    """2 if all parts have two dimensions, else 3."""
    return 2 if parts and all(part.kind.endswith("_2_2") for part in parts) else 3


def _keeps_z_apart(step: Transform) -> bool:
    if isinstance(step, DenseField | BSpline):
        vectors = step.displacement if isinstance(step, DenseField) else step.coefficients
        return is_plane(step.grid) and not bool(vectors[2].any())
    if isinstance(step, Affine):
        linear = step.matrix[:3, :3]
        return bool(np.allclose([*linear[2, :2], *linear[:2, 2]], 0, atol=SHEAR_TOLERANCE))
    return False


def itk_vectors(field: DenseField) -> np.ndarray:
    """Displacements (I, J, K, 3), LPS mm, float32."""
    vectors = field.displacement.detach().float().cpu().numpy() * FLIP.astype(np.float32).reshape(3, 1, 1, 1)
    return np.moveaxis(vectors, 0, -1)


def step_of(part: Part) -> Transform:
    """The step of a part other than a composite.

    Raises:
        ValueError: for an unsupported kind or invalid numbers.
    """
    named = KIND.fullmatch(part.kind)
    if named is None or named[2] != named[3]:
        raise ValueError(f"{part.kind[:80]!r} is not a transform of ITK in two or three dimensions")
    name, n = named[1] + (named[4] or ""), int(named[2])
    if name == COMPOSITE:
        raise ValueError("a nested composite, which ITK does not support either; flatten it first")
    if not np.isfinite(part.fixed).all() or not np.isfinite(part.parameters).all():
        raise ValueError(f"the parameters of its {name} contain NaN or infinite values")
    if name in FIELDS:
        return _field(part, n)
    if name == SPLINE:
        return spline_of_coefficients(part.fixed, part.parameters, n)
    if (name, n) not in LINEAR:
        raise ValueError(
            f"a {name} is not supported; sample it on the fixed image first (in SimpleITK: "
            "TransformToDisplacementField)"
        )
    kind = LINEAR[name, n]
    _check_count(name, len(part.parameters), (kind.parameters,))
    _check_count(name, len(part.fixed), kind.fixed, "fixed ")
    transform = kind.make()
    try:
        if len(part.fixed):
            transform.SetFixedParameters(part.fixed.tolist())
        transform.SetParameters(part.parameters.tolist())
    except RuntimeError as error:
        raise ValueError(f"ITK rejects the parameters of its {name}") from error
    return Affine(_matrix_of(transform))


def _check_count(name: str, stored: int, possible: tuple[int, ...], which: str = "") -> None:
    if stored not in possible:
        wanted = " or ".join(map(str, possible))
        raise ValueError(f"truncated or damaged: {stored} {which}parameters of a {name}, expected {wanted}")


def _matrix_of(transform: sitk.Transform) -> np.ndarray:
    """The RAS matrix of a linear transform, computed from mapped points, so that all parameters are respected."""
    n = transform.GetDimension()
    at_zero = np.array(transform.TransformPoint([0.0] * n))
    columns = [np.array(transform.TransformPoint(unit.tolist())) - at_zero for unit in np.eye(n)]
    matrix = np.eye(4)
    matrix[:n, :n] = np.stack(columns, axis=1)
    matrix[:n, 3] = at_zero
    return flipped(matrix)


def _field(part: Part, n: int) -> DenseField:
    """A displacement field; one of two dimensions has no motion along the third axis."""
    grid = _grid(part.fixed, n, "displacement field")
    _check_count("displacement field", len(part.parameters), (int(np.prod(grid.shape, dtype=object)) * n,))
    with np.errstate(over="ignore"):
        vectors = part.parameters.astype(np.float32, copy=False).reshape(*grid.shape[:n][::-1], n).T
    return field_of_vectors(vectors, grid)


def spline_of_coefficients(
    fixed: np.ndarray, parameters: np.ndarray, n: int, order: int = 3, domain: Grid | None = None
) -> BSpline:
    """A B-spline of ITK or elastix.

    Args:
        fixed: size, origin, spacing and directions of the grid of control points, as the fixed parameters in ITK; LPS.
        parameters: LPS mm, one component after another, the first axis fastest.
        n: dimensions, 2 or 3.
        order: of the spline.
        domain: see ``BSpline``.

    Raises:
        ValueError: for numbers that do not fit together.
    """
    grid = _grid(fixed, n, "B-spline")
    _check_count("B-spline", len(parameters), (int(np.prod(grid.shape, dtype=object)) * n,))
    coefficients = np.zeros((3, *grid.shape))
    coefficients[:n] = parameters.reshape(n, *grid.shape[::-1]).transpose(0, 3, 2, 1) * FLIP[:n].reshape(n, 1, 1, 1)
    return BSpline(torch.from_numpy(coefficients), grid, order, domain)


def _grid(fixed: np.ndarray, n: int, name: str) -> Grid:
    """The grid of nodes or control points described by fixed parameters of ITK."""
    _check_count(name, len(fixed), (3 * n + n * n,), "fixed ")
    sizes, origin, spacing, direction = np.split(fixed, [n, 2 * n, 3 * n])
    if (sizes < 1).any() or (sizes != np.rint(sizes)).any() or (spacing <= 0).any():
        raise ValueError(f"damaged: a {name} of {sizes.tolist()} nodes, {spacing.tolist()} mm apart")
    return grid_from_patient([int(size) for size in sizes], spacing.tolist(), origin.tolist(), direction.tolist())


def _described(grid: Grid, n: int) -> np.ndarray:
    """The fixed parameters in ITK of a grid of nodes or control points."""
    direction = (grid.direction * FLIP[:, None])[:n, :n].ravel()
    return np.concatenate([grid.shape[:n], (grid.origin * FLIP)[:n], grid.spacing[:n], direction])


def field_of_vectors(vectors: np.ndarray, grid: Grid) -> DenseField:
    """A field of LPS displacements in mm.

    Args:
        vectors: (2 or 3, I, J) or (…, I, J, K), float32; with two components there is no motion along the third axis.
        grid: of its nodes.
    """
    displacement = np.zeros((3, *grid.shape), dtype=np.float32)
    displacement[: len(vectors)] = vectors.reshape(-1, *grid.shape)
    displacement[:2] = -displacement[:2]
    return DenseField(torch.from_numpy(displacement), grid)
