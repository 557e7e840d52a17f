"""One DICOM file: geometry and values of its slice, validated before memory is allocated."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from pydicom import Dataset, config, dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from maxca.errors import MaxcaError
from maxca.io.regular import check_regular

PREAMBLE, MARK, META_GROUP = 128, b"DICM", 2
BARE = (b"\x08\x00\x05\x00", b"\x08\x00\x08\x00", b"\x08\x00\x00\x00")  # first bytes of files without a preamble
VOXELS, UNDEFINED = (0x7FE0, 0x0010), 0xFFFFFFFF
ITEM, END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
WIDTHS = {8: "u1", 16: "u2", 32: "u4"}
# Tags common to all slices of a scan, and further tags used later.
SHARED = {
    "StudyInstanceUID": "study",
    "PatientID": "patient",
    "FrameOfReferenceUID": "frame of reference",
    "Modality": "modality",
    "PhotometricInterpretation": "photometric interpretation",
}
IN_USE = (*SHARED, "SeriesInstanceUID", "SeriesDescription", "NumberOfFrames", "SpacingBetweenSlices", "SliceThickness")
READ_ERRORS = (
    *(ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, NotImplementedError),
    *(EOFError, OSError, LookupError, RecursionError, struct.error, InvalidDicomError),
    BytesLengthException,
)


FRAMES = "PerFrameFunctionalGroupsSequence"
PLACE, SPACING = ("ImagePositionPatient", "ImageOrientationPatient"), "PixelSpacing"


class Frame(NamedTuple):
    """Position and scale of a slice, as in the header.

    Args:
        position: three numbers, LPS mm.
        orientation: six numbers.
        spacing: two numbers, in mm, between rows and between columns.
        scale: slope and intercept of its values.
    """

    position: Sequence[Any]
    orientation: Sequence[Any]
    spacing: Sequence[Any]
    scale: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Slice:
    """A slice as described by its file.

    Args:
        path: its file.
        header: its tags before the voxels.
        size: columns and rows.
        spacing: mm between the centres of columns, and of rows.
        rows: (2, 3) unit vectors, LPS: along a row, along a column.
        position: (3,) of the first voxel, LPS mm.
        scale: slope and intercept of its values.
        start: byte of the file at which its values begin.
        packed: the values are compressed.
        number: of its frame in the file, from 0.
    """

    path: Path
    header: Dataset
    size: tuple[int, int]
    spacing: tuple[float, float]
    rows: np.ndarray
    position: np.ndarray
    scale: tuple[float, float]
    start: int
    packed: bool
    number: int = 0

    @property
    def bits(self) -> tuple[int, int, bool]:
        """Number of bits of a value, position of its lowest bit, and whether it is signed."""
        stored = int(self.header.BitsStored)
        return stored, int(self.header.get("HighBit", stored - 1)) + 1 - stored, bool(self.header.PixelRepresentation)

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value that its bits can represent, scaled."""
        stored, _, signed = self.bits
        low = -(2 ** (stored - 1)) if signed else 0
        ends = [end * self.scale[0] + self.scale[1] for end in (low, low + 2**stored - 1)]
        return min(ends), max(ends)

    def values(self) -> np.ndarray:
        """(I, J) uncompressed values, scaled, in float64, which represents each of them exactly.

        Raises:
            OSError, EOFError: for a file that has changed.
        """
        stored, below, signed = self.bits
        order = ">" if self.header.original_encoding[1] is False else "<"
        dtype = np.dtype(order + WIDTHS[int(self.header.BitsAllocated)])
        count = self.size[0] * self.size[1]
        with self.path.open("rb") as file:
            file.seek(self.start)
            content = file.read(count * dtype.itemsize)
        if len(content) != count * dtype.itemsize:
            raise EOFError
        # Bits other than the stored bits are not part of a value; old scanners kept overlays there.
        values = (np.frombuffer(content, dtype).astype(np.int64) >> below) & (2**stored - 1)
        if signed:
            values = (values ^ 2 ** (stored - 1)) - 2 ** (stored - 1)
        slope, inter = self.scale
        return (values * slope + inter).astype(np.float64).reshape(self.size[::-1]).T


