"""Surfaces written by VTK and meshio: vertices move as ITK moves points, all else is read back the same."""

from __future__ import annotations

from pathlib import Path

import meshio
import numpy as np
import pytest
import vtk
from moved_points import FLIP, bend_to, moved_by_itk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from maxca.errors import MaxcaError
from maxca.registration.shapes import apply_geometry

DRAWN = np.random.default_rng(7).uniform(-40, 40, (9, 3))


@pytest.fixture(scope="module")
def transform(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bend_to(tmp_path_factory.mktemp("transform") / "t.h5")


def ball() -> vtk.vtkPolyData:
    """Vertices with normals and two scalars, as poly data of VTK."""
    source = vtk.vtkSphereSource()
    source.SetThetaResolution(9)
    source.SetPhiResolution(7)
    source.SetRadius(30)
    source.SetCenter(5, -4, 12)
    source.Update()
    mesh = source.GetOutput()
    for name, kind in (("thickness", np.float32), ("label", np.int32)):
        values = numpy_to_vtk((np.arange(mesh.GetNumberOfPoints()) * 3).astype(kind), deep=True)
        values.SetName(name)
        mesh.GetPointData().AddArray(values)
    return mesh


def parts(mesh: vtk.vtkPolyData) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, dict[str, np.ndarray]]:
    """Vertices, normals, faces and scalars."""
    data = mesh.GetPointData()
    normals = data.GetNormals()
    arrays = [data.GetArray(n) for n in range(data.GetNumberOfArrays())]
    scalars = {a.GetName(): vtk_to_numpy(a) for a in arrays if a.GetNumberOfComponents() == 1}
    faces = vtk_to_numpy(mesh.GetPolys().GetConnectivityArray())
    return vtk_to_numpy(mesh.GetPoints().GetData()), normals and vtk_to_numpy(normals), faces, scalars


def written(writer: object, mesh: vtk.vtkPolyData, path: Path, **settings: object) -> Path:
    writer.SetInputData(mesh)  # type: ignore[attr-defined]
    writer.SetFileName(str(path))  # type: ignore[attr-defined]
    for name, value in settings.items():
        getattr(writer, name)(*([] if value is None else [value]))
    assert writer.Write()  # type: ignore[attr-defined]
    return path


def read_by(reader: object, path: Path) -> vtk.vtkPolyData:
    reader.SetFileName(str(path))  # type: ignore[attr-defined]
    reader.Update()  # type: ignore[attr-defined]
    return reader.GetOutput()  # type: ignore[attr-defined]


def check_normals(normals: np.ndarray, vertices: np.ndarray, transform: Path) -> None:
    """Those of an ellipsoid-like surface: by differences of ITK's map of the sphere, whose normals are its radii."""
    radii = vertices - [5, -4, 12]
    radii = radii / np.linalg.norm(radii, axis=1, keepdims=True)
    jacobian = (
        np.stack(
            [
                moved_by_itk(transform, (vertices + step) * FLIP) - moved_by_itk(transform, (vertices - step) * FLIP)
                for step in np.eye(3) * 0.05
            ],
            axis=2,
        )
        * FLIP[:, None]
    )
    expected = np.linalg.solve(jacobian.transpose(0, 2, 1), radii[:, :, None])[:, :, 0]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert (normals * expected).sum(axis=1).min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)


XML: dict[str, dict[str, object]] = {
    "text": {"SetDataModeToAscii": None, "SetCompressorTypeToNone": None},
    "inline": {"SetDataModeToBinary": None, "SetCompressorTypeToNone": None},
    "inline packed": {"SetDataModeToBinary": None},
    "appended": {"SetDataModeToAppended": None, "EncodeAppendedDataOff": None, "SetCompressorTypeToNone": None},
    "appended packed": {"SetDataModeToAppended": None, "EncodeAppendedDataOff": None},
    "appended in text": {"SetDataModeToAppended": None, "SetCompressorTypeToNone": None},
    "appended packed in text, big": {
        "SetDataModeToAppended": None,
        "SetHeaderTypeToUInt64": None,
        "SetByteOrderToBigEndian": None,
    },
    "many blocks": {"SetDataModeToAppended": None, "SetBlockSize": 96},
}
LEGACY: dict[str, dict[str, object]] = {
    f"{kind}, version {version}": {f"SetFileTypeTo{kind}": None, "SetFileVersion": version}
    for kind in ("ASCII", "Binary")
    for version in (42, 51)
}


