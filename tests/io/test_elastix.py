"""Parameter files of elastix mean what transformix makes of them, and what elastix writes is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from foreign import DIRECTIONS, grids, inner_points, nodes, volume

from maxca.geometry import Affine, BSpline, Chain, Grid
from maxca.io.transforms import read_transform, write_transform
from maxca.registration.resampling import apply

FLIP = np.array([-1.0, -1.0, 1.0])
itk = pytest.importorskip("itk")


def words(numbers: Any) -> str:
    return " ".join(f"{number:.12g}" for number in np.ravel(numbers))


def image_entries(grid: Grid, n: int = 3) -> dict[str, str]:
    """The grid of the fixed image; elastix writes directions column by column."""
    direction = np.diag(FLIP) @ grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    return {
        "FixedImageDimension": str(n),
        "MovingImageDimension": str(n),
        "FixedInternalImagePixelType": '"float"',
        "MovingInternalImagePixelType": '"float"',
        "Size": words(grid.shape[:n]),
        "Index": words([0] * n),
        "Spacing": words(np.linalg.norm(grid.affine[:3, :3], axis=0)[:n]),
        "Origin": words((grid.affine[:3, 3] * FLIP)[:n]),
        "Direction": words(direction[:n, :n].T),
        "UseDirectionCosines": '"true"',
        "ResampleInterpolator": '"FinalLinearInterpolator"',
        "Resampler": '"DefaultResampler"',
        "DefaultPixelValue": "-1000",
        "ResultImageFormat": '"nii"',
        "ResultImagePixelType": '"float"',
    }


def parameters(path: Path, kind: str, numbers: Any, grid: Grid, n: int = 3, **entries: str) -> Path:
    held = {
        "Transform": f'"{kind}"',
        "NumberOfParameters": str(np.size(numbers)),
        "TransformParameters": words(numbers),
        "InitialTransformParameterFileName": '"NoInitialTransform"',
        "InitialTransformParametersFileName": '"NoInitialTransform"',
        "HowToCombineTransforms": '"Compose"',
    }
    held |= image_entries(grid, n) | entries
    if "InitialTransformParameterFileName" in entries:
        held["InitialTransformParametersFileName"] = entries["InitialTransformParameterFileName"]
    path.write_text("// made by a test\n\n" + "".join(f"({name} {value})\n" for name, value in held.items()))
    return path


def spline(path: Path, grid: Grid, n: int = 3, order: int = 3, kind: str = "BSplineTransform", **entries: str) -> Path:
    """A B-spline whose control points, as elastix's, are turned like the fixed image and begin at another index."""
    size = (8, 9, 7)[:n]
    spacing, index = (9.0, 8.0, 11.0)[:n], ((-1, 0, 1) if kind == "BSplineTransform" else (0, 0, 0))[:n]
    direction = (np.diag(FLIP) @ grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0))[:n, :n]
    middle = (nodes(grid).reshape(-1, 3).mean(axis=0) * FLIP)[:n]
    origin = middle - direction @ (np.array(spacing) * ((np.array(size) - 1) / 2 + index))
    numbers = 2.5 * np.random.default_rng(order).standard_normal(n * int(np.prod(size)))
    about = {
        "GridSize": words(size),
        "GridIndex": words(index),
        "GridSpacing": words(spacing),
        "GridOrigin": words(origin),
        "GridDirection": words(direction.T),
        "BSplineTransformSplineOrder": str(order),
        "UseCyclicTransform": '"false"',
    }
    return parameters(path, kind, numbers, grid, n, **(about | entries))


CENTER = {"CenterOfRotationPoint": words((3.0, -7.0, 5.0))}
TURN = (0.1, -0.15, 0.2, 4, -3, 2)
LINEAR: dict[str, tuple[str, tuple[float, ...], dict[str, str]]] = {
    "translation": ("TranslationTransform", (4, -3, 2), {}),
    "euler": ("EulerTransform", TURN, CENTER | {"ComputeZYX": '"false"'}),
    "euler ZYX": ("EulerTransform", TURN, CENTER | {"ComputeZYX": '"true"'}),
    "similarity": ("SimilarityTransform", (0.05, -0.1, 0.08, 3, 2, -1, 1.1), CENTER),
    "affine": ("AffineTransform", (1.1, 0.1, 0, -0.1, 0.9, 0.05, 0.02, 0, 1.05, 3, -2, 1), CENTER),
}
FLAT: dict[str, tuple[str, tuple[float, ...], dict[str, str]]] = {
    "translation": ("TranslationTransform", (4, -3), {}),
    "euler": ("EulerTransform", (0.2, 4, -3), {"CenterOfRotationPoint": "3 -7"}),
    "similarity": ("SimilarityTransform", (1.1, 0.2, 4, -3), {"CenterOfRotationPoint": "3 -7"}),
    "affine": ("AffineTransform", (1.1, 0.1, -0.1, 0.9, 4, -3), {"CenterOfRotationPoint": "3 -7"}),
}