def is_dicom(path: Path) -> bool:
    """Whether a regular file has the first bytes of a DICOM file.

    Raises:
        MaxcaError: for a file that cannot be read.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            content = file.read(PREAMBLE + len(MARK))
    except OSError as error:
        raise MaxcaError(f"{path}: cannot be read; check its permissions") from error
    return content[PREAMBLE:] == MARK or content.startswith(BARE)


class Header(NamedTuple):
    """The tags of a DICOM file before its voxels, and the offset of the voxel element."""

    tags: Dataset
    voxels: int


def read_header(path: Path) -> Header | None:
    """The header of a DICOM file; None if it is not an image but a report, a structure set or a directory.

    Raises:
        MaxcaError: for a file that is damaged.
    """
    try:
        with warnings.catch_warnings(), config.disable_value_validation():
            warnings.simplefilter("ignore")  # of values that violate the standard; those used here are checked
            # Memory-mapped: an element that claims gigabytes does not allocate memory.
            with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
                bare = content[PREAMBLE : PREAMBLE + len(MARK)] != MARK
                if not bare and _syntax(content) == DeflatedExplicitVRLittleEndian:
                    raise MaxcaError(
                        f"{path}: a deflated DICOM file, which is not supported; convert the series with dcm2niix"
                    )
                content.seek(0)
                tags = dcmread(cast(BinaryIO, content), stop_before_pixels=True, force=bare)
                for name in IN_USE:  # decoded here, where warnings about them are not printed
                    tags.get(name)
                at, whole = content.tell(), bool(content.read(1))
            kind = UID(tags.get("SOPClassUID") or tags.file_meta.get("MediaStorageSOPClassUID", ""))
            if not whole:
                if kind.name != kind and "Image" not in kind.name:
                    return None
                raise EOFError
    except READ_ERRORS as error:
        raise damaged(path) from error
    return Header(tags, at)


def _syntax(content: mmap) -> object:
    """The transfer syntax in the file meta information."""
    content.seek(PREAMBLE + len(MARK))
    about = read_dataset(
        cast(BinaryIO, content), False, True, stop_when=lambda tag, _kind, _length: tag >> 16 != META_GROUP
    )
    return about.get("TransferSyntaxUID")


def is_multiframe(header: Header) -> bool:
    """Whether a DICOM file holds several frames, or one that is described like them."""
    return str(header.tags.get("NumberOfFrames") or 1) != "1" or FRAMES in header.tags


def slice_of(path: Path, header: Header) -> Slice:
    """The slice in a DICOM file.

    Raises:
        MaxcaError: for one that is damaged, contains several frames or colours, or has no position.
    """
    if is_multiframe(header):
        raise MaxcaError(
            f"{path}: a multi-frame DICOM file among others; pass this file alone, or keep it in a folder of its own"
        )
    missing = [name for name in (*PLACE, SPACING) if not header.tags.get(name)]
    if missing:
        raise MaxcaError(f"{path}: has no position (no {missing[0]}); export the series with its positions")
    return described(path, header, [placed(header.tags)])[0]


def placed(header: Dataset) -> Frame:
    """Position and scale of a slice at the top level of its header."""
    return Frame(
        header.ImagePositionPatient,
        header.ImageOrientationPatient,
        header.PixelSpacing,
        (real(header.get("RescaleSlope"), 1.0), real(header.get("RescaleIntercept"), 0.0)),
    )


def described(path: Path, header: Header, frames: Sequence[Frame]) -> list[Slice]:
    """The slices in a DICOM file, in the order of the file.

    Raises:
        MaxcaError: for a file that is damaged or contains colours.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _slices(path, header.tags, header.voxels, frames)
    except READ_ERRORS as error:
        raise damaged(path) from error


