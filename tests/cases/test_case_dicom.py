"""DICOM slices hold what GDCM reads of them; a damaged, truncated or strange one is refused and never left out."""

from __future__ import annotations

import locale
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from maxca.errors import MaxcaError
from maxca.io.images import read

SIZE, COUNT = (32, 24), 4  # columns and rows; slices
Edit = Callable[[Dataset, int], Any]


@pytest.fixture(autouse=True)
def decimal_sign() -> Iterator[None]:
    """ITK leaves the locale changed where it has read or written DICOM."""
    spoken = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, spoken)


def keep(_: Dataset, __: int) -> None:
    """No edit."""


def series(
    folder: Path, edit: Edit = keep, kind: str = "<i2", stored: int = 16, syntax: str = ExplicitVRLittleEndian
) -> Path:
    """A series of CT slices 2.5 mm apart, each as ``edit`` leaves it.

    Args:
        folder: where to.
        edit: what changes the tags of a slice, given its number.
        kind: the type of a value.
        stored: bits of a value that are used.
        syntax: the transfer syntax.
    """
    folder.mkdir(exist_ok=True)
    dtype = np.dtype(kind)
    signed = dtype.kind == "i"
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if signed else (0, 2**stored - 1)
    random = np.random.default_rng(2)
    uid = "1.2.826.0.1.3680043.8.498.77"
    for number in range(COUNT):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, CTImageStorage
        meta.MediaStorageSOPInstanceUID = f"{uid}.{number}"
        order = {"is_implicit_VR": syntax == ImplicitVRLittleEndian, "is_little_endian": syntax != ExplicitVRBigEndian}
        tags = FileDataset(str(folder), {}, file_meta=meta, preamble=b"\0" * 128, **order)
        tags.SOPClassUID, tags.SOPInstanceUID = CTImageStorage, f"{uid}.{number}"
        tags.StudyInstanceUID, tags.SeriesInstanceUID, tags.FrameOfReferenceUID = f"{uid}.8", uid, f"{uid}.9"
        tags.Modality, tags.PatientID, tags.InstanceNumber = "CT", "phantom", number + 1
        tags.ImagePositionPatient, tags.ImageOrientationPatient = [1.0, 2.0, 2.5 * number], [1, 0, 0, 0, 1, 0]
        tags.PixelSpacing, tags.SliceThickness = [0.75, 0.5], 2.5
        tags.Columns, tags.Rows = SIZE
        tags.SamplesPerPixel, tags.PhotometricInterpretation = 1, "MONOCHROME2"
        tags.BitsAllocated, tags.BitsStored, tags.HighBit = 8 * dtype.itemsize, stored, stored - 1
        tags.PixelRepresentation = int(signed)
        values = random.integers(low, high, SIZE[::-1], endpoint=True)
        values.flat[:2] = low, high
        tags.PixelData = values.astype(dtype).tobytes()
        tags["PixelData"].VR = "OB" if dtype.itemsize == 1 else "OW"
        edit(tags, number)
        if syntax == RLELossless:
            meta.TransferSyntaxUID = ExplicitVRLittleEndian
            tags.compress(RLELossless)
        tags.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder


def as_gdcm(folder: Path) -> np.ndarray:
    """(I, J, K) values as SimpleITK reads the files in their order."""
    return sitk.GetArrayFromImage(sitk.ReadImage([str(folder / f"{n}.dcm") for n in range(COUNT)])).T


def refusal(folder: Path) -> str:
    with pytest.raises(MaxcaError) as caught:
        read(folder)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500 and message.startswith(str(folder))
    return message


def scaled(slope: str, inter: str) -> Edit:
    def edit(tags: Dataset, _: int) -> None:
        tags.RescaleSlope, tags.RescaleIntercept = slope, inter

    return edit


STORED = (("u1", 8), ("i2", 16), ("u2", 12), ("i2", 12), ("u2", 16))
SCALES = (("1", "0"), ("1", "-1024"), ("0.5", "3"), ("-2", "7"))
KINDS = [
    *((ExplicitVRLittleEndian, *stored, *scale) for stored in STORED for scale in SCALES),
    *((ImplicitVRLittleEndian, *stored, *SCALES[1]) for stored in STORED),
    *((ExplicitVRBigEndian, *stored, *SCALES[2]) for stored in STORED[1:]),  # bytes are swapped in pairs there
    *((RLELossless, *stored, *SCALES[n % 4]) for n, stored in enumerate(STORED)),
]


@pytest.mark.parametrize(("syntax", "kind", "stored", "slope", "inter"), KINDS)
def test_values_are_those_of_gdcm(tmp_path: Path, syntax: str, kind: str, stored: int, slope: str, inter: str) -> None:
    if syntax == ExplicitVRBigEndian:
        kind = f">{kind}"
    folder = series(tmp_path / "ct", scaled(slope, inter), kind, stored, syntax)
    image = read(folder)
    np.testing.assert_array_equal(image.data, as_gdcm(folder))
    np.testing.assert_allclose(image.grid.spacing, (0.5, 0.75, 2.5))
    np.testing.assert_allclose(image.grid.origin, (-1, -2, 0))


