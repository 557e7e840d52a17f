"""Damaged surfaces and tractograms, and outputs of another format, end in one line and leave nothing behind."""

from __future__ import annotations

import random
from pathlib import Path

import meshio
import nibabel as nib
import numpy as np
import pytest
from nibabel.freesurfer import write_geometry
from nibabel.gifti import GiftiDataArray, GiftiImage
from nibabel.streamlines import TckFile, Tractogram, TrkFile

from maxca.cli.main import main
from maxca.errors import MaxcaError
from maxca.geometry import Affine
from maxca.registration.shapes import apply_geometry

ROWS = np.random.default_rng(0).normal(0, 20, (9, 3)).astype(np.float32)
FACES = np.arange(9, dtype=np.int32).reshape(3, 3)
SPACELESS = (".ply", ".stl", ".obj", ".vtk", ".vtp", ".white")
VTP = """<VTKFile type="PolyData" byte_order="LittleEndian"><PolyData><Piece NumberOfPoints="9"><Points>
<DataArray type="Float32" NumberOfComponents="3" format="ascii">{}</DataArray></Points></Piece></PolyData></VTKFile>"""
NAMES = ["a.gii", "lh.white", "a.ply", "b.ply", "a.stl", "b.stl", "a.obj", "a.vtk", "b.vtk", "a.vtp", "a.tck", "a.trk"]


def make(path: Path) -> Path:
    mesh = meshio.Mesh(ROWS, [("triangle", FACES)])
    if path.suffix == ".gii":
        arrays = [GiftiDataArray(ROWS, "pointset"), GiftiDataArray(FACES, "triangle")]
        GiftiImage(darrays=arrays).to_filename(path)
    elif path.suffix == ".white":
        write_geometry(path, ROWS, FACES)
    elif path.suffix == ".vtp":
        path.write_text(VTP.format(" ".join(map(str, ROWS.ravel()))))
    elif path.suffix in (".tck", ".trk"):
        kind = {".tck": TckFile, ".trk": TrkFile}[path.suffix]
        header = nib.streamlines.trk.TrkFile.create_empty_header() if path.suffix == ".trk" else {}
        header |= {"voxel_order": b"RAS", "dimensions": (9, 9, 9)} if path.suffix == ".trk" else {}
        kind(Tractogram([ROWS, ROWS[:4]], affine_to_rasmm=np.eye(4)), header).save(path)
    elif path.suffix == ".obj":
        mesh.write(path)
    else:
        mesh.write(path, binary=path.name.startswith("a"), file_format="vtk42" if path.suffix == ".vtk" else None)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_damaged_shapes_end_in_one_line(tmp_path: Path, name: str) -> None:
    source = make(tmp_path / name)
    whole, space = source.read_bytes(), {"space": "ras"} if source.suffix in SPACELESS else {}
    out = tmp_path / f"moved{source.suffix}"
    apply_geometry(source, out, Affine.identity(), **space)
    out.unlink()
    for seed in range(60):
        content, chance = bytearray(whole), random.Random(seed)
        for _ in range(chance.randrange(1, 5)):
            at = chance.randrange(len(content))
            content[at : at + 1] = chance.choice([b"", b"\0", b"\n", b'"', b"9" * 9, b"-", b"<", b"\xff", b"nan"])
        source.write_bytes(bytes(content[: chance.choice([len(content), at])]))
        try:
            apply_geometry(source, out, Affine.identity(), **space)
            out.unlink()
        except MaxcaError as error:
            assert name in str(error) and "\n" not in str(error) and len(str(error)) < 500
        assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("source", "out", "words"),
    [
        ("a.gii", "b.ply", "ends in .gii, like the input"),
        ("a.stl", "b.stl", "does not declare its coordinate system; pass --space ras or --space lps"),
        ("a.gii", "a.gii", "exists; pass --overwrite"),
        ("missing.stl", "b.stl", "no such file"),
        ("missing", "b", "no such file"),
        ("a.docx", "b.docx", "not points, a surface or a tractogram"),
    ],
)
def test_what_apply_geometry_refuses(
    tmp_path: Path, source: str, out: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "a.gii")
    make(tmp_path / "a.stl")
    (tmp_path / "a.docx").write_text("no mesh")
    np.savetxt(tmp_path / "t.txt", np.eye(4))
    before = sorted(tmp_path.iterdir())
    command = ["apply-geometry", "-i", tmp_path / source, "-o", tmp_path / out, "-t", tmp_path / "t.txt"]
    assert main([*map(str, command), "--matrix-convention", "ras"]) == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1 and words in shown.err and (source in shown.err or out in shown.err)
    assert sorted(tmp_path.iterdir()) == before


def test_the_space_of_a_tractogram_is_not_asked(tmp_path: Path) -> None:
    make(tmp_path / "a.tck")
    with pytest.raises(MaxcaError, match=r"a\.tck: its format defines its coordinates; leave out space=ras"):
        apply_geometry(tmp_path / "a.tck", tmp_path / "b.tck", Affine.identity(), space="ras")


def test_the_old_name_of_the_command_still_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "a.gii")
    np.savetxt(tmp_path / "t.txt", np.eye(4))
    words = ["apply-points", "-i", "a.gii", "-o", "b.gii", "-t", "t.txt"]
    words = [str(tmp_path / word) if "." in word else word for word in words]
    assert main([*words, "--matrix-convention", "ras"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'b.gii'}: 9 vertices\n"
