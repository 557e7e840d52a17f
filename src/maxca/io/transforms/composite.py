"""ITK's composite transforms in HDF5: sequences of affines and displacement fields."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import h5py  # type: ignore[import-untyped, unused-ignore]

from maxca.geometry import Affine, Chain
from maxca.io.hdf5 import put_dataset, read_guarded, read_trusted
from maxca.io.transforms.parts import Part, itk_part, written_dimension

CHUNK = 1 << 18  # numbers per HDF5 chunk
# HDF5 ignores data after its own end of a file. Only this checksum detects a flipped bit in a header.
SEAL = b"\nSHA-256 of all bytes before this line: "
SEAL_SIZE = len(SEAL) + 64 + 1


def parse_composite(content: bytes) -> list[Part]:
    """The parts of a transform in HDF5, in the order of the file.

    A file that ends with its SHA-256, as ours do, is verified; any other is read in a separate process.

    Raises:
        ValueError: for content that is damaged, not what ITK writes, or refers to other files.
    """
    body, seal = content[:-SEAL_SIZE], content[-SEAL_SIZE:]
    verified = seal.startswith(SEAL)
    if verified and seal != _seal(body):
        raise ValueError("damaged: its content does not match its SHA-256")
    return [Part(*each) for each in (read_trusted(body) if verified else read_guarded(content))]


def write_composite(chain: Chain, path: Path) -> None:
    """Write with h5py: ITK's writer stores float64 fields uncompressed, and equal transforms as different files.

    HDF5 crashes the process if the disk is full, so the file is created in memory.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        _put_text(file, "ITKVersion", "5.4.0")
        _put_text(file, "HDFVersion", h5py.version.hdf5_version)
        n = written_dimension(chain)
        _put_text(file, "TransformGroup/0/TransformType", f"CompositeTransform_double_{n}_{n}")
        # ITK applies the last transform of a composite first.
        for number, step in enumerate(reversed(chain.steps or (Affine.identity(),)), start=1):
            kind, fixed, parameters = itk_part(step, n)
            group = f"TransformGroup/{number}"
            _put_text(file, f"{group}/TransformType", kind)
            put_dataset(file, f"{group}/TransformFixedParameters", data=fixed)
            chunks = (min(CHUNK, parameters.size),)
            packed = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True}
            put_dataset(file, f"{group}/TransformParameters", data=parameters, chunks=chunks, **packed)
    path.write_bytes(sealed(buffer.getvalue()))


def sealed(body: bytes) -> bytes:
    """The content of an HDF5 file with the line that holds its checksum."""
    return body + _seal(body)


def _seal(body: bytes) -> bytes:
    return SEAL + hashlib.sha256(body).hexdigest().encode() + b"\n"


def _put_text(file: h5py.File, name: str, text: str) -> None:
    put_dataset(file, name, data=[text], dtype=h5py.string_dtype("ascii"))