@pytest.mark.parametrize("settings", XML.values(), ids=XML)
def test_xml_poly_data_of_vtk(tmp_path: Path, transform: Path, settings: dict[str, object]) -> None:
    mesh = ball()
    space = vtk.vtkStringArray()
    space.SetName("SPACE")
    space.InsertNextValue("LPS")
    mesh.GetFieldData().AddArray(space)  # as 3D Slicer declares it
    source = written(vtk.vtkXMLPolyDataWriter(), mesh, tmp_path / "a.vtp", **settings)
    moved = apply_geometry(source, tmp_path / "b.vtp", transform)
    assert (moved.number, moved.what) == (mesh.GetNumberOfPoints(), "vertices")
    check_poly_data(mesh, read_by(vtk.vtkXMLPolyDataReader(), tmp_path / "b.vtp"), transform)


def check_poly_data(before: vtk.vtkPolyData, after: vtk.vtkPolyData, transform: Path) -> None:
    """Of LPS coordinates."""
    (vertices, _, faces, scalars), (new, normals, same_faces, same_scalars) = parts(before), parts(after)
    np.testing.assert_allclose(new, moved_by_itk(transform, vertices * FLIP) * FLIP, atol=1e-3)
    np.testing.assert_array_equal(same_faces, faces)
    assert set(same_scalars) == set(scalars)
    for name, values in scalars.items():
        np.testing.assert_array_equal(same_scalars[name], values)
    if normals is not None:
        check_normals(normals, vertices, transform)


@pytest.mark.parametrize("settings", LEGACY.values(), ids=LEGACY)
def test_legacy_poly_data_of_vtk_as_slicer_writes_it(
    tmp_path: Path, transform: Path, settings: dict[str, object]
) -> None:
    source = written(
        vtk.vtkPolyDataWriter(), ball(), tmp_path / "a.vtk", SetHeader="3D Slicer output. SPACE=LPS", **settings
    )
    apply_geometry(source, tmp_path / "b.vtk", transform)
    check_poly_data(ball(), read_by(vtk.vtkPolyDataReader(), tmp_path / "b.vtk"), transform)
    assert (tmp_path / "b.vtk").read_bytes().split(b"\n")[1] == b"3D Slicer output. SPACE=LPS"


@pytest.mark.parametrize("kind", ["ASCII", "Binary"])
@pytest.mark.parametrize("suffix", [".stl", ".ply"])
def test_stl_and_ply_of_vtk(tmp_path: Path, transform: Path, suffix: str, kind: str) -> None:
    writers = {".stl": vtk.vtkSTLWriter(), ".ply": vtk.vtkPLYWriter()}
    writer = writers[suffix]
    if suffix == ".ply":
        writer.AddComment("SPACE=LPS")
    else:
        writer.SetHeader("3D Slicer output. SPACE=LPS")
    source = written(writer, ball(), tmp_path / f"a{suffix}", **{f"SetFileTypeTo{kind}": None})
    assert apply_geometry(source, tmp_path / f"b{suffix}", transform).warnings == ()
    reader = {".stl": vtk.vtkSTLReader, ".ply": vtk.vtkPLYReader}[suffix]
    check_poly_data(read_by(reader(), source), read_by(reader(), tmp_path / f"b{suffix}"), transform)
    if suffix == ".stl":
        check_facets(tmp_path / "b.stl")
    else:
        assert b"comment SPACE=LPS" in (tmp_path / "b.ply").read_bytes()


