"""Tractograms written by nibabel and trx-python: points move as ITK moves them, data and headers are read the same."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import trx.trx_file_memmap as trx
from moved_points import bend_to, moved_by_itk
from nibabel.streamlines import Field, TckFile, Tractogram, TrkFile

from maxca.errors import MaxcaError
from maxca.geometry import Affine
from maxca.io.tractograms import part
from maxca.registration.shapes import apply_geometry

LENGTHS = [5, 1, 60, 23, 2, 0, 9]
DRAWN = np.random.default_rng(2)
STREAMLINES = [DRAWN.uniform(-40, 40, (n, 3)).astype(np.float32) for n in LENGTHS]
AFFINES = {
    "RAS": np.array([[1.2, 0, 0, -70], [0, 1.5, 0, -60], [0, 0, 2, -50], [0, 0, 0, 1]]),
    "LAS": np.array([[-1.2, 0, 0, 70], [0, 1.5, 0, -60], [0, 0, 2, -50], [0, 0, 0, 1]]),
    "LPS": np.array([[-1.2, 0, 0, 70], [0, -1.5, 0, 60], [0, 0, 2, -50], [0, 0, 0, 1]]),
    "oblique": np.array([[1.1, -0.4, 0.1, -70], [0.4, 1.4, -0.2, -60], [0, 0.3, 2, -50], [0, 0, 0, 1]]),
}
SIZE = (80, 90, 40)


@pytest.fixture(scope="module")
def transform(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bend_to(tmp_path_factory.mktemp("transform") / "t.h5")


@pytest.fixture(params=[part.AT_ONCE, 7])
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """All points at once, or a few at a time."""
    for module in ("tck", "trk", "trx"):
        monkeypatch.setattr(f"maxca.io.tractograms.{module}.AT_ONCE", request.param)
    return int(request.param)


def trk(path: Path, orientation: str = "RAS") -> Path:
    affine = AFFINES[orientation]
    header = {
        Field.VOXEL_TO_RASMM: affine.astype(np.float32),
        Field.VOXEL_SIZES: np.linalg.norm(affine[:3, :3], axis=0).astype(np.float32),
        Field.DIMENSIONS: np.array(SIZE, np.int16),
        Field.VOXEL_ORDER: "".join(nib.aff2axcodes(affine)),
    }
    lines = [line for line in STREAMLINES if len(line)]
    per_point = {"fa": [line[:, :1] * 2 for line in lines], "colour": [line[:, :3] + 1 for line in lines]}
    per_line = {"weight": np.arange(len(lines), dtype=np.float32)[:, None]}
    content = Tractogram(lines, per_line, per_point, affine_to_rasmm=np.eye(4))
    TrkFile(content, header).save(path)
    return path


@pytest.mark.parametrize("orientation", AFFINES)
def test_trk(tmp_path: Path, transform: Path, at_once: int, orientation: str) -> None:
    source, out = trk(tmp_path / "a.trk", orientation), tmp_path / "b.trk"
    moved = apply_geometry(source, out, transform)
    before, after = nib.streamlines.load(source), nib.streamlines.load(out)
    assert (moved.number, moved.what, moved.warnings) == (len(before.streamlines), "streamlines", ())
    for old, new in zip(before.streamlines, after.streamlines, strict=True):
        np.testing.assert_allclose(new, moved_by_itk(transform, old), atol=1e-3)
    check_data(before.tractogram, after.tractogram)
    assert source.read_bytes()[:1000] == out.read_bytes()[:1000]


def check_data(before: Tractogram, after: Tractogram) -> None:
    assert set(before.data_per_point) == set(after.data_per_point) != set()
    for name, values in before.data_per_point.items():
        np.testing.assert_array_equal(after.data_per_point[name].get_data(), values.get_data())
    np.testing.assert_array_equal(after.data_per_streamline["weight"], before.data_per_streamline["weight"])


@pytest.mark.parametrize("big", [False, True], ids=["little-endian", "big-endian"])
@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
def test_tck(tmp_path: Path, transform: Path, at_once: int, big: bool, double: bool) -> None:
    source, out = tmp_path / "a.tck", tmp_path / "b.tck"
    lines = [line for line in STREAMLINES if len(line)]
    TckFile(Tractogram(lines, affine_to_rasmm=np.eye(4)), {"command_history": "tckgen of nobody"}).save(source)
    if big or double:  # nibabel writes little-endian float32 only
        retyped(source, big, double)
    moved = apply_geometry(source, out, transform)
    assert moved.number == len(lines)
    offset = source.read_bytes().index(b"\nEND\n")
    assert source.read_bytes()[:offset] == out.read_bytes()[:offset]
    assert b"tckgen of nobody" in out.read_bytes()
    if not double:
        after = nib.streamlines.load(out).streamlines
    else:
        rows = np.frombuffer(out.read_bytes()[start_of(out) :], ">f8" if big else "<f8").reshape(-1, 3)
        ends = np.flatnonzero(np.isnan(rows[:, 0]))
        after = [rows[a + 1 : b] for a, b in zip([-1, *ends[:-1]], ends, strict=True)]
        assert np.isinf(rows[-1]).all()
    for old, new in zip(lines, after, strict=True):
        np.testing.assert_allclose(new, moved_by_itk(transform, old), atol=1e-3)


def start_of(path: Path) -> int:
    line = next(line for line in path.read_bytes().split(b"\n") if line.startswith(b"file:"))
    return int(line.split()[-1])


def retyped(path: Path, big: bool, double: bool) -> None:
    content, start = path.read_bytes(), start_of(path)
    kind = f"{'>' if big else '<'}f{8 if double else 4}"
    name = f"Float{64 if double else 32}{'BE' if big else 'LE'}".encode()
    numbers = np.frombuffer(content[start:], "<f4").astype(kind)
    path.write_bytes(content[:start].replace(b"Float32LE", name) + numbers.tobytes())


@pytest.mark.parametrize("packed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_trx(tmp_path: Path, transform: Path, at_once: int, packed: int) -> None:
    source, out = tmp_path / "a.trx", tmp_path / "b.trx"
    image = nib.Nifti1Image(np.zeros(SIZE, np.uint8), AFFINES["oblique"])
    lines = [line for line in STREAMLINES if len(line)]
    per_point = {"fa": [line[:, :1] for line in lines]}
    content = Tractogram(lines, {"weight": np.arange(len(lines))[:, None]}, per_point, affine_to_rasmm=np.eye(4))
    written = trx.TrxFile.from_tractogram(content, reference=image, dtype_dict=types())
    written.groups["left"] = np.array([0, 2], np.uint32)
    trx.save(written, str(source), compression_standard=packed)
    moved = apply_geometry(source, out, transform)
    assert (moved.number, moved.warnings) == (len(lines), ())
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(out) as new:
        assert old.namelist() == new.namelist()
        for name in old.namelist():
            assert name.startswith("positions") or old.read(name) == new.read(name)
            assert old.getinfo(name).compress_type == new.getinfo(name).compress_type
    if packed == zipfile.ZIP_STORED:  # trx-python maps the archive into memory
        after = trx.load(str(out))
        for one, other in zip(lines, after.streamlines, strict=True):
            np.testing.assert_allclose(other, moved_by_itk(transform, one), atol=1e-3)
        assert list(after.groups["left"]) == [0, 2]
        after.close()
    with zipfile.ZipFile(out) as archive:
        rows = np.frombuffer(archive.read("positions.3.float32"), "<f4").reshape(-1, 3)
    np.testing.assert_allclose(rows, moved_by_itk(transform, np.concatenate(lines)), atol=1e-3)


def types() -> dict[str, object]:
    return {
        "positions": np.float32,
        "offsets": np.uint32,
        "dpv": {"fa": np.float32},
        "dps": {"weight": np.float32},
    }


def test_half_precision_is_said(tmp_path: Path) -> None:
    source, out = tmp_path / "a.trx", tmp_path / "b.trx"
    rows = np.concatenate(STREAMLINES).astype(np.float16)
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("header.json", f'{{"NB_VERTICES": {len(rows)}, "NB_STREAMLINES": {len(LENGTHS)}}}')
        archive.writestr("positions.3.float16", rows.tobytes())
    (warning,) = apply_geometry(source, out, Affine(np.diag([1.0, 1, 1, 1]))).warnings
    assert "a.trx: its positions are stored in half precision" in warning
    with zipfile.ZipFile(out) as archive:
        assert archive.read("positions.3.float16") == rows.tobytes()


def test_memory_does_not_grow_with_the_tractogram(tmp_path: Path) -> None:
    shift = np.eye(4)
    shift[0, 3] = 1.0
    peaks = []
    for copies in (2, 20):
        lines = [np.zeros((1000, 3), np.float32)] * (100 * copies)
        TckFile(Tractogram(lines, affine_to_rasmm=np.eye(4))).save(tmp_path / "a.tck")
        tracemalloc.start()
        apply_geometry(tmp_path / "a.tck", tmp_path / "b.tck", Affine(shift))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("a.trk", lambda content: content[:-4], "truncated"),
        ("a.trk", lambda content: content[:1000] + b"\xff\xff\xff\x7f" + content[1004:], "truncated"),
        ("a.trk", lambda content: content[:1000] + b"\xff\xff\xff\xff" + content[1004:], "truncated"),
        ("a.trk", lambda content: content[:500], "not a TRK file|damaged"),
        ("a.trk", lambda content: content[:440] + bytes(64) + content[504:], "does not define its position"),
        ("a.trk", lambda content: content[:988] + b"\x63" + content[989:], "99 streamlines are declared"),
        ("a.tck", lambda content: content[:-12], "truncated"),
        ("a.tck", lambda content: content.replace(b"file: .", b"file: b"), "same file"),
        ("a.tck", lambda content: content[:30], "not a TCK file"),
        ("a.trx", lambda content: content[:-30], "damaged, or of another kind"),
        ("a.trx", lambda content: content.replace(b"positions.3", b"../itions.3"), "names that are not of a TRX"),
        ("101.trx", lambda content: content, "101 points are declared"),
    ],
)
def test_damaged_tractograms_are_refused(tmp_path: Path, name: str, change: object, words: str) -> None:
    source = tmp_path / name
    if name == "a.trk":
        trk(source)
    elif name == "a.tck":
        TckFile(Tractogram(STREAMLINES[:2], affine_to_rasmm=np.eye(4))).save(source)
    else:
        with zipfile.ZipFile(source, "w") as archive:
            archive.writestr(
                "header.json", f'{{"NB_VERTICES": {101 if name == "101.trx" else 100}, "NB_STREAMLINES": 7}}'
            )
            archive.writestr("positions.3.float32", np.zeros((100, 3), np.float32).tobytes())
    source.write_bytes(change(source.read_bytes()))  # type: ignore[operator]
    with pytest.raises(MaxcaError, match=words) as caught:
        apply_geometry(source, tmp_path / f"b{source.suffix}", Affine.identity())
    assert name in str(caught.value) and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]