def transformix(path: Path, points: np.ndarray, moving: Grid, n: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Where elastix itself maps world points (RAS), and how it resamples the moving image."""
    listed = path.parent / "points.txt"
    lines = [" ".join(f"{x:.9f}" for x in point[:n]) for point in points * FLIP]
    listed.write_text("\n".join(["point", str(len(lines)), *lines, ""]))
    data = volume(moving)
    image = itk.image_from_array(np.ascontiguousarray(data.T if n == 3 else data[:, :, 0].T))
    image.SetSpacing([float(s) for s in np.linalg.norm(moving.affine[:3, :3], axis=0)[:n]])
    image.SetOrigin([float(x) for x in (moving.affine[:3, 3] * FLIP)[:n]])
    direction = np.diag(FLIP) @ moving.affine[:3, :3] / np.linalg.norm(moving.affine[:3, :3], axis=0)
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(direction[:n, :n])))
    held = itk.ParameterObject.New()
    files, name = [path], path
    while (found := initial_of(name)) is not None:
        files.insert(0, name := found)
    for each in files:
        held.AddParameterFile(str(each))
    result = itk.transformix_filter(image, held, log_to_console=False)
    out = path.parent / "moved"
    out.mkdir(exist_ok=True)
    itk.transformix_pointset(image, held, fixed_point_set_file_name=str(listed), output_directory=str(out))
    text = (out / "outputpoints.txt").read_text().splitlines()
    found_points = [[float(x) for x in line.split("OutputPoint = [")[1].split("]")[0].split()] for line in text]
    moved = points.copy()
    moved[:, :n] = np.array(found_points) * FLIP[:n]
    array = itk.array_from_image(result).T
    return moved, array if n == 3 else array[:, :, None]


def initial_of(path: Path) -> Path | None:
    for line in path.read_text().splitlines():
        if line.startswith("(InitialTransformParameterFileName"):
            name = line.split('"')[1]
            return None if name == "NoInitialTransform" else path.parent / Path(name).name
    return None


def the_same(path: Path, fixed: Grid, moving: Grid, n: int = 3) -> None:
    """Points agree within 0.01 mm and images within 1e-3 of their range."""
    at = inner_points(fixed) if n == 3 else nodes(fixed)[1:-1, 1:-1].reshape(-1, 3)
    at = at + np.random.default_rng(1).uniform(-0.9, 0.9, at.shape) * ([1, 1, 1] if n == 3 else [1, 1, 0])
    moved, warped = transformix(path, at, moving, n)
    np.testing.assert_allclose(read_transform(path).map_points(at), moved, atol=2e-4)
    sides = [sitk_image(volume(grid), grid, n) for grid in (moving, fixed)]
    ours = apply(sides[0], sides[1], path, "linear", fill=-1000.0).data
    inside = (warped > -1) & (ours > -1)
    assert inside.mean() > 0.4
    np.testing.assert_allclose(ours[inside], warped[inside], atol=1e-3)


def sitk_image(data: np.ndarray, grid: Grid, n: int) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T if n == 3 else data[:, :, 0].T))
    image.SetSpacing(np.linalg.norm(grid.affine[:3, :3], axis=0)[:n].tolist())
    image.SetOrigin((grid.affine[:3, 3] * FLIP)[:n].tolist())
    direction = np.diag(FLIP) @ grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    image.SetDirection(direction[:n, :n].ravel().tolist())
    return image


def flat() -> tuple[Grid, Grid]:
    """Images of two dimensions, which ITK places at z = 0."""
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    out = []
    for shape, spacing, middle in (((30, 26, 1), (1.5, 2.0, 1.0), (2, 3)), ((28, 31, 1), (1.7, 1.6, 1.0), (1, 5))):
        affine = np.eye(4)
        affine[:3, :3] = turn @ np.diag([-1.0, -1, 1]) * spacing
        affine[:2, 3] = np.array(middle) - affine[:2, :2] @ ((np.array(shape[:2]) - 1) / 2)
        out.append(Grid(shape, affine))
    return out[0], out[1]


@pytest.mark.parametrize("kind", ["RAS", "LPS", "oblique LAS"])
@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_transform_means_what_transformix_does(name: str, kind: str, tmp_path: Path) -> None:
    fixed, moving = grids(kind)
    transform, numbers, entries = LINEAR[name]
    the_same(parameters(tmp_path / "TransformParameters.0.txt", transform, numbers, fixed, **entries), fixed, moving)


@pytest.mark.parametrize("name", FLAT)
def test_a_linear_transform_of_the_plane_means_what_transformix_does(name: str, tmp_path: Path) -> None:
    fixed, moving = flat()
    transform, numbers, entries = FLAT[name]
    path = parameters(tmp_path / "TransformParameters.0.txt", transform, numbers, fixed, 2, **entries)
    assert read_transform(path).dimension == 2
    the_same(path, fixed, moving, 2)


@pytest.mark.parametrize("transform", ["BSplineTransform", "RecursiveBSplineTransform"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("kind", ["RAS", "oblique LAS"])
def test_a_spline_means_what_transformix_does(kind: str, order: int, transform: str, tmp_path: Path) -> None:
    fixed, moving = grids(kind)
    path = spline(tmp_path / "TransformParameters.0.txt", fixed, 3, order, transform)
    the_same(path, fixed, moving)


def test_a_spline_of_the_plane_means_what_transformix_does(tmp_path: Path) -> None:
    fixed, moving = flat()
    the_same(spline(tmp_path / "TransformParameters.0.txt", fixed, 2), fixed, moving, 2)


@pytest.mark.parametrize("how", ["Compose", "Add"])
@pytest.mark.parametrize("last", ["affine", "spline"])
def test_initial_transforms_are_combined_as_transformix_does(last: str, how: str, tmp_path: Path) -> None:
    fixed, moving = grids("oblique")
    kind, numbers, entries = LINEAR["euler"]
    parameters(tmp_path / "TransformParameters.0.txt", kind, numbers, fixed, **entries)
    # The folder in which elastix ran does not exist here.
    about = {
        "InitialTransformParameterFileName": '"/elsewhere/out/TransformParameters.0.txt"',
        "HowToCombineTransforms": f'"{how}"',
    }
    path = tmp_path / "TransformParameters.1.txt"
    if last == "spline":
        spline(path, fixed, **about)
    else:
        kind, numbers, entries = LINEAR["affine"]
        parameters(path, kind, numbers, fixed, **entries, **about)
    at = inner_points(fixed)
    beside = path.read_text()
    path.write_text(beside.replace("/elsewhere/out", str(tmp_path)))  # transformix follows the path
    moved, _ = transformix(path, at, moving)
    path.write_text(beside)
    np.testing.assert_allclose(read_transform(path).map_points(at), moved, atol=2e-4)


def test_what_elastix_itself_leaves_is_read(tmp_path: Path) -> None:
    """A registration of two stages; its files name each other and are moved to another folder."""
    fixed, moving = grids("oblique LAS")
    sides = []
    for grid in (fixed, moving):
        image = itk.image_from_array(np.ascontiguousarray(volume(grid).T))
        image.SetSpacing([float(s) for s in np.linalg.norm(grid.affine[:3, :3], axis=0)])
        image.SetOrigin([float(x) for x in grid.affine[:3, 3] * FLIP])
        direction = np.diag(FLIP) @ grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
        image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(direction)))
        sides.append(image)
    stages = itk.ParameterObject.New()
    for stage in ("rigid", "bspline"):
        settings = itk.ParameterObject.GetDefaultParameterMap(stage, 1, 16.0)
        settings["MaximumNumberOfIterations"] = ("20",)
        settings["NumberOfSpatialSamples"] = ("500",)
        settings["AutomaticTransformInitialization"] = ("false",)
        stages.AddParameterMap(settings)
    out = tmp_path / "out"
    out.mkdir()
    itk.elastix_registration_method(
        *sides, parameter_object=stages, output_directory=str(out), log_to_console=False, log_to_file=False
    )
    files = [out / f"TransformParameters.{number}.txt" for number in (0, 1)]
    held = itk.ParameterObject.New()
    for file in files:
        held.AddParameterFile(str(file))
    at = inner_points(fixed)
    listed = tmp_path / "points.txt"
    listed.write_text("\n".join(["point", str(len(at)), *(" ".join(f"{x:.9f}" for x in p) for p in at * FLIP), ""]))
    itk.transformix_pointset(
        sides[1], held, fixed_point_set_file_name=str(listed), output_directory=str(tmp_path), log_to_console=False
    )
    moved = [line.split("OutputPoint = [")[1].split("]")[0] for line in (tmp_path / "outputpoints.txt").open()]
    expected = np.array([[float(x) for x in point.split()] for point in moved]) * FLIP
    elsewhere = tmp_path / "elsewhere"
    out.rename(elsewhere)
    found = read_transform(elsewhere / files[1].name)
    assert [type(step) for step in found.steps] == [Affine, BSpline]
    assert np.abs(expected - at).max() > 0.1
    np.testing.assert_allclose(found.map_points(at), expected, atol=1e-4)


def test_two_splines_are_composed(tmp_path: Path) -> None:
    fixed, moving = grids("oblique")
    first = spline(tmp_path / "0.txt", fixed, order=2)
    at = inner_points(fixed)
    path = spline(tmp_path / "1.txt", fixed, InitialTransformParameterFileName=f'"{first}"')
    moved, _ = transformix(path, at, moving)
    chain = read_transform(path)
    assert [type(step) for step in chain.steps] == [BSpline, BSpline]
    np.testing.assert_allclose(chain.map_points(at), moved, atol=2e-4)


def test_a_spline_is_written_for_itk_exactly_and_read_back(tmp_path: Path) -> None:
    fixed, _ = grids("oblique LAS")
    chain = read_transform(spline(tmp_path / "t.txt", fixed))
    write_transform(chain, tmp_path / "t.h5")
    at = inner_points(fixed)
    theirs = sitk.ReadTransform(str(tmp_path / "t.h5"))
    moved = np.array([theirs.TransformPoint(point.tolist()) for point in at * FLIP]) * FLIP
    np.testing.assert_allclose(moved, chain.map_points(at), atol=1e-6)
    np.testing.assert_allclose(read_transform(tmp_path / "t.h5").map_points(at), moved, atol=1e-6)


def test_a_spline_of_itk_is_read_from_text(tmp_path: Path) -> None:
    fixed, _ = grids("oblique")
    image = sitk_image(volume(fixed), fixed, 3)
    theirs = sitk.BSplineTransformInitializer(image, [4, 5, 3], 3)
    theirs.SetParameters(np.random.default_rng(0).normal(0, 2, len(theirs.GetParameters())).tolist())
    sitk.WriteTransform(theirs, str(tmp_path / "t.tfm"))
    at = inner_points(fixed)
    moved = np.array([theirs.TransformPoint(point.tolist()) for point in at * FLIP]) * FLIP
    np.testing.assert_allclose(read_transform(tmp_path / "t.tfm").map_points(at), moved, atol=1e-6)


def test_a_spline_is_inverted_and_sampled_on_the_fixed_image(tmp_path: Path) -> None:
    fixed, _ = grids("oblique")
    chain = read_transform(spline(tmp_path / "t.txt", fixed))
    (step,) = chain.steps
    assert isinstance(step, BSpline) and step.sampled().grid.same_as(fixed)
    small = Chain((BSpline(step.coefficients / 4, step.grid, step.order, step.domain),))
    at = inner_points(fixed)
    inverse, _ = small.inverse()
    inside = nodes(fixed)[4:-4, 4:-4, 4:-4].reshape(-1, 3)
    np.testing.assert_allclose(inverse.map_points(small.map_points(inside)), inside, atol=0.1)
    write_transform(chain, tmp_path / "y_t.nii.gz", tool="spm")
    np.testing.assert_allclose(read_transform(tmp_path / "y_t.nii.gz").map_points(at), chain.map_points(at), atol=1e-3)


@pytest.mark.parametrize("kind", DIRECTIONS)
def test_an_affine_written_for_elastix_is_the_one_that_transformix_applies(kind: str, tmp_path: Path) -> None:
    fixed, moving = grids(kind)
    affine = Affine(np.array([[1.05, 0.1, 0, 3], [-0.1, 0.95, 0.02, -2], [0, 0.05, 1.1, 4], [0, 0, 0, 1]]))
    path = tmp_path / "TransformParameters.0.txt"
    write_transform(Chain((affine,)), path, tool="elastix", images=(fixed, moving))
    at = inner_points(fixed)
    moved, _ = transformix(path, at, moving)
    np.testing.assert_allclose(moved, affine.map_points(at), atol=1e-5)
    np.testing.assert_allclose(read_transform(path).map_points(at), affine.map_points(at), atol=1e-6)
