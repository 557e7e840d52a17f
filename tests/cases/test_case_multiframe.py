"""Multi-frame DICOM as pydicom writes it and GDCM reads it, single slices, and radiographs."""

from __future__ import annotations

import locale
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
from pydicom import Dataset, Sequence
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
)
from test_case_dicom import series

import maxca
from maxca.errors import MaxcaError
from maxca.io.images import read

SIZE, COUNT = (14, 11), 6  # columns and rows; frames
ROW, COLUMN = np.array([0.8, 0.6, 0]), np.array([0, 0, -1.0])
NORMAL = np.cross(ROW, COLUMN)
START, GAP = np.array([-40.0, 25.5, 60]), 2.5
ORDER = [3, 0, 5, 1, 4, 2]  # of the positions in the file
VALUES = np.random.default_rng(6).integers(0, 4000, (COUNT, *SIZE[::-1])).astype(np.uint16)  # by position
Edit = Callable[[Dataset], Any]


@pytest.fixture(autouse=True)
def decimal_sign() -> Iterator[None]:
    """ITK leaves the locale changed where it has read or written DICOM."""
    spoken = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, spoken)


def blank(kind: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, kind
    meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.5.1"
    tags = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    tags.SOPClassUID, tags.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    tags.StudyInstanceUID, tags.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.5.2", "1.2.826.0.1.3680043.8.498.5.3"
    tags.FrameOfReferenceUID, tags.PatientID, tags.Modality = "1.2.826.0.1.3680043.8.498.5.4", "phantom", "MR"
    tags.Columns, tags.Rows = SIZE
    tags.SamplesPerPixel, tags.PhotometricInterpretation = 1, "MONOCHROME2"
    tags.BitsAllocated, tags.BitsStored, tags.HighBit, tags.PixelRepresentation = 16, 12, 11, 0
    return tags


def item(**tags: Any) -> Sequence:
    found = Dataset()
    for name, value in tags.items():
        setattr(found, name, value)
    return Sequence([found])


def enhanced(path: Path, edit: Edit = lambda tags: None, packed: bool = False, slopes: bool = False) -> Path:
    """An enhanced MR image whose frames are not in the order of their positions, as ``edit`` leaves it."""
    tags = blank(EnhancedMRImageStorage)
    shared = Dataset()
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=[*ROW, *COLUMN])
    shared.PixelMeasuresSequence = item(PixelSpacing=[0.75, 0.5], SliceThickness=GAP)
    if not slopes:
        shared.PixelValueTransformationSequence = item(RescaleSlope="2", RescaleIntercept="-7", RescaleType="US")
    tags.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for place in ORDER:
        group = Dataset()
        group.PlanePositionSequence = item(ImagePositionPatient=(START + place * GAP * NORMAL).round(6).tolist())
        group.FrameContentSequence = item(TemporalPositionIndex=1, InStackPositionNumber=place + 1, StackID="1")
        if slopes:
            group.PixelValueTransformationSequence = item(RescaleSlope=str(1 + place), RescaleIntercept=str(-place))
        groups.append(group)
    tags.PerFrameFunctionalGroupsSequence = Sequence(groups)
    tags.NumberOfFrames = COUNT
    tags.PixelData = VALUES[ORDER].tobytes()
    tags["PixelData"].VR = "OW"
    edit(tags)
    if packed:
        tags.compress(RLELossless)
    tags.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("packed", [False, True], ids=["raw", "RLE"])
def test_frames_are_sorted_by_position_and_lie_where_their_header_says(tmp_path: Path, packed: bool) -> None:
    image = read(enhanced(tmp_path / "mr.dcm", packed=packed))
    assert image.dimension == 3 and image.grid.shape == (*SIZE, COUNT)
    for place in range(COUNT):
        np.testing.assert_array_equal(image.data[:, :, place], VALUES[place].T * 2.0 - 7)
        for column, row in ((0, 0), (13, 10)):
            there = START + place * GAP * NORMAL + column * 0.5 * ROW + row * 0.75 * COLUMN
            np.testing.assert_allclose(
                image.grid.to_world(np.array([column, row, place])) * (-1, -1, 1), there, atol=1e-4
            )


