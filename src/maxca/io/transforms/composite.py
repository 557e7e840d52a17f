"""ITK's composite transforms in HDF5: affines and displacement fields, one after the other."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import h5py  # type: ignore[import-untyped, unused-ignore]

from maxca.geometry import Affine, Chain
from maxca.io.hdf5 import read_guarded, read_trusted
from maxca.io.transforms.parts import Part, itk_part, written_dimension

CHUNK = 1 << 18  # numbers that HDF5 compresses at a time
# HDF5 ignores what follows its own end of a file. A flipped bit in a header is noticed by this only.
SEAL = b"\nSHA-256 of all bytes before this line: "
SEAL_SIZE = len(SEAL) + 64 + 1


def parse_composite(content: bytes) -> list[Part]:
    """The parts of a transform in HDF5, in the order of the file.

    A file that ends with its SHA-256, as ours do, is held against it, and any other is read in a process of its own.

    Raises:
        ValueError: for content that is damaged, not what ITK writes, or refers to other files.
    """
    body, seal = content[:-SEAL_SIZE], content[-SEAL_SIZE:]
    sealed = seal.startswith(SEAL)
    if sealed and seal != _seal(body):
        raise ValueError("damaged: it differs from what was written (SHA-256)")
    return [Part(*each) for each in (read_trusted(body) if sealed else read_guarded(content))]


def write_composite(chain: Chain, path: Path) -> None:
    """Through h5py: ITK's own writer stores float64 fields uncompressed, and equal transforms as unequal files.

    HDF5 crashes the process when the disc fills, so the file is made in memory.
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
            file.create_dataset(f"{group}/TransformFixedParameters", data=fixed)
            chunks = (min(CHUNK, parameters.size),)
            file.create_dataset(
                f"{group}/TransformParameters", data=parameters, chunks=chunks, compression="gzip", compression_opts=1,
                shuffle=True, fletcher32=True,
            )  # fmt: skip
    body = buffer.getvalue()
    path.write_bytes(body + _seal(body))


def _seal(body: bytes) -> bytes:
    return SEAL + hashlib.sha256(body).hexdigest().encode() + b"\n"


def _put_text(file: h5py.File, name: str, text: str) -> None:
    file.create_dataset(name, data=[text], dtype=h5py.string_dtype("ascii"))
