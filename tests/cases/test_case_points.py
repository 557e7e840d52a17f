"""Points as Slicer, ANTs and people write them, through the commands."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from maxca.errors import MaxcaError
from maxca.io.points import Points, read_points, write_points
from maxca.registration.resampling import apply_points

HEAD = (
    "# Markups fiducial file version = 5.2\n# CoordinateSystem = LPS\n"
    "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
)


@pytest.mark.parametrize("ending", [",2,0\n", "\r,2,0\n", ",2,0\r\n", "\n"])
def test_rows_of_slicer_5_have_two_more_cells(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "s5.fcsv"
    path.write_bytes((HEAD + "".join(f"{n},10,20,{n},0,0,0,1,1,1,0,F-{n},," + ending for n in (1, 2))).encode())
    sitk.WriteTransform(sitk.TranslationTransform(3, (1, 2, 3)), str(tmp_path / "t.tfm"))
    moved = apply_points(path, [tmp_path / "t.tfm"])
    np.testing.assert_array_equal(moved.coordinates, [[-11, -22, 4], [-11, -22, 5]])
    assert moved.labels == ("F-1", "F-2")


@pytest.mark.parametrize("status", ["0", "1", "3"])
def test_points_of_slicer_5_without_a_place_are_undefined(tmp_path: Path, status: str) -> None:
    rows = f"1,0,0,0,0,0,0,1,1,1,0,F-1,,,{status},0\n2,1,2,3,0,0,0,1,1,1,0,F-2,,,2,0\n"
    (tmp_path / "s5.fcsv").write_text(HEAD + rows)
    points = read_points(tmp_path / "s5.fcsv")
    assert points.labels == ("F-2",) and points.undefined == ((0, "F-1"),)


def test_points_of_slicer_3_have_their_name_first(tmp_path: Path) -> None:
    (tmp_path / "s3.fcsv").write_text("# columns = label,x,y,z,sel,vis\nleft,1,2,3,1,1\n")
    points = read_points(tmp_path / "s3.fcsv")
    np.testing.assert_array_equal(points.coordinates, [[1, 2, 3]])
    assert points.labels == ("left",)


def test_points_of_ants_are_not_taken_for_ras(tmp_path: Path) -> None:
    path = tmp_path / "ants.csv"
    path.write_text("x,y,z,t\n1,2,3,0\n")
    with pytest.raises(MaxcaError, match=r"ants\.csv: .*# space: LPS"):
        read_points(path)
    path.write_text("# space: LPS\nx,y,z,t\n1,2,3,0\n")
    points = read_points(path)
    np.testing.assert_array_equal(points.coordinates, [[-1, -2, 3]])
    write_points(points, tmp_path / "again.csv")
    np.testing.assert_array_equal(read_points(tmp_path / "again.csv").coordinates, points.coordinates)


@pytest.mark.parametrize(
    ("markup", "words"),
    [
        ({"coordinateUnits": "um", "controlPoints": []}, "'um'"),
        ({"coordinateUnits": ["mm", "mm", "cm"], "controlPoints": []}, "cm"),
        ({"coordinateSystem": "IJK", "controlPoints": []}, "IJK is unknown"),
        ({"controlPoints": [{"label": "A", "position": [1, float("nan"), 2]}]}, "'A' has the position"),
        ({"controlPoints": [{"label": "A", "position": [1, 2, 10**400]}]}, "'A' has the position"),
        ({"controlPoints": [{"label": "A", "position": None}]}, "not a Slicer markups file"),
        ({"controlPoints": 5}, "not a Slicer markups file"),
    ],
)
def test_a_markup_that_is_not_in_mm_or_not_numbers_is_refused(
    tmp_path: Path, markup: dict[str, object], words: str
) -> None:
    path = tmp_path / "a.mrk.json"
    path.write_text(json.dumps({"markups": [markup]}))
    with pytest.raises(MaxcaError) as caught:
        read_points(path)
    assert words in str(caught.value) and path.name in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("row", ['1,2,3,"a', f"1,2,3,{'a' * 140_000}"])
def test_a_row_that_is_no_csv_is_refused_with_its_line(tmp_path: Path, row: str) -> None:
    (tmp_path / "a.csv").write_text(f"x,y,z,label\n{row}\n")
    with pytest.raises(MaxcaError) as caught:
        read_points(tmp_path / "a.csv")
    assert "a.csv, line 2" in str(caught.value) and len(str(caught.value)) < 500


def test_zero_bytes_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"x,y,z\n1,2,3\n\0")
    with pytest.raises(MaxcaError, match="zero bytes"):
        read_points(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["a.csv", "a.fcsv", "a.mrk.json"])
@pytest.mark.parametrize("seed", range(15))
def test_damaged_points_end_in_one_line(tmp_path: Path, name: str, seed: int) -> None:
    points = Points(np.random.default_rng(0).normal(size=(6, 3)), ("a", "b,c", '"q"', "d\ne", "", "f"))
    write_points(points, tmp_path / name)
    np.testing.assert_array_equal(read_points(tmp_path / name).coordinates, points.coordinates)
    content, chance = bytearray((tmp_path / name).read_bytes()), random.Random(seed)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(content))
        content[at : at + 1] = chance.choice([b"", b"\0", b"\n", b'"', b"1e999", b"[", b"null", b"\xff", b"nan"])
    (tmp_path / name).write_bytes(bytes(content))
    try:
        read_points(tmp_path / name)
    except MaxcaError as error:
        assert name in str(error) and "\n" not in str(error) and len(str(error)) < 500
