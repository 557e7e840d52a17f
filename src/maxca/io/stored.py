"""Image files on disk: detection of their kind by content, and verification of gzip checksums."""

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
# A stream may contain more than the header claims (FreeSurfer's tags, padding), up to this number of bytes.
LARGEST_REST = 64 << 20
# First bytes of files with the suffix of another kind: what they are, and what to do.
FOREIGN = (
    (0, b"NRRD0", "an NRRD image; rename it to .nrrd"),
    (0, b"ObjectType", "a MetaImage; rename it to .mha"),
    (0, b"NDims", "a MetaImage; rename it to .mha"),
    (128, b"DICM", "a DICOM file; rename it to .dcm, or pass the folder that holds its series"),
    (0, b"\x89HDF", "an HDF5 file (MINC, or a transform); convert it to NIfTI"),
    (0, b"BZh", "compressed by bzip2, which is not supported; unpack it with bunzip2"),
    (0, b"\xfd7zXZ", "compressed by xz, which is not supported; unpack it with unxz"),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd, which is not supported; unpack it with unzstd"),
    (0, b"PK\x03\x04", "a ZIP archive; unpack it"),
    (0, b"version https://git-lfs", "a Git LFS pointer; fetch the file with git lfs pull"),
    (0, b"<!DOCTYPE", "a web page; download the file again"),
    (0, b"<html", "a web page; download the file again"),
    (0, GZIP, "compressed twice; unpack it once with gunzip"),
)


def is_gzip(path: Path) -> bool:
    """Whether a regular file has the first bytes of a gzip stream, regardless of its name.

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
    """A file for nibabel, decompressed while reading if its content is a gzip stream.

    Raises:
        MaxcaError: as ``is_gzip``.
    """
    if not is_gzip(path):
        # With the name of the file nibabel would assume that it is compressed.
        packed_name = path.suffix.lower() in (".gz", ".mgz", ".bz2", ".zst")
        return FileHolder(str(path), io.BytesIO(read_bytes(path)) if packed_name else None)
    # Python's reader verifies CRC-32 and length of each member, and rejects data after the last one.
    return FileHolder(str(path), gzip.open(path))


def beginning(file: FileHolder, size: int = 1024) -> bytes:
    """The first bytes of a file's content.

    Raises:
        OSError, EOFError, zlib.error: for damaged content.
    """
    with file.get_prepare_fileobj("rb") as stream:
        return bytes(stream.read(size))


def foreign(content: bytes) -> str | None:
    """The kind of a file by its first bytes, and what to do with it; None if unknown."""
    return next((what for at, mark, what in FOREIGN if content[at : at + len(mark)] == mark), None)


def read_to_end(image: Any) -> None:
    """Verify the checksums of the compressed files of a nibabel image.

    Args:
        image: of nibabel; if opened by this package, its voxels have been read.

    Raises:
        OSError, EOFError, zlib.error: for a wrong checksum or length, or much more data than the image needs.
        MaxcaError: for a file that no longer exists.
    """
    for file in image.file_map.values():
        if isinstance(file.fileobj, gzip.GzipFile):
            drain(file.fileobj)
        elif file.fileobj is None and file.filename and is_gzip(Path(file.filename)):
            with gzip.open(file.filename) as stream:
                drain(stream, 1 << 62)


def check_written(path: Path, size: int, packed: bool | None = None) -> None:
    """Verify that a written file is complete: by its length, or the length at the end of a gzip stream.

    Args:
        path: the written file.
        size: bytes of its content, before compression.
        packed: whether it ends with a gzip stream; by default if it begins with one.

    Raises:
        OSError: if it is incomplete, as on a full disk or a network drive.
    """
    stored = path.stat().st_size
    with path.open("rb") as file:
        packed = file.read(len(GZIP)) == GZIP if packed is None else packed
        file.seek(max(0, stored - 4))
        ending = int.from_bytes(file.read(4), "little")
    if (ending != size % (1 << 32)) if packed else (stored != size):
        raise OSError(errno.EIO, "the written file is incomplete; is the disk full?")


def drain(stream: gzip.GzipFile, limit: int = LARGEST_REST) -> None:
    """Read a gzip stream to its end, where its checksum is verified.

    Raises:
        OSError, EOFError, zlib.error: for a wrong checksum or length, or more than ``limit`` bytes.
    """
    while block := stream.read(BLOCK):
        limit -= len(block)
        if limit < 0:
            raise EOFError("the stream contains much more than the image")
