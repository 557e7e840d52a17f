"""Files of images as they are stored: what they hold is told by their content, and gzip's checksums are verified."""

from __future__ import annotations

import errno
import gzip
import io
from pathlib import Path
from typing import Any

from nibabel.fileholders import FileHolder

from maxca.errors import MaxcaError
from maxca.io.regular import check_regular, read_bytes

GZIP = b"\x1f\x8b"
BLOCK = 1 << 20
# A stream may hold more than the header claims: FreeSurfer's tags, padding. Beyond this much more it is damaged.
LARGEST_REST = 64 << 20
# How files begin that are given the name of another kind: what they are, and what to do.
FOREIGN = (
    (0, b"NRRD0", "an NRRD image; name it .nrrd"),
    (0, b"ObjectType", "a MetaImage; name it .mha"),
    (0, b"NDims", "a MetaImage; name it .mha"),
    (128, b"DICM", "a DICOM file; pass the folder that holds its series"),
    (0, b"\x89HDF", "an HDF5 file (MINC, or a transform); convert it to NIfTI"),
    (0, b"BZh", "compressed by bzip2, which is not read; unpack it with bunzip2"),
    (0, b"\xfd7zXZ", "compressed by xz, which is not read; unpack it with unxz"),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd, which is not read; unpack it with unzstd"),
    (0, b"PK\x03\x04", "a ZIP archive; unpack it"),
    (0, b"version https://git-lfs", "a Git LFS pointer; fetch the file with git lfs pull"),
    (0, b"<!DOCTYPE", "a web page; download the file again"),
    (0, b"<html", "a web page; download the file again"),
    (0, GZIP, "compressed twice; unpack it once with gunzip"),
)


def is_gzip(path: Path) -> bool:
    """Whether a regular file begins as gzip's do, whatever its name.

    Raises:
        MaxcaError: for a file that is missing, not regular, or cannot be read.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            return file.read(len(GZIP)) == GZIP
    except OSError as error:
        raise MaxcaError(f"{path}: cannot be read; check its permissions") from error


def holder(path: Path) -> FileHolder:
    """A file for nibabel, unpacked on the way where its content is gzip's.

    Raises:
        MaxcaError: as ``is_gzip``.
    """
    if not is_gzip(path):
        # Under another name nibabel would take it for compressed.
        packed_name = path.suffix.lower() in (".gz", ".mgz", ".bz2", ".zst")
        return FileHolder(str(path), io.BytesIO(read_bytes(path)) if packed_name else None)
    # Python's reader verifies CRC-32 and length of each member, and refuses what follows the last one.
    return FileHolder(str(path), gzip.open(path))


def beginning(file: FileHolder, size: int = 1024) -> bytes:
    """The first bytes of a file's content.

    Raises:
        OSError, EOFError, zlib.error: for damaged content.
    """
    with file.get_prepare_fileobj("rb") as stream:
        return bytes(stream.read(size))


def foreign(content: bytes) -> str | None:
    """What a file is by its first bytes, and what to do with it; None where nothing is recognised."""
    return next((what for at, mark, what in FOREIGN if content[at : at + len(mark)] == mark), None)


def read_to_end(image: Any) -> None:
    """Verify the checksums of the compressed files that an image of nibabel is read from.

    Args:
        image: of nibabel; its voxels have been read where this package opened it.

    Raises:
        OSError, EOFError, zlib.error: for a checksum or a length that does not fit, or much more than the image needs.
        MaxcaError: for a file that is not there any more.
    """
    for file in image.file_map.values():
        if isinstance(file.fileobj, gzip.GzipFile):
            _drain(file.fileobj)
        elif file.fileobj is None and file.filename and is_gzip(Path(file.filename)):
            with gzip.open(file.filename) as stream:
                _drain(stream, 1 << 62)


def check_written(path: Path, size: int, packed: bool | None = None) -> None:
    """Read back whether a file of this package is whole: its length, or the one that ends a gzip stream.

    Args:
        path: what was written.
        size: bytes of its content, before compression.
        packed: it ends with a gzip stream; by default where it begins with one.

    Raises:
        OSError: when less lies there, as on a full disc or a network drive.
    """
    stored = path.stat().st_size
    with path.open("rb") as file:
        packed = file.read(len(GZIP)) == GZIP if packed is None else packed
        file.seek(max(0, stored - 4))
        ending = int.from_bytes(file.read(4), "little")
    if (ending != size % (1 << 32)) if packed else (stored != size):
        raise OSError(errno.EIO, "what was written is not what is there; is the disc full?")


def _drain(stream: gzip.GzipFile, limit: int = LARGEST_REST) -> None:
    while block := stream.read(BLOCK):
        limit -= len(block)
        if limit < 0:
            raise EOFError("the stream holds much more than the image")
