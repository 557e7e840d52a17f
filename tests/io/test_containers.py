"""MetaImage and NRRD files: what ITK wrote is read as ITK reads it, and ITK reads what is written here."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maxca.geometry import Grid
from maxca.io.containers import read_container
from maxca.io.form import Form
from maxca.io.images import read, write
from maxca.io.itk import from_sitk, grid_from_sitk

KINDS = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
ALL_SIGNS = list(itertools.product((-1.0, 1.0), repeat=3))
SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    found = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        found = turn @ found
    return found


def numbers(kind: str, size: tuple[int, ...], seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    if kind[0] == "f":
        return random.normal(scale=1e3, size=size).astype(kind)
    limits = np.iinfo(kind)
    # float64 holds what SimpleITK's writer is told, and our reader keeps 64 bits as they are
    return random.integers(limits.min, limits.max, size, dtype=kind, endpoint=True)


@st.composite
def images(draw: st.DrawFn) -> sitk.Image:
    """An image of two or three dimensions as SimpleITK has it, of any type, place and orientation."""
    n = draw(st.sampled_from((3, 3, 2)))
    size = tuple(draw(st.integers(1, 6)) for _ in range(n))
    image = sitk.GetImageFromArray(numbers(draw(st.sampled_from(KINDS)), size, draw(st.integers(0, 999))))
    order = draw(st.permutations(range(n)))
    turn = np.diag(draw(st.sampled_from(ALL_SIGNS)))[:n, :n][order]
    if n == 3:
        turn = turn @ rotation(draw(st.tuples(*[st.floats(-0.5, 0.5)] * 3)))
    image.SetDirection(turn.ravel().tolist())
    image.SetSpacing([draw(st.floats(1e-3, 50)) for _ in range(n)])
    image.SetOrigin([draw(st.floats(-500, 500)) for _ in range(n)])
    return image


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(images(), st.sampled_from(SUFFIXES), st.booleans())
def test_what_itk_wrote_is_read_as_itk_reads_it(image: sitk.Image, suffix: str, packed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"image{suffix}"
        sitk.WriteImage(image, str(path), useCompression=packed)
        ours, theirs = read_container(path), sitk.ReadImage(str(path))
    data, _ = from_sitk(theirs)
    assert ours.data.dtype == data.dtype and ours.dimension == theirs.GetDimension()
    np.testing.assert_array_equal(ours.data, data)
    np.testing.assert_allclose(ours.grid.affine, grid_from_sitk(theirs).affine, rtol=1e-9, atol=1e-9)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(images(), st.sampled_from((".mha", ".nrrd")))
def test_itk_reads_what_is_written_here(image: sitk.Image, suffix: str) -> None:
    data, grid = from_sitk(image)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"image{suffix}"
        write(data, grid, path, form=Form(dimension=image.GetDimension()))
        theirs, ours = sitk.ReadImage(str(path)), read(path)
    seen, _ = from_sitk(theirs)
    assert seen.dtype == data.dtype
    np.testing.assert_array_equal(seen, data)
    np.testing.assert_array_equal(ours.data, read(image).data)
    np.testing.assert_allclose(grid_from_sitk(theirs).affine, grid.affine, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.grid.affine, grid.affine, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("packed", [False, True])
def test_vectors_are_read_as_itk_reads_them(tmp_path: Path, suffix: str, packed: bool) -> None:
    vectors = numbers("f4", (4, 5, 6, 3), 3)
    path = tmp_path / f"field{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(vectors, isVector=True), str(path), useCompression=packed)
    np.testing.assert_array_equal(read_container(path, vectors=True).data, vectors.T)


def plain_mha(path: Path, *lines: str, content: bytes = bytes(range(24))) -> Path:
    usual = {
        "ObjectType": "Image",
        "NDims": "3",
        "Offset": "0 0 0",
        "ElementSpacing": "1 1 1",
        "DimSize": "2 3 4",
        "ElementType": "MET_UCHAR",
    }
    said = dict(line.split(" = ", 1) for line in lines)
    last = said.pop("ElementDataFile", "LOCAL")
    text = "".join(f"{name} = {value}\n" for name, value in {**usual, **said}.items() if value)
    path.write_bytes(f"{text}ElementDataFile = {last}\n".encode() + content)
    return path


@pytest.mark.parametrize(
    "lines",
    [
        ("Position = 1 2 3", "Offset = "),
        ("Origin = 1 2 3", "Offset = "),
        ("ElementSize = 1 1 1", "ElementSpacing = "),
        ("Rotation = 0 1 0 1 0 0 0 0 1",),
        ("Orientation = 0 1 0 1 0 0 0 0 -1",),
        ("ElementSize = 0.5 0.5 0.5", "ElementSpacing = 2 2 2"),
        ("ElementType = MET_LONG", "DimSize = 1 2 3"),
        ("ElementType = MET_USHORT", "DimSize = 1 3 4", "ElementByteOrderMSB = True"),
        ("ElementType = MET_FLOAT", "DimSize = 1 3 2", "BinaryDataByteOrderMSB = True"),
        ("HeaderSize = -1",),
        ("Comment = anything = at all",),
        ("ElementNumberOfChannels = 1", "AnatomicalOrientation = RAI", "CenterOfRotation = 0 0 0"),
    ],
)
def test_metaimage_headers_mean_what_they_mean_to_itk(tmp_path: Path, lines: tuple[str, ...]) -> None:
    path = plain_mha(tmp_path / "image.mha", *lines)
    data, grid = from_sitk(sitk.ReadImage(str(path)))
    found = read_container(path)
    np.testing.assert_array_equal(found.data, data)
    np.testing.assert_allclose(found.grid.affine, grid.affine)


@pytest.mark.parametrize("named", ["part%d.raw 1 4 1", "part%02d.raw 1 7 2", "LIST", "LIST 2D"])
def test_slices_in_files_of_their_own_are_read_as_itk_reads_them(tmp_path: Path, named: str) -> None:
    slices = [bytes(range(6 * n, 6 * n + 6)) for n in range(4)]
    names = [f"part{n}.raw" for n in range(1, 5)]
    if "%02d" in named:
        names = [f"part{n:02d}.raw" for n in range(1, 8, 2)]
    for name, content in zip(names, slices, strict=True):
        (tmp_path / name).write_bytes(content)
    listed = "".join(f"{name}\n" for name in names).encode() if named.startswith("LIST") else b""
    path = plain_mha(tmp_path / "image.mhd", f"ElementDataFile = {named}", content=listed)
    expected = np.frombuffer(b"".join(slices), np.uint8).reshape((2, 3, 4), order="F")
    np.testing.assert_array_equal(read(path).data, expected)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T, expected)


NRRD = """NRRD0004
# made by hand
type: {type}
dimension: 3
space: {space}
sizes: 2 3 4
space directions: (1.5,0,0) (0,2,0) (0,0,3)
kinds: domain domain domain
endian: {endian}
encoding: raw
space origin: (1,2,3)
{more}
"""


@pytest.mark.parametrize("space", ["left-posterior-superior", "RAS", "left-anterior-superior", "LPS"])
@pytest.mark.parametrize("kind", [("int16", "big"), ("uchar", "little"), ("double", "little"), ("longlong", "big")])
def test_nrrd_headers_mean_what_they_mean_to_itk(tmp_path: Path, space: str, kind: tuple[str, str]) -> None:
    sizes = {"int16": 2, "uchar": 1, "double": 8, "longlong": 8}
    text = NRRD.format(type=kind[0], space=space, endian=kind[1], more="key:=value\n")
    content = np.random.default_rng(1).integers(0, 100, 24 * sizes[kind[0]], dtype=np.uint8).tobytes()
    path = tmp_path / "image.nrrd"
    path.write_bytes(text.encode() + content)
    data, grid = from_sitk(sitk.ReadImage(str(path)))
    found = read_container(path)
    np.testing.assert_array_equal(found.data, data)
    np.testing.assert_allclose(found.grid.affine, grid.affine)


@pytest.mark.parametrize(("unit", "mm"), [("um", 0.001), ("µm", 0.001), ("cm", 10.0), ("m", 1000.0), ("mm", 1.0)])
def test_units_of_a_space_are_converted_to_mm(tmp_path: Path, unit: str, mm: float) -> None:
    more = f'space units: "{unit}" "{unit}" "{unit}"\n'
    text = NRRD.format(type="uchar", space="right-anterior-superior", endian="little", more=more)
    path = tmp_path / "image.nrrd"
    path.write_bytes(text.encode() + bytes(24))
    expected = np.diag([1.5, 2, 3, 1.0])
    expected[:3, 3] = 1, 2, 3
    expected[:3] *= mm
    np.testing.assert_allclose(read(path).grid.affine, expected)


def test_equal_images_make_equal_files(tmp_path: Path) -> None:
    data, grid = numbers("i2", (5, 6, 7), 1), Grid((5, 6, 7), np.eye(4))
    for suffix in (".mha", ".nrrd"):
        write(data, grid, tmp_path / f"a{suffix}")
        write(data, grid, tmp_path / f"b{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
