"""Parameter files of elastix, ``TransformParameters.*.txt``: one transform each, LPS mm, fixed to moving."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import torch

from maxca.errors import MaxcaError
from maxca.geometry import Affine, BSpline, Chain, Grid
from maxca.geometry.transforms import Transform
from maxca.io.itk import FLIP, grid_from_patient
from maxca.io.regular import read_bytes
from maxca.io.transforms.parts import Part, itk_part, spline_of_coefficients, step_of

FIRST = re.compile(r"^\s*\((Transform|TransformParameters|NumberOfParameters)\s", re.MULTILINE)
WORD = re.compile(r"\"([^\"]*)\"|(\S+)")
# Of elastix, by the kind of ITK with the same parameters; in two dimensions Euler2D and Similarity2D.
LINEAR = {
    "TranslationTransform": "TranslationTransform",
    "EulerTransform": "Euler{n}DTransform",
    "SimilarityTransform": "Similarity{n}DTransform",
    "AffineTransform": "AffineTransform",
}
SPLINES = ("BSplineTransform", "RecursiveBSplineTransform")
INITIAL = ("InitialTransformParameterFileName", "InitialTransformParametersFileName")  # the latter before version 5.1
NO_INITIAL = ("", "NoInitialTransform")
LONGEST_CHAIN = 100
Entries = dict[str, list[str]]


def is_elastix(content: bytes) -> bool:
    """Whether a text file holds parameters of elastix."""
    return FIRST.search(content.decode("latin-1")) is not None


def read_elastix(path: Path) -> Chain:
    """The chain, fixed → moving world points, of a parameter file and its initial transforms from the same folder.

    The folder in the name of an initial transform is ignored: elastix writes the one in which it ran.

    Raises:
        MaxcaError: for a file that is missing, damaged, of an unsupported kind, or in a circle of initial transforms.
    """
    files = [path]
    found = [_entries(path)]
    while (name := _initial(found[-1])) not in NO_INITIAL:
        files.append(_neighbour(files, name))
        found.append(_entries(files[-1]))
    chain = Chain()
    for file, entries in zip(reversed(files), reversed(found), strict=True):
        try:
            chain = _combined(chain, entries)
        except ValueError as error:
            advice = "" if ";" in str(error) else "; copy or write it again"
            raise MaxcaError(f"{file}: {error}{advice}") from error
    return Chain(chain.steps, _dimension(found[0]))


def _neighbour(files: list[Path], name: str) -> Path:
    """The file of an initial transform, in the folder of the files read before."""
    path, last = os.fsdecode(re.split(r"[/\\]", name)[-1].encode("latin-1")), files[-1]
    neighbour = last.parent / path
    if len(files) == LONGEST_CHAIN or any(neighbour.name == file.name for file in files):
        raise MaxcaError(f"{files[0]}: its initial transforms form a circle, or too long a chain; correct {INITIAL[0]}")
    if not os.path.lexists(neighbour):
        raise MaxcaError(f"{last}: its initial transform {path[:80]!r} is missing in its folder; copy it there")
    if neighbour.resolve().parent != last.parent.resolve():
        raise MaxcaError(f"{last}: its initial transform {path[:80]!r} links outside its folder; copy it there")
    return neighbour


def write_elastix(affine: Affine, path: Path, fixed: Grid, dimension: int = 3) -> None:
    """Write an affine as a parameter file for transformix, which resamples onto the grid of the fixed image."""
    n = dimension
    numbers = itk_part(affine, n).parameters
    direction = (fixed.direction * FLIP[:, None])[:n, :n]
    lines = [
        '(Transform "AffineTransform")',
        f"(NumberOfParameters {len(numbers)})",
        f"(TransformParameters {_spaced(numbers)})",
        f'({INITIAL[0]} "NoInitialTransform")',
        f'({INITIAL[1]} "NoInitialTransform")',
        '(HowToCombineTransforms "Compose")',
        f"(FixedImageDimension {n})",
        f"(MovingImageDimension {n})",
        '(FixedInternalImagePixelType "float")',
        '(MovingInternalImagePixelType "float")',
        f"(Size {' '.join(str(size) for size in fixed.shape[:n])})",
        f"(Index {' '.join('0' * n)})",
        f"(Spacing {_spaced(fixed.spacing[:n])})",
        f"(Origin {_spaced((fixed.origin * FLIP)[:n])})",
        f"(Direction {_spaced(direction.T.ravel())})",
        '(UseDirectionCosines "true")',
        f"(CenterOfRotationPoint {' '.join('0' * n)})",
        '(ResampleInterpolator "FinalBSplineInterpolator")',
        "(FinalBSplineInterpolationOrder 3)",
        '(Resampler "DefaultResampler")',
        "(DefaultPixelValue 0)",
        '(ResultImageFormat "nii.gz")',
        '(ResultImagePixelType "float")',
        '(CompressResultImage "true")',
    ]
    path.write_text("\n".join([*lines, ""]), encoding="ascii")


def _entries(path: Path) -> Entries:
    text = read_bytes(path).decode("latin-1")
    if "\0" in text:
        raise MaxcaError(f"{path}: not a parameter file of elastix; copy it again")
    found: Entries = {}
    for line in text.splitlines():
        line = re.sub(r"//[^\"]*$", "", line).strip()
        if not line or line.startswith("//"):
            continue
        name, *rest = line[1:-1].split(maxsplit=1) or [""]
        if not (line.startswith("(") and line.endswith(")") and name):
            raise MaxcaError(f"{path}: damaged or truncated in the line {line[:60]!r}; copy or write it again")
        found[name] = [quoted or bare for quoted, bare in WORD.findall(rest[0] if rest else "")]
    if "Transform" not in found:
        raise MaxcaError(f"{path}: not a parameter file of elastix, or truncated: Transform is missing; copy it again")
    return found


def _initial(entries: Entries) -> str:
    return next((entries[name][0] for name in INITIAL if entries.get(name)), "")


def _combined(initial: Chain, entries: Entries) -> Chain:
    """The transform of a file combined with its initial one: T₁(T₀(x)), or where it is added T₀(x) + T₁(x) - x."""
    step = _step(entries)
    how = entries.get("HowToCombineTransforms", ["Compose"])[0]
    if how == "Compose" or not initial.steps:
        return Chain((*initial.steps, step)).simplified()
    if how != "Add":
        raise ValueError(f"damaged: HowToCombineTransforms is {how[:40]!r}, neither Compose nor Add")
    return Chain(_added(initial, step))


def _added(initial: Chain, step: Transform) -> tuple[Transform, ...]:
    """The steps of x ↦ T₀(x) + T₁(x) - x, with at most one spline: A x + s(x) = A(x + A⁻¹ s(x))."""
    linear = [each for each in (*initial.steps, step) if isinstance(each, Affine)]
    splines = [each for each in (*initial.steps, step) if isinstance(each, BSpline)]
    if len(initial.steps) > 1 or len(splines) > 1:
        raise ValueError(
            "it is added to an initial transform with a B-spline, which is not supported; compose them in elastix, "
            '(HowToCombineTransforms "Compose"), or let transformix -def all write a displacement field'
        )
    matrix = sum((each.matrix for each in linear), np.zeros((4, 4))) - (len(linear) - 1) * np.eye(4)
    if not splines:
        return (Affine(matrix),)
    (spline,) = splines
    turned = torch.einsum(
        "ab,b...->a...", torch.from_numpy(np.linalg.inv(matrix[:3, :3])), spline.coefficients.double()
    )
    return BSpline(turned, spline.grid, spline.order, spline.domain), Affine(matrix)


def _step(entries: Entries) -> Transform:
    kind, n = entries["Transform"][0] if entries["Transform"] else "", _dimension(entries)
    if entries.get("UseDirectionCosines", ["true"])[0] != "true" and not np.array_equal(
        _direction(entries, n), np.eye(n)
    ):
        raise ValueError(
            "it ignores the directions of its images (UseDirectionCosines false), so that its coordinates are not "
            "those of the patient; register again with true"
        )
    parameters = _numbers(entries, "TransformParameters")
    count = _numbers(entries, "NumberOfParameters", 1)[0]
    if len(parameters) != count:
        raise ValueError(f"truncated or damaged: {len(parameters)} parameters, but it claims {count:g}")
    if kind in SPLINES:
        return _spline(entries, parameters, n)
    if kind not in LINEAR:
        raise ValueError(
            f"a {kind[:60]!r} of elastix, which is not supported; let transformix -def all write it as a displacement "
            "field"
        )
    fixed = np.zeros(0)
    if kind != "TranslationTransform":
        fixed = _numbers(entries, "CenterOfRotationPoint", n)
        if kind == "EulerTransform" and n == 3:
            fixed = np.append(fixed, float(entries.get("ComputeZYX", ["false"])[0] == "true"))
    return step_of(Part(f"{LINEAR[kind].format(n=n)}_double_{n}_{n}", fixed, parameters))


def _spline(entries: Entries, parameters: np.ndarray, n: int) -> BSpline:
    if entries.get("UseCyclicTransform", ["false"])[0] != "false":
        raise ValueError("a cyclic B-spline, which is not supported; let transformix -def all write it as a field")
    size, index, spacing, origin = (
        _numbers(entries, f"Grid{name}", n) for name in ("Size", "Index", "Spacing", "Origin")
    )
    if index.any() and entries["Transform"] != ["BSplineTransform"]:  # elastix 5.2 ignores the index of this kind
        raise ValueError(f"a recursive B-spline with GridIndex {index.tolist()}; elastix writes 0, correct it")
    direction = _direction(entries, n, "GridDirection")
    order = int(_numbers(entries, "BSplineTransformSplineOrder", 1, 3.0)[0])
    origin = origin + direction @ (spacing * index)
    control = np.concatenate([size, origin, spacing, direction.ravel()])
    return spline_of_coefficients(control, parameters, n, order, _fixed_grid(entries, n))


def _fixed_grid(entries: Entries, n: int) -> Grid | None:
    """The grid of the fixed image, with which elastix resamples; None if it is not in the file."""
    if "Size" not in entries or "Spacing" not in entries or "Origin" not in entries:
        return None
    size, spacing, origin = (_numbers(entries, name, n) for name in ("Size", "Spacing", "Origin"))
    index, direction = _numbers(entries, "Index", n, 0.0), _direction(entries, n)
    if (size < 1).any() or (size != np.rint(size)).any():
        raise ValueError(f"damaged: a fixed image of {size.tolist()} voxels")
    origin = origin + direction @ (spacing * index)
    return grid_from_patient(
        [int(each) for each in size], spacing.tolist(), origin.tolist(), direction.ravel().tolist()
    )


def _direction(entries: Entries, n: int, name: str = "Direction") -> np.ndarray:
    """A matrix of directions, which elastix writes column by column."""
    return _numbers(entries, name, n * n).reshape(n, n).T if name in entries else np.eye(n)


def _dimension(entries: Entries) -> int:
    n = _numbers(entries, "FixedImageDimension", 1)[0]
    if n not in (2, 3):
        raise ValueError(f"an image of {n:g} dimensions, but 2 or 3 are expected; extract one volume first")
    return int(n)


def _numbers(entries: Entries, name: str, count: int | None = None, default: float | None = None) -> np.ndarray:
    if name not in entries and default is not None and count is not None:
        return np.full(count, default)
    try:
        numbers = np.array(entries.get(name, []), dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"damaged: {name} is not made of numbers") from error
    if name not in entries or (count is not None and len(numbers) != count) or not np.isfinite(numbers).all():
        raise ValueError(f"truncated or damaged: {name} has {len(numbers)} numbers, or not all are finite")
    return numbers


def _spaced(numbers: np.ndarray) -> str:
    return " ".join(f"{number:.12g}" for number in numbers)
