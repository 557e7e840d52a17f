"""Parameter files of elastix that cannot be evaluated as elastix would are refused for the true reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from foreign import grids

pytest.importorskip("itk")
from test_elastix import LINEAR, parameters, spline

from maxca.errors import MaxcaError
from maxca.io.transforms import read_transform


def test_a_spline_added_to_a_spline_is_refused(tmp_path: Path) -> None:
    fixed, _ = grids("LPS")
    spline(tmp_path / "0.txt", fixed)
    about = {"InitialTransformParameterFileName": '"0.txt"', "HowToCombineTransforms": '"Add"'}
    with pytest.raises(MaxcaError, match=r"1\.txt: .*added to an initial transform with a B-spline"):
        read_transform(spline(tmp_path / "1.txt", fixed, **about))


def test_initial_transforms_in_a_circle_or_outside_the_folder_are_refused(tmp_path: Path) -> None:
    fixed, _ = grids("LPS")
    inside = tmp_path / "inside"
    inside.mkdir()
    kind, numbers, entries = LINEAR["translation"]
    about = {"InitialTransformParameterFileName": '"b.txt"'}
    parameters(inside / "a.txt", kind, numbers, fixed, **entries, **about)
    back = {"InitialTransformParameterFileName": '"../inside/a.txt"'}
    parameters(inside / "b.txt", kind, numbers, fixed, **entries, **back)
    with pytest.raises(MaxcaError, match=r"a\.txt: its initial transforms form a circle"):
        read_transform(inside / "a.txt")
    (inside / "b.txt").unlink()
    with pytest.raises(MaxcaError, match=r"a\.txt: its initial transform 'b\.txt' is missing in its folder"):
        read_transform(inside / "a.txt")
    parameters(tmp_path / "b.txt", kind, numbers, fixed, **entries)
    (inside / "b.txt").symlink_to(tmp_path / "b.txt")
    with pytest.raises(MaxcaError, match=r"a\.txt: .*'b\.txt' links outside its folder"):
        read_transform(inside / "a.txt")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"BSplineTransform"', '"SplineKernelTransform"', "SplineKernelTransform.*transformix"),
        ("(NumberOfParameters ", "(NumberOfParameters 9", "parameters, but it claims"),
        ("(GridSize 8", "(GridSize 9", "parameters of a B-spline"),
        ("(GridSize 8", "(GridSize 1e300", "parameters of a B-spline|grid"),
        ("(GridSpacing 9", "(GridSpacing -9", "mm apart"),
        ("(GridSpacing 9", "(GridSpacing nine", "GridSpacing is not made of numbers"),
        ("(GridOrigin ", "(Origins ", "GridOrigin has 0 numbers"),
        ('(UseCyclicTransform "false")', '(UseCyclicTransform "true")', "cyclic"),
        ("(FixedImageDimension 3)", "(FixedImageDimension 4)", "4 dimensions"),
        ("(BSplineTransformSplineOrder 3)", "(BSplineTransformSplineOrder 5)", "order"),
        ("(GridDirection ", "(GridDirection", "line|GridDirection|parameters"),
    ],
)
def test_a_damaged_parameter_file_is_refused(old: str, new: str, reason: str, tmp_path: Path) -> None:
    fixed, _ = grids("oblique")
    path = spline(tmp_path / "t.txt", fixed)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    if new == "(GridDirection":
        path.write_text(text[: text.index("(GridDirection") + 30])
    with pytest.raises(MaxcaError, match=reason) as caught:
        read_transform(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_images_whose_directions_elastix_ignored_are_refused(tmp_path: Path) -> None:
    fixed, _ = grids("oblique")
    kind, numbers, entries = LINEAR["translation"]
    path = parameters(tmp_path / "t.txt", kind, numbers, fixed, **entries, UseDirectionCosines='"false"')
    with pytest.raises(MaxcaError, match=r"t\.txt: it ignores the directions"):
        read_transform(path)
