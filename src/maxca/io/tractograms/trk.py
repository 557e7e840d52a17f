"""TrackVis' TRK: points in mm from the corner of an image, by its header, with scalars of points and properties."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from nibabel.streamlines.header import Field
from nibabel.streamlines.tractogram_file import DataError, HeaderError
from nibabel.streamlines.trk import TrkFile, get_affine_trackvis_to_rasmm, header_2_dtype

from maxca.io.tractograms.part import AT_ONCE, Damaged, Map, checked

MOST_SCALARS = 10  # names in the header


def move_trk(source: Path, out: Path, moved: Map) -> tuple[int, tuple[str, ...]]:
    """See ``move_tractogram``; the points keep referring to the image of the header."""
    header, frame = _header(source)
    order = header[Field.ENDIANNESS]
    scalars, properties = int(header[Field.NB_SCALARS_PER_POINT]), int(header[Field.NB_PROPERTIES_PER_STREAMLINE])
    declared = int(header[Field.NB_STREAMLINES])
    if not 0 <= scalars <= MOST_SCALARS or not 0 <= properties <= MOST_SCALARS or declared < 0:
        raise Damaged("the counts in its header are damaged; copy or export it again")
    back = np.linalg.inv(frame)
    with source.open("rb") as file, out.open("wb") as target:
        target.write(file.read(TrkFile.HEADER_SIZE))
        streamlines, held = 0, list[np.ndarray]()
        size = source.stat().st_size

        def flush() -> None:
            if held:
                points = np.concatenate([_points(record, order, scalars, properties) for record in held])
                points = moved(checked(points) @ frame[:3, :3].T + frame[:3, 3])
                points = points @ back[:3, :3].T + back[:3, 3]
                for record in held:
                    rows = _points(record, order, scalars, properties)
                    rows[:], points = points[: len(rows)], points[len(rows) :]
                target.writelines(record.data for record in held)
            held.clear()

        waiting = 0
        while (record := _record(file, order, 3 + scalars, properties, size)) is not None:
            streamlines += 1
            held.append(record)
            waiting += len(record) // (4 * (3 + scalars))
            if waiting > AT_ONCE:
                flush()
                waiting = 0
        flush()
    if declared and streamlines != declared:
        raise Damaged(f"{declared} streamlines are declared, {streamlines} are stored; copy or export it again")
    return streamlines, ()


def _header(source: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Nibabel's header, and (4, 4) from coordinates of the file to world RAS+ mm."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with source.open("rb") as file:  # the header alone: nibabel allocates what a streamline claims
                beginning = file.read(TrkFile.HEADER_SIZE)
            header = TrkFile.load(io.BytesIO(beginning), lazy_load=True).header
        frame = np.array(get_affine_trackvis_to_rasmm(header), dtype=np.float64)
    except (HeaderError, DataError) as error:
        raise Damaged(f"not a TRK file: {str(error).splitlines()[0][:100]}; export it again") from error
    if any("vox_to_ras" in str(each.message) for each in caught):
        raise Damaged("its header does not define its position (vox_to_ras); export it with its image")
    if not np.isfinite(frame).all() or np.linalg.det(frame[:3, :3]) == 0:
        raise Damaged("the geometry in its header is not an invertible affine; export it with its image")
    (stored,) = np.frombuffer(beginning, header_2_dtype.newbyteorder(header[Field.ENDIANNESS]))
    return header | {Field.NB_STREAMLINES: stored[Field.NB_STREAMLINES]}, frame  # nibabel counts those that follow


def _record(file: BinaryIO, order: object, columns: int, properties: int, size: int) -> np.ndarray | None:
    """The bytes of the next streamline, None at the end."""
    count = file.read(4)
    if not count:
        return None
    (points,) = struct.unpack(f"{order}i", count)
    needed = 4 * (points * columns + properties)
    if points < 0 or file.tell() + needed > size:
        raise Damaged("truncated: its last streamline is not complete; copy it again")
    return np.frombuffer(bytearray(count + file.read(needed)), np.uint8)


def _points(record: np.ndarray, order: object, scalars: int, properties: int) -> np.ndarray:
    """(N, 3) a view of the points of a streamline."""
    rows = record[4 : len(record) - 4 * properties].view(np.dtype(f"{order}f4"))
    return rows.reshape(-1, 3 + scalars)[:, :3]