def test_a_file_of_sorted_frames_is_read_as_gdcm_reads_it(tmp_path: Path) -> None:
    def sort(tags: Dataset) -> None:
        groups = tags.PerFrameFunctionalGroupsSequence
        tags.PerFrameFunctionalGroupsSequence = Sequence([groups[ORDER.index(n)] for n in range(COUNT)])
        tags.PixelData = VALUES.tobytes()

    path = enhanced(tmp_path / "mr.dcm", sort)
    theirs, ours = sitk.ReadImage(str(path)), read(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(theirs).T, ours.data)
    itk = ours.to_sitk()
    for name in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(itk, name)(), getattr(theirs, name)(), atol=1e-5)


def test_frames_scaled_each_in_its_own_way(tmp_path: Path) -> None:
    image = read(enhanced(tmp_path / "pet.dcm", slopes=True))
    expected = np.stack([VALUES[n].T * (1.0 + n) - n for n in range(COUNT)], axis=2)
    np.testing.assert_array_equal(image.data, expected)
    with pytest.raises(MaxcaError, match=r"packed\.dcm: its compressed frames are scaled each in its own way"):
        read(enhanced(tmp_path / "packed.dcm", slopes=True, packed=True))


def test_a_folder_with_one_multi_frame_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "mr").mkdir()
    path = enhanced(tmp_path / "mr" / "IM0001")  # without a suffix, as on a disc
    np.testing.assert_array_equal(read(tmp_path / "mr").data, read(path).data)
    (tmp_path / "mr" / "IM0002").write_bytes(path.read_bytes())
    with pytest.raises(MaxcaError, match="a multi-frame DICOM file among others; pass this file alone"):
        read(tmp_path / "mr")