def test_slices_scaled_each_in_its_own_way_keep_their_values(tmp_path: Path) -> None:
    def edit(tags: Dataset, number: int) -> None:
        tags.RescaleSlope, tags.RescaleIntercept = f"{0.1 * (number + 1):.1f}", "0"

    folder = series(tmp_path / "pet", edit, "<u2")
    np.testing.assert_allclose(read(folder).data, as_gdcm(folder), rtol=1e-6)


def test_what_itk_compresses_is_read_back(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct")
    expected = read(folder).data
    for path in folder.iterdir():
        image = sitk.ReadImage(str(path))
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetUseCompression(True)
        writer.SetFileName(str(path))
        writer.Execute(image)
    assert dcmread(folder / "0.dcm").file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(read(folder).data, expected)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
@pytest.mark.parametrize("number", range(COUNT))
def test_a_truncated_slice_is_never_left_out(tmp_path: Path, number: int, syntax: str) -> None:
    folder = series(tmp_path / "ct", syntax=syntax)
    path = folder / f"{number}.dcm"
    whole = path.read_bytes()
    for size in (0, 1, 100, 131, 132, 133, 200, 400, len(whole) // 2, len(whole) - 70, len(whole) - 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert "truncated" in refusal(folder)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_damaged_slice_is_read_whole_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = series(tmp_path_factory.mktemp("damaged") / "ct")
    path = folder / f"{data.draw(st.integers(0, COUNT - 1))}.dcm"
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(128, len(content) - 1))
        piece = data.draw(st.binary(min_size=1, max_size=6))
        how = data.draw(st.sampled_from(("set", "insert", "drop")))
        content[at : at + (0 if how == "insert" else len(piece))] = b"" if how == "drop" else piece
    path.write_bytes(content)
    try:
        assert read(folder).data.shape == (*SIZE, COUNT)
    except MaxcaError as error:
        message = str(error)
        assert message.startswith(str(folder)) and "\n" not in message and len(message) < 500


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"Rows": 60000, "Columns": 60000}, "claims"),
        ({"NumberOfFrames": 9}, "multi-frame"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colours"),
        ({"ImagePositionPatient": None}, "has no position"),
        ({"PixelSpacing": [0, 1]}, "damaged"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "damaged"),
        ({"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]}, "differ in orientation"),
        ({"PixelSpacing": [0.5, 0.75]}, "differ in spacing"),
        ({"PatientID": "another"}, "another patient"),
        ({"ImagePositionPatient": [4.0, 2.0, 2.5]}, "shifted laterally"),
        ({"RescaleSlope": "0"}, "damaged"),
        ({"BitsStored": 0}, "damaged"),
    ],
)
def test_a_strange_slice_is_refused(tmp_path: Path, tags: dict[str, Any], words: str) -> None:
    def edit(found: Dataset, number: int) -> None:
        for name, value in tags.items() if number == 1 else ():
            setattr(found, name, value)

    assert words in refusal(series(tmp_path / "ct", edit))


def test_a_missing_slice_is_noticed_at_five_micrometres_too(tmp_path: Path) -> None:
    def edit(tags: Dataset, number: int) -> None:
        tags.PixelSpacing = [0.005, 0.005]
        tags.ImagePositionPatient = [0, 0, 0.005 * (number + (number > 1))]

    assert "unevenly spaced (0.00500 to 0.0100 mm apart)" in refusal(series(tmp_path / "ct", edit))


def test_what_lies_next_to_a_series_does_not_disturb_it(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct")
    expected = read(folder).data
    (folder / "notes.txt").write_text("of the scan")
    (folder / ".DS_Store").write_bytes(b"\0" * 40)
    (folder / "more").mkdir()
    os.mkfifo(folder / "pipe")
    np.testing.assert_array_equal(read(folder).data, expected)


def test_names_that_are_no_utf8_are_read(tmp_path: Path) -> None:
    for syntax in (ExplicitVRLittleEndian, RLELossless):
        plain = series(tmp_path / "ct", syntax=syntax)
        strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/D\xe9"))
        shutil.copytree(plain, strange)
        np.testing.assert_array_equal(read(strange).data, read(plain).data)
        shutil.rmtree(strange)


SMALL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (700 << 20, 700 << 20))
from maxca.errors import MaxcaError
from maxca.io.images import read
try:
    read(sys.argv[1])
except MaxcaError as error:
    print(error)
"""


def test_fifteen_kilobytes_do_not_take_gigabytes(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct", syntax=RLELossless)
    for path in folder.iterdir():
        tags = dcmread(path)
        tags.Rows = tags.Columns = 30000
        tags.save_as(path)
    command = [sys.executable, "-c", SMALL, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and done.stdout.startswith(str(folder)) and done.stdout.count("\n") == 1, done.stderr