def _slices(path: Path, header: Dataset, at: int, frames: Sequence[Frame]) -> list[Slice]:
    if int(header.get("SamplesPerPixel", 1)) != 1 or "PALETTE" in str(header.get("PhotometricInterpretation", "")):
        raise MaxcaError(f"{path}: voxels are colours; convert it to one grey value")
    if header.get("ModalityLUTSequence"):
        raise MaxcaError(
            f"{path}: its values need a lookup table (ModalityLUTSequence), which is not supported; convert it"
        )
    size = (int(header.Columns), int(header.Rows))
    stored, allocated = int(header.BitsStored), int(header.BitsAllocated)
    below = int(header.get("HighBit", stored - 1)) + 1 - stored
    syntax = getattr(header.file_meta, "TransferSyntaxUID", None)
    packed = syntax is not None and UID(syntax).is_compressed
    known = allocated in WIDTHS and 1 <= stored <= allocated and 0 <= below <= allocated - stored
    if min(size) < 1 or not known:
        raise ValueError
    bytes_each = size[0] * size[1] * allocated // 8
    start = _start(path, header, at, None if packed else bytes_each * len(frames))
    slices = []
    for number, frame in enumerate(frames):
        numbers = [float(value) for value in (*frame.position, *frame.orientation, *frame.spacing)]
        if len(numbers) != 11 or not np.isfinite([*numbers, *frame.scale]).all():
            raise ValueError
        high, wide = numbers[9:]
        rows = np.reshape(numbers[3:9], (2, 3))
        if min(high, wide) <= 0 or frame.scale[0] == 0 or np.abs(rows @ rows.T - np.eye(2)).max() > 0.01:
            raise ValueError
        begin = start if packed else start + number * bytes_each
        slices.append(
            Slice(path, header, size, (wide, high), rows, np.array(numbers[:3]), frame.scale, begin, packed, number)
        )
    return slices


def _start(path: Path, header: Dataset, at: int, needed: int | None) -> int:
    """Offset of the voxels in the file, which is checked to contain all of them.

    Args:
        path: the file.
        header: its tags.
        at: offset of the voxel element.
        needed: bytes of the voxels, None if they are compressed.
    """
    implicit, little = header.original_encoding
    order = "<" if little else ">"
    stored = path.stat().st_size
    with path.open("rb") as file:
        file.seek(at)
        group, element = struct.unpack(f"{order}HH", file.read(4))
        kind, length = ("OW", *struct.unpack("<I", file.read(4))) if implicit else _explicit(file.read(8), order)
        if (group, element) != VOXELS or kind not in ("OB", "OW"):
            raise ValueError
        start = file.tell()
        if needed is None:
            if length != UNDEFINED:
                raise ValueError
            _walk(file, stored)
            return start
    if length not in (needed, needed + needed % 2) or stored - start < needed:
        held = min(length, max(0, stored - start))
        raise MaxcaError(
            f"{path}: truncated or damaged: its header claims {needed} bytes of voxels, but {held} are stored; copy or "
            "export the series again"
        )
    return start


def _explicit(content: bytes, order: str) -> tuple[str, int]:
    kind, _, length = struct.unpack(f"{order}2sHI", content)
    return kind.decode("latin-1"), length


def _walk(file: BinaryIO, stored: int) -> None:
    """Follow the fragments of compressed voxels to the delimiter at their end."""
    while True:
        mark, length = struct.unpack("<4sI", file.read(8))
        if mark == END:
            return
        if mark != ITEM or file.tell() + length > stored:
            raise ValueError
        file.seek(length, 1)


def real(value: object, usual: float) -> float:
    """The number of a tag, or the usual one without it."""
    return usual if value in (None, "") else float(str(value))


def damaged(path: Path) -> MaxcaError:
    """The error of a file that cannot be read."""
    return MaxcaError(f"{path}: a DICOM file that is truncated or damaged; copy or export the series again")
