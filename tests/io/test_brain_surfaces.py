"""GIFTI and FreeSurfer surfaces as nibabel writes them, in scanner coordinates and in FreeSurfer's surface RAS."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from moved_points import bend_to, moved_by_itk
from nibabel.freesurfer import read_geometry, write_geometry
from nibabel.gifti import GiftiCoordSystem, GiftiDataArray, GiftiImage, GiftiMetaData

from maxca.errors import MaxcaError
from maxca.registration.shapes import apply_geometry

VERTICES = np.random.default_rng(4).uniform(-50, 50, (40, 3)).astype(np.float32)
FACES = np.random.default_rng(5).integers(0, 40, (60, 3)).astype(np.int32)
OBLIQUE = np.array([[0.9, -0.1, 0.05, -20], [0.12, 1.2, -0.2, 30], [-0.04, 0.2, 2.0, 11], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def transform(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bend_to(tmp_path_factory.mktemp("transform") / "t.h5")


def volume(kind: str) -> tuple[dict[str, Any], np.ndarray]:
    """FreeSurfer's volume geometry, and the map from surface RAS to scanner RAS, both by nibabel's MGH header."""
    affine = {"conformed": np.array([[-1, 0, 0, 140], [0, 0, 1, -100], [0, -1, 0, 150], [0, 0, 0, 1.0]]),
              "oblique": orthogonal(OBLIQUE)}[kind]  # fmt: skip
    header = nib.MGHImage(np.zeros((60, 50, 40), np.uint8), affine).header
    info = {
        **{"head": np.array([2, 0, 20], np.int32), "valid": "1  # volume info valid", "filename": "../mri/orig.mgz"},
        **{"volume": np.array([60, 50, 40]), "voxelsize": header["delta"], "cras": header["Pxyz_c"]},
        **{name: header["Mdc"][n] for n, name in enumerate(("xras", "yras", "zras"))},
    }
    return info, header.get_vox2ras() @ np.linalg.inv(header.get_vox2ras_tkr())


def orthogonal(affine: np.ndarray) -> np.ndarray:
    turn, _, rest = np.linalg.svd(affine[:3, :3])
    result = affine.copy()
    result[:3, :3] = turn @ rest @ np.diag([0.9, 1.2, 2.0])
    return result


def mapped(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


@pytest.mark.filterwarnings("ignore:Unknown extension code", "ignore:No volume information")
@pytest.mark.parametrize("kind", ["conformed", "oblique"])
@pytest.mark.parametrize("real", [False, True], ids=["surface RAS", "scanner RAS"])
def test_a_surface_of_freesurfer_keeps_its_coordinates_and_its_footer(
    tmp_path: Path, transform: Path, kind: str, real: bool
) -> None:
    info, to_scanner = volume(kind)
    if real:
        info["head"], to_scanner = np.array([2, 1, 20], np.int32), np.eye(4)
    source, out = tmp_path / "lh.white", tmp_path / "lh.moved"
    write_geometry(source, VERTICES, FACES, create_stamp="created by nobody", volume_info=info)
    moved = apply_geometry(source, out, transform)
    assert (moved.number, moved.what, moved.warnings) == (40, "vertices", ())
    vertices, faces, after, stamp = read_geometry(out, read_metadata=True, read_stamp=True)
    expected = moved_by_itk(transform, mapped(to_scanner, VERTICES))
    np.testing.assert_allclose(mapped(to_scanner, vertices), expected, atol=1e-3)
    np.testing.assert_array_equal(faces, FACES)
    assert stamp == "created by nobody" and str(after) == str(read_geometry(source, read_metadata=True)[2])
    assert len(out.read_bytes()) == len(source.read_bytes())


def test_a_surface_of_freesurfer_without_the_geometry_of_its_volume(tmp_path: Path, transform: Path) -> None:
    source, out = tmp_path / "lh.white", tmp_path / "lh.moved"
    write_geometry(source, VERTICES, FACES)
    with pytest.raises(MaxcaError, match=r"lh\.white: does not declare its coordinate system; pass space="):
        apply_geometry(source, out, transform)
    apply_geometry(source, out, transform, space="ras")
    np.testing.assert_allclose(read_geometry(out)[0], moved_by_itk(transform, VERTICES), atol=1e-3)
    source.write_bytes(source.read_bytes()[:-8])
    with pytest.raises(MaxcaError, match=r"lh\.white: truncated"):
        apply_geometry(source, out, transform, space="ras")
    source.write_bytes(b"\xff\xff\xff" + source.read_bytes()[3:])
    with pytest.raises(MaxcaError, match="mris_convert"):
        apply_geometry(source, out, transform, space="ras")
    with pytest.raises(MaxcaError, match=r"b\.gii: the input is a FreeSurfer surface"):
        apply_geometry(source, tmp_path / "b.gii", transform)


def gifti(path: Path, encoding: str = "GIFTI_ENCODING_B64GZ", **points: Any) -> Path:
    arrays = [
        GiftiDataArray(VERTICES, intent="pointset", datatype="float32", encoding=encoding, **points),
        GiftiDataArray(FACES, intent="triangle", datatype="int32", encoding=encoding),
        GiftiDataArray(VERTICES[:, 0] * 2, intent="shape", datatype="float32", encoding=encoding),
    ]
    image = GiftiImage(darrays=arrays, meta=GiftiMetaData({"AnatomicalStructurePrimary": "CortexLeft <&>"}))
    image.to_filename(path)
    return path


def check_gifti(before: Path, after: Path, transform: Path, to_world: np.ndarray) -> None:
    old, new = nib.load(before), nib.load(after)
    expected = moved_by_itk(transform, mapped(to_world, VERTICES))
    np.testing.assert_allclose(mapped(to_world, new.darrays[0].data), expected, atol=1e-3)
    for one, other in zip(old.darrays[1:], new.darrays[1:], strict=True):
        np.testing.assert_array_equal(one.data, other.data)
    assert [dict(a.meta) for a in (old, *old.darrays)] == [dict(a.meta) for a in (new, *new.darrays)]
    for one, other in zip(old.darrays, new.darrays, strict=True):
        assert (one.intent, one.encoding, one.endian, one.datatype) == (
            *(other.intent, other.encoding),
            *(other.endian, other.datatype),
        )
        np.testing.assert_array_equal(one.coordsys.xform, other.coordsys.xform)


@pytest.mark.parametrize("encoding", ["ASCII", "B64BIN", "B64GZ"])
def test_a_gifti_surface_in_world_coordinates(tmp_path: Path, transform: Path, encoding: str) -> None:
    source = gifti(tmp_path / "a.surf.gii", f"GIFTI_ENCODING_{encoding}")
    apply_geometry(source, tmp_path / "b.surf.gii", transform)
    check_gifti(source, tmp_path / "b.surf.gii", transform, np.eye(4))


def test_a_gifti_surface_compressed_by_gzip(tmp_path: Path, transform: Path) -> None:
    source = gifti(tmp_path / "a.surf.gii.gz")  # nibabel compresses by the name
    assert source.read_bytes().startswith(b"\x1f\x8b")
    apply_geometry(source, tmp_path / "b.surf.gii.gz", transform)
    assert (tmp_path / "b.surf.gii.gz").read_bytes().startswith(b"\x1f\x8b")
    check_gifti(source, tmp_path / "b.surf.gii.gz", transform, np.eye(4))
    source.write_bytes(source.read_bytes()[:-9])
    with pytest.raises(MaxcaError, match=r"a\.surf\.gii\.gz: truncated or damaged"):
        apply_geometry(source, tmp_path / "c.surf.gii.gz", transform)


def test_a_gifti_surface_with_a_transform_into_scanner_space(tmp_path: Path, transform: Path) -> None:
    system = GiftiCoordSystem(0, "NIFTI_XFORM_SCANNER_ANAT", OBLIQUE)
    source = gifti(tmp_path / "a.surf.gii", coordsys=system)
    assert apply_geometry(source, tmp_path / "b.surf.gii", transform).warnings == ()
    check_gifti(source, tmp_path / "b.surf.gii", transform, OBLIQUE)


def test_a_gifti_surface_with_a_transform_into_talairach_space(tmp_path: Path, transform: Path) -> None:
    system = GiftiCoordSystem("NIFTI_XFORM_SCANNER_ANAT", "NIFTI_XFORM_TALAIRACH", OBLIQUE)
    source = gifti(tmp_path / "a.surf.gii", coordsys=system)
    (warning,) = apply_geometry(source, tmp_path / "b.surf.gii", transform).warnings
    assert "a.surf.gii: its transform to TALAIRACH is kept" in warning
    check_gifti(source, tmp_path / "b.surf.gii", transform, np.eye(4))


@pytest.mark.parametrize("kind", ["conformed", "oblique"])
def test_a_gifti_surface_of_freesurfer(tmp_path: Path, transform: Path, kind: str) -> None:
    info, to_scanner = volume(kind)
    meta = {f"VolGeom{axis}_{part}": str(info[f"{axis.lower()}ras"][n]) for axis in "XYZC" for n, part in
            enumerate("RAS")}  # fmt: skip
    source = gifti(tmp_path / "a.surf.gii", meta=GiftiMetaData(meta))
    apply_geometry(source, tmp_path / "b.surf.gii", transform)
    check_gifti(source, tmp_path / "b.surf.gii", transform, to_scanner)


def test_gifti_files_that_are_refused(tmp_path: Path, transform: Path) -> None:
    source = gifti(tmp_path / "a.surf.gii")
    content = source.read_bytes()
    bomb = b'<?xml version="1.0"?><!DOCTYPE GIFTI [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;">]><GIFTI>&b;</GIFTI>'
    for damaged, words in (
        (content[: len(content) // 2], "truncated or damaged"),
        (content.replace(b"NIFTI_INTENT_POINTSET", b"NIFTI_INTENT_SHAPE"), "0 arrays of points"),
        (content.replace(b"GZipBase64Binary", b"ExternalFileBinary", 1), "in another file"),
        (content.replace(b'Dim0="40"', b'Dim0="4000000000"', 1), "cannot expand"),
        (content.replace(b'Dim0="40"', b'Dim0="41"', 1), "do not hold"),
        (bomb, "XML entities"),
        (b"<GIFTI>" + b"<a/>" * 200_001 + b"</GIFTI>", "not of a kind"),
    ):
        source.write_bytes(damaged)
        with pytest.raises(MaxcaError, match=words) as caught:
            apply_geometry(source, tmp_path / "b.surf.gii", transform)
        assert "a.surf.gii: " in str(caught.value) and "\n" not in str(caught.value)
        assert [path.name for path in tmp_path.iterdir()] == ["a.surf.gii"]


def test_coordinates_that_are_not_finite_are_refused(tmp_path: Path, transform: Path) -> None:
    source = tmp_path / "lh.white"
    write_geometry(source, VERTICES, FACES)
    content = bytearray(source.read_bytes())
    struct.pack_into(">f", content, content.index(b"\n\n") + 10, np.nan)
    source.write_bytes(content)
    with pytest.raises(MaxcaError, match=r"lh\.white: .*not a finite number"):
        apply_geometry(source, tmp_path / "lh.moved", transform, space="ras")
