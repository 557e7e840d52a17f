"""ITK's composite transforms in HDF5: affines and displacement fields, one after the other."""

from __future__ import annotations

import io
from pathlib import Path

import h5py  # type: ignore[import-untyped, unused-ignore]

from maxca.geometry import Affine, Chain
from maxca.io.transforms.parts import itk_parameters

CHUNK = 1 << 18  # numbers that HDF5 compresses at a time


def write_composite(chain: Chain, path: Path) -> None:
    """Through h5py: ITK's own writer stores float64 fields uncompressed, and equal transforms as unequal files.

    HDF5 crashes the process when the disc fills, so the file is made in memory.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        _put_text(file, "ITKVersion", "5.4.0")
        _put_text(file, "HDFVersion", h5py.version.hdf5_version)
        _put_text(file, "TransformGroup/0/TransformType", "CompositeTransform_double_3_3")
        # ITK applies the last transform of a composite first.
        for number, step in enumerate(reversed(chain.steps or (Affine.identity(),)), start=1):
            kind, fixed, parameters = itk_parameters(step)
            group = f"TransformGroup/{number}"
            _put_text(file, f"{group}/TransformType", f"{kind}_double_3_3")
            file.create_dataset(f"{group}/TransformFixedParameters", data=fixed)
            chunks = (min(CHUNK, parameters.size),)
            file.create_dataset(
                f"{group}/TransformParameters", data=parameters, chunks=chunks, compression="gzip", compression_opts=1,
                shuffle=True,
            )  # fmt: skip
    path.write_bytes(buffer.getbuffer())


def _put_text(file: h5py.File, name: str, text: str) -> None:
    file.create_dataset(name, data=[text], dtype=h5py.string_dtype("ascii"))