def repeated(name: str, sequence: str, values: list[Any]) -> Edit:
    """Two volumes of three positions."""

    def edit(tags: Dataset) -> None:
        for number, group in enumerate(tags.PerFrameFunctionalGroupsSequence):
            place = START + ORDER[number] % 3 * GAP * NORMAL
            group.PlanePositionSequence = item(ImagePositionPatient=place.tolist())
            setattr(group, sequence, item(**{name: values[ORDER[number] // 3]}))

    return edit


def drop(tags: Dataset) -> None:
    del tags.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence


def moved(tags: Dataset) -> None:
    group = tags.PerFrameFunctionalGroupsSequence[2]  # the last position
    group.PlanePositionSequence = item(ImagePositionPatient=(START + 20 * NORMAL).tolist())


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            repeated("TemporalPositionIndex", "FrameContentSequence", [1, 2]),
            "6 frames at 3 positions, which differ in time",
        ),
        (repeated("DiffusionBValue", "MRDiffusionSequence", [0.0, 1000.0]), "which differ in b-value"),
        (repeated("EffectiveEchoTime", "MREchoSequence", [4.0, 9.0]), "which differ in echo time"),
        (moved, "unevenly spaced"),
        (drop, "frames without a position in the patient"),
        (lambda tags: setattr(tags, "NumberOfFrames", 5), "truncated or damaged"),
        (lambda tags: setattr(tags, "PixelData", tags.PixelData[:-40]), "truncated or damaged: its header claims"),
        (lambda tags: setattr(tags, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.66.4"), "a DICOM segmentation"),
        (lambda tags: setattr(tags, "SamplesPerPixel", 3), "colours"),
    ],
)
def test_frames_that_are_not_one_volume_are_refused(tmp_path: Path, edit: Edit, words: str) -> None:
    path = enhanced(tmp_path / "mr.dcm", edit)
    with pytest.raises(MaxcaError) as caught:
        read(path)
    message = str(caught.value)
    assert words in message and message.startswith(f"{path}: ") and "\n" not in message and len(message) < 500


def test_a_film_without_positions_is_refused(tmp_path: Path) -> None:
    tags = blank(UltrasoundMultiFrameImageStorage)
    tags.NumberOfFrames, tags.PixelData = COUNT, VALUES.tobytes()
    tags["PixelData"].VR = "OW"
    tags.save_as(tmp_path / "us.dcm", enforce_file_format=True)
    with pytest.raises(MaxcaError, match=r"us\.dcm: 6 frames without positions, such as a film"):
        read(tmp_path / "us.dcm")


def test_a_slice_alone_is_an_image_and_one_of_a_series_is_refused(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct")
    with pytest.raises(MaxcaError, match=r"1\.dcm: one slice of a DICOM series; pass the folder .*ct"):
        read(folder / "1.dcm")
    (tmp_path / "alone").mkdir()
    alone = tmp_path / "alone" / "slice"
    alone.write_bytes((folder / "1.dcm").read_bytes())
    image, whole = read(alone), read(folder)
    np.testing.assert_array_equal(image.data[:, :, 0], whole.data[:, :, 1])
    np.testing.assert_allclose(image.grid.origin, whole.grid.to_world(np.array([0, 0, 1])))
    assert image.dimension == 3


def radiograph(path: Path, values: np.ndarray, **more: Any) -> Path:
    tags = blank(DigitalXRayImageStorageForPresentation)
    tags.Rows, tags.Columns = values.shape
    tags.PixelData = values.astype(np.uint16).tobytes()
    tags["PixelData"].VR = "OW"
    for name, value in more.items():
        setattr(tags, name, value)
    tags.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ("tags", "spacing", "words"),
    [
        ({"ImagerPixelSpacing": [0.3, 0.2]}, (0.2, 0.3), "pixel size is that of ImagerPixelSpacing"),
        ({"PixelSpacing": [0.3, 0.2], "ImagerPixelSpacing": [9, 9]}, (0.2, 0.3), "pixel size is that of PixelSpacing"),
        ({}, (1.0, 1.0), "its pixel size is unknown, 1 mm is assumed"),
    ],
)
def test_a_radiograph_is_a_2d_image(
    tmp_path: Path, tags: dict[str, Any], spacing: tuple[float, float], words: str
) -> None:
    image = read(radiograph(tmp_path / "dx.dcm", VALUES[0], **tags))
    assert image.dimension == 2 and image.grid.shape == (*SIZE, 1)
    np.testing.assert_array_equal(image.data[:, :, 0], VALUES[0].T)
    np.testing.assert_allclose(image.grid.spacing[:2], spacing)
    (warning,) = image.warnings
    assert words in warning
    corner = image.to_sitk().TransformIndexToPhysicalPoint((13, 10))
    np.testing.assert_allclose(corner, (13 * spacing[0], 10 * spacing[1]))


def test_two_radiographs_are_registered_in_the_plane(tmp_path: Path) -> None:
    plane = phantoms.grid((1.0, 1.0, 66.0))
    pair = [
        phantoms.image(plane, through).data[:, :, 0].T
        for through in (lambda x: x + np.array([4.0, -3, 0]), lambda x: x)
    ]
    for name, values in zip(("fixed", "moving"), pair, strict=True):
        radiograph(tmp_path / f"{name}.dcm", values, BitsStored=16, HighBit=15, PixelSpacing=[1.0, 1.0])
    result = maxca.register(
        tmp_path / "fixed.dcm", tmp_path / "moving.dcm", transform="rigid", model="none", effort="fast", threads=1
    )
    assert result.warped.dimension == 2 and result.chain.dimension == 2
    moved = result.chain.map_points(np.zeros((1, 3)))[0]
    np.testing.assert_allclose(np.abs(moved), (4, 3, 0), atol=0.2)
