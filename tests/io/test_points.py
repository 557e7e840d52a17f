"""Points keep their place, names and companions through CSV and Slicer's formats; bad files name the line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from maxca.errors import MaxcaError
from maxca.io.points import Points, read_points, write_points

POINTS = Points(np.array([[1.5, -2.25, 3.0], [1 / 3, 1e-9, -1e3]]), ("left, upper", 'the "other"'))


def refused(path: Path, *words: str) -> None:
    with pytest.raises(MaxcaError) as caught:
        read_points(path)
    assert "\n" not in str(caught.value)
    for word in (path.name, *words):
        assert word in str(caught.value)


def csv_with(folder: Path, text: str) -> Path:
    path = folder / "points.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["points.csv", "points.fcsv", "points.mrk.json"])
def test_points_come_back_exactly(tmp_path: Path, name: str) -> None:
    write_points(POINTS, tmp_path / name)
    back = read_points(tmp_path / name)
    np.testing.assert_array_equal(back.coordinates, POINTS.coordinates)
    assert back.labels == POINTS.labels
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["points.csv", "points.fcsv", "points.mrk.json"])
def test_no_points_are_points_too(tmp_path: Path, name: str) -> None:
    write_points(Points(np.zeros((0, 3))), tmp_path / name)
    assert read_points(tmp_path / name).coordinates.shape == (0, 3)


def test_csv_is_ras_and_carries_other_columns_in_any_order(tmp_path: Path) -> None:
    path = csv_with(tmp_path, "\ufeffname, Z ,x,weight,y\nA,3,1,0.5,2\n\nB,6,4,heavy,5\n")
    points = read_points(path)
    np.testing.assert_array_equal(points.coordinates, [[1, 2, 3], [4, 5, 6]])
    assert points.labels == ("A", "B")
    assert points.columns == (("weight", ("0.5", "heavy")),)
    write_points(points.moved_to(points.coordinates + 1), tmp_path / "moved.csv")
    assert (tmp_path / "moved.csv").read_text().splitlines() == [
        "x,y,z,label,weight",
        "2.0,3.0,4.0,A,0.5",
        "5.0,6.0,7.0,B,heavy",
    ]


@pytest.mark.parametrize("line", ["# space: LPS", "# CoordinateSystem = LPS", "#coordinatesystem = 1", "# SPACE = lps"])
def test_csv_may_say_that_it_is_lps(tmp_path: Path, line: str) -> None:
    points = read_points(csv_with(tmp_path, f"{line}\nx,y,z,t\n1,2,3,0\n"))
    np.testing.assert_array_equal(points.coordinates, [[-1, -2, 3]])
    assert points.columns == (("t", ("0",)),)


@pytest.mark.parametrize(("system", "sign"), [("0", 1), ("1", -1), ("RAS", 1), ("LPS", -1)])
def test_fcsv_says_its_coordinate_system(tmp_path: Path, system: str, sign: int) -> None:
    path = tmp_path / "F.fcsv"
    path.write_text(
        f"# Markups fiducial file version = 4.10\n# CoordinateSystem = {system}\n"
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
        "vtkMRMLMarkupsFiducialNode_0,1,2,3,0,0,0,1,1,1,0,F-1,,vtkMRML\n"
    )
    points = read_points(path)
    np.testing.assert_array_equal(points.coordinates, [[sign, 2 * sign, 3]])
    assert points.labels == ("F-1",)


@pytest.mark.parametrize(("system", "sign"), [("RAS", 1), ("LPS", -1)])
def test_markups_json_says_its_coordinate_system(tmp_path: Path, system: str, sign: int) -> None:
    path = tmp_path / "F.mrk.json"
    controls = [
        {"label": "F-1", "position": [1, 2, 3], "positionStatus": "defined"},
        {"label": "F-2", "position": [0, 0, 0], "positionStatus": "undefined"},
    ]
    path.write_text(json.dumps({"markups": [{"coordinateSystem": system, "controlPoints": controls}]}))
    points = read_points(path)
    np.testing.assert_array_equal(points.coordinates, [[sign, 2 * sign, 3]])
    assert points.labels == ("F-1",)


def test_written_slicer_files_are_lps_and_say_so(tmp_path: Path) -> None:
    write_points(Points(np.array([[1.0, 2, 3]])), tmp_path / "a.fcsv")
    lines = (tmp_path / "a.fcsv").read_text().splitlines()
    assert "# CoordinateSystem = LPS" in lines and lines[-1].startswith("1,-1.0,-2.0,3.0,") and "P-1" in lines[-1]
    write_points(Points(np.array([[1.0, 2, 3]])), tmp_path / "a.mrk.json")
    (markup,) = json.loads((tmp_path / "a.mrk.json").read_text())["markups"]
    assert markup["coordinateSystem"] == "LPS" and markup["controlPoints"][0]["position"] == [-1, -2, 3]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.csv", "no such file")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("1,2,3\n4,5,6\n", "line 1: the header must name x, y and z"),
        ("x,y\n1,2\n", "line 1: the header"),
        ("x,y,z\n1,2,3\n1,two,3\n", "line 3: y is 'two', not a number"),
        ("x,y,z\n1,2\n", "line 2: z is '', not a number"),
        ("x,y,z\n1,nan,3\n", "line 2: y is 'nan'"),
        ("x,y,z\n1,2,3,4\n", "line 2: 4 cells under 3 columns"),
        ("# space: scanner\nx,y,z\n", "line 1: the coordinate system SCANNER is unknown"),
    ],
)
def test_a_bad_csv_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    refused(csv_with(tmp_path, text), words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not json", "not a Slicer markups file"),
        ("[]", "not a Slicer markups file"),
        ('{"markups": [{"controlPoints": [{"label": "F"}]}]}', "not a Slicer markups file"),
        ('{"markups": [{"controlPoints": [{"label": "F", "position": [1, 2]}]}]}', "'F' has the position [1, 2]"),
        ('{"markups": [{"coordinateSystem": "XYZ", "controlPoints": []}]}', "XYZ is unknown"),
    ],
)
def test_a_bad_markups_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "points.mrk.json"
    path.write_text(text)
    refused(path, words)


def test_a_binary_file_and_an_unknown_suffix_are_refused(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_bytes(b"\xff\xfe\x00\x80")
    refused(tmp_path / "points.csv", "not a readable text file")
    refused(tmp_path / "points.xlsx", "points end in one of")


def test_points_check_their_shape_and_companions() -> None:
    with pytest.raises(ValueError, match="finite numbers"):
        Points(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="2 points with columns"):
        Points(np.zeros((2, 3)), ("one",))