def check_facets(path: Path) -> None:
    content = path.read_bytes()
    if content.startswith(b"solid"):
        mesh = meshio.read(path)
        triangles, stored = mesh.points[mesh.cells[0].data], mesh.cell_data["facet_normals"][0]
    else:
        facets = np.frombuffer(content, np.dtype([("rows", "<f4", (4, 3)), ("attribute", "<u2")]), offset=84)
        triangles, stored = facets["rows"][:, 1:], facets["rows"][:, 0]
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    np.testing.assert_allclose(stored, normals, atol=1e-3)


FOREIGN: dict[str, dict[str, object]] = {
    "a.ply": {"binary": True},
    "text.ply": {"binary": False},
    "a.stl": {"binary": True},
    "a.vtk": {"binary": True, "file_format": "vtk"},
    "text.vtk": {"binary": False, "file_format": "vtk"},
    "old.vtk": {"binary": True, "file_format": "vtk42"},
    "a.obj": {},
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("space", ["ras", "lps"])
def test_meshes_of_meshio(tmp_path: Path, transform: Path, name: str, space: str) -> None:
    vertices, _, faces, scalars = parts(ball())
    source = tmp_path / name
    data = {} if name.endswith((".stl", ".obj")) else {"thickness": scalars["thickness"]}
    mesh = meshio.Mesh(vertices, [("triangle", faces.reshape(-1, 3))], point_data=data)
    mesh.write(source, **FOREIGN[name])
    before = meshio.read(source)
    out = tmp_path / f"moved-{name}"
    with pytest.raises(MaxcaError, match=rf"{name}: does not declare its coordinate system; pass space=ras or"):
        apply_geometry(source, out, transform)
    assert not out.exists()
    apply_geometry(source, out, transform, space=space)
    after = meshio.read(out)
    signs = FLIP if space == "lps" else np.ones(3)
    np.testing.assert_allclose(after.points, moved_by_itk(transform, before.points * signs) * signs, atol=1e-3)
    np.testing.assert_array_equal(after.cells[0].data, before.cells[0].data)
    for key in data:
        np.testing.assert_array_equal(after.point_data[key], before.point_data[key])


def test_an_stl_in_capitals_keeps_its_names_and_normals_of_zero(tmp_path: Path, transform: Path) -> None:
    text = "SOLID part SPACE=RAS\n FACET NORMAL {}\n  OUTER LOOP\n   VERTEX {}\n   VERTEX {}\n   VERTEX {}\n  ENDLOOP\n"
    text += " ENDFACET\nENDSOLID part\n"
    rows = [" ".join(map(str, row)) for row in DRAWN[:3]]
    (tmp_path / "a.stl").write_text(text.format("0 0 0", *rows))
    assert apply_geometry(tmp_path / "a.stl", tmp_path / "b.stl", transform).number == 3
    words = (tmp_path / "b.stl").read_text().split()
    found = np.array([words[n + 1 : n + 4] for n, word in enumerate(words) if word == "VERTEX"], dtype=float)
    np.testing.assert_allclose(found, moved_by_itk(transform, DRAWN[:3]), atol=1e-3)
    assert words[:3] == ["SOLID", "part", "SPACE=RAS"] and words[5:8] == ["0", "0", "0"] and words[-1] == "part"


@pytest.mark.parametrize("suffix", [".vtk", ".vtp"])
def test_vectors_are_kept_with_a_warning(tmp_path: Path, transform: Path, suffix: str) -> None:
    mesh = ball()
    vectors = numpy_to_vtk(np.ones((mesh.GetNumberOfPoints(), 3), np.float32), deep=True)
    vectors.SetName("flow")
    mesh.GetPointData().SetVectors(vectors)
    writer, reader = {
        ".vtk": (vtk.vtkPolyDataWriter(), vtk.vtkPolyDataReader()),
        ".vtp": (vtk.vtkXMLPolyDataWriter(), vtk.vtkXMLPolyDataReader()),
    }[suffix]
    source = written(writer, mesh, tmp_path / f"a{suffix}")
    (warning,) = apply_geometry(source, tmp_path / f"b{suffix}", transform, space="lps").warnings
    assert "flow: vectors are kept as stored, not rotated" in warning
    after = read_by(reader, tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(vtk_to_numpy(after.GetPointData().GetVectors()), 1)
    check_poly_data(mesh, after, transform)


@pytest.mark.parametrize("big", [False, True])
def test_ply_with_colours_and_an_element_before_the_vertices(tmp_path: Path, transform: Path, big: bool) -> None:
    order = ">" if big else "<"
    rows = np.zeros(
        5, [("red", "u1"), ("x", order + "f8"), ("y", order + "f8"), ("z", order + "f8"), ("q", order + "i2")]
    )
    for axis, name in enumerate("xyz"):
        rows[name] = DRAWN[:5, axis]
    rows["red"], rows["q"] = range(5), range(-5, 0)
    header = f"ply\nformat binary_{'big' if big else 'little'}_endian 1.0\ncomment SPACE=RAS\nelement camera 2\n"
    header += "property float focus\nelement vertex 5\nproperty uchar red\nproperty double x\nproperty double y\n"
    header += (
        "property double z\nproperty short q\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
    )
    before, after = header.encode() + b"camera12", b"\3" + np.arange(3, dtype=order + "i4").tobytes()
    (tmp_path / "a.ply").write_bytes(before + rows.tobytes() + after)
    apply_geometry(tmp_path / "a.ply", tmp_path / "b.ply", transform)
    content = (tmp_path / "b.ply").read_bytes()
    assert content.startswith(before) and content.endswith(after) and len(content) == len(before + after) + rows.nbytes
    new = np.frombuffer(content, rows.dtype, 5, len(before))
    np.testing.assert_array_equal(new[["red", "q"]].tolist(), rows[["red", "q"]].tolist())
    found = np.stack([new[name] for name in "xyz"], axis=1)
    np.testing.assert_allclose(found, moved_by_itk(transform, DRAWN[:5]), atol=1e-3)


def test_normals_and_names_of_an_obj(tmp_path: Path, transform: Path) -> None:
    vertices, normals, faces, _ = parts(ball())
    assert normals is not None
    lines = ["# 3D Slicer output. SPACE=LPS", "mtllib a.mtl", "o ball"]
    lines += [f"v {x} {y} {z} 1 0 0.5" for x, y, z in vertices] + [f"vn {x} {y} {z}" for x, y, z in normals]
    lines += ["vt 0 0", "usemtl skin", *(f"f {a}//{a} {b}//{b} {c}//{c}" for a, b, c in faces.reshape(-1, 3) + 1)]
    lines += [f"f -{len(vertices)}//-{len(vertices)} 2//2 3//3", "vn 0 0 1"]
    (tmp_path / "a.obj").write_text("\n".join(lines) + "\n")
    moved = apply_geometry(tmp_path / "a.obj", tmp_path / "b.obj", transform)
    assert len(moved.warnings) == 1 and "1 normals that no face uses are kept" in moved.warnings[0]
    after = read_by(vtk.vtkOBJReader(), tmp_path / "b.obj")
    new = (tmp_path / "b.obj").read_text().splitlines()
    rows = [[float(word) for word in line.split()[1:4]] for line in new if line.startswith("v ")]
    np.testing.assert_allclose(rows, moved_by_itk(transform, vertices * FLIP) * FLIP, atol=1e-3)
    check_normals(np.array([[float(w) for w in line.split()[1:]] for line in new if line.startswith("vn")])[:-1],
                  vertices, transform)  # fmt: skip
    kept = [line for line in new if not line.startswith(("v ", "vn"))]
    assert kept == [line for line in lines if not line.startswith(("v ", "vn"))]
    assert all(line.endswith(" 1 0 0.5") for line in new if line.startswith("v "))
    assert after.GetNumberOfCells() == len(faces) // 3 + 1
