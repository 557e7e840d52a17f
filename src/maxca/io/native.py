"""DICOM files and pictures, decoded by ITK's libraries in a process with limits: ``python -m maxca.io.native``.

The decoders of JPEG, PNG and TIFF are native code, and only the header says how large a decompressed stream is.
Their messages are errors here, because they continue after damage. This module imports neither torch nor pydicom.
"""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from maxca.io.limited import grant, run_limited, serve

DICOM = "GDCMImageIO"
SECONDS = 20  # and one more for each 5 MB
COMPLAINT = re.compile(r"corrupt|premature|error|invalid|truncat|fail", re.IGNORECASE)


def decode(paths: list[Path], unpacked: int, library: str = DICOM) -> np.ndarray:
    """The values of images of one size; those of DICOM are scaled according to their headers.

    Args:
        paths: one file an image.
        unpacked: bytes of all their values in float64; the process may use a few times as much.
        library: ITK's name of the reader.

    Returns:
        (K, …), the images in the order of SimpleITK's arrays, of the smallest type that represents all values.

    Raises:
        ValueError: with the reason if a slice cannot be decoded, or the process failed.
    """
    stored = sum(path.stat().st_size for path in paths)
    with _plain_names(paths) as names:
        content = "\0".join([str(unpacked), library, *names]).encode()
        output = run_limited("maxca.io.native", content, SECONDS + stored / 5e6)
    return np.load(io.BytesIO(output), allow_pickle=False)


@contextmanager
def _plain_names(paths: list[Path]) -> Iterator[list[str]]:
    """Paths that SimpleITK accepts: links to files whose names are not UTF-8."""
    names = [str(path.absolute()) for path in paths]
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            links = [Path(folder) / f"{number}.dcm" for number in range(len(paths))]
            for link, name in zip(links, names, strict=True):
                link.symlink_to(name)
            yield [str(link) for link in links]
        return
    yield names


def _process(content: bytes) -> bytes:
    unpacked, library, *names = content.decode().split("\0")
    grant(4 * int(unpacked))
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    with _heard():
        images = [sitk.GetArrayFromImage(_read(name, library)) for name in names]
    if len({values.shape for values in images}) != 1:
        raise ValueError("damaged: decoded slices differ in size")
    buffer = io.BytesIO()
    np.save(buffer, np.stack(images))
    return buffer.getvalue()


def _read(name: str, library: str) -> sitk.Image:
    reader = sitk.ImageFileReader()
    reader.SetFileName(name)
    reader.SetImageIO(library)
    try:
        return reader.Execute()
    except RuntimeError as error:
        raise ValueError("damaged: its compressed voxels cannot be decoded") from error


@contextmanager
def _heard() -> Iterator[None]:
    """Turn messages printed by native code into errors.

    Raises:
        ValueError: for any message.
    """
    saved = [os.dup(stream) for stream in (1, 2)]
    with tempfile.TemporaryFile() as said:
        for stream in (1, 2):
            os.dup2(said.fileno(), stream)
        try:
            yield
        finally:
            for stream, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, stream)
                os.close(copy)
        said.seek(0)
        lines = said.read(1 << 16).decode(errors="replace").splitlines()
    if complaint := next((line.strip() for line in lines if COMPLAINT.search(line)), None):
        raise ValueError(f"damaged: its library reports while decoding its voxels {complaint[:100]!r}")


if __name__ == "__main__":
    sys.exit(serve(_process))
