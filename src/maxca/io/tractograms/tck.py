"""MRtrix's TCK: a text header, then points in scanner RAS mm with marks between the streamlines."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from maxca.io.tractograms.part import AT_ONCE, Damaged, Map, checked

LONGEST_HEADER = 1 << 20
MAGIC, END = b"mrtrix tracks", b"\nEND\n"
TYPES = {b"Float32LE": "<f4", b"Float32BE": ">f4", b"Float64LE": "<f8", b"Float64BE": ">f8"}
START = re.compile(rb"^file:[ \t]*\.[ \t]+(\d{1,9})[ \t]*$", re.MULTILINE)
KIND = re.compile(rb"^datatype:[ \t]*(\w+)[ \t]*$", re.MULTILINE)


def move_tck(source: Path, out: Path, moved: Map) -> tuple[int, tuple[str, ...]]:
    """See ``move_tractogram``."""
    with source.open("rb") as file, out.open("wb") as target:
        beginning = file.read(LONGEST_HEADER)
        header, mark, _ = beginning.partition(END)
        start, kind = START.search(header), KIND.search(header)
        if not header.startswith(MAGIC) or not mark or start is None or kind is None or kind[1] not in TYPES:
            raise Damaged("not a TCK file with its points in the same file as floats; export it again")
        offset, dtype = int(start[1]), np.dtype(TYPES[kind[1]])
        if not len(header) + len(mark) <= offset <= len(beginning):
            raise Damaged("its header does not tell where its points are; export it again")
        target.write(beginning[:offset])
        file.seek(offset)
        streamlines, ended = 0, False
        while not ended:
            content = file.read(AT_ONCE * 3 * dtype.itemsize)
            whole = len(content) // (3 * dtype.itemsize)
            rows = np.frombuffer(content, dtype, 3 * whole).reshape(-1, 3).copy()
            last = np.flatnonzero(np.isinf(rows).all(axis=1))
            ended = len(last) > 0
            if not whole or (not ended and len(content) % rows.itemsize):
                raise Damaged("truncated: the mark at the end is missing; copy it again")
            inside = rows[: last[0]] if ended else rows
            points = ~np.isnan(inside).all(axis=1)
            inside[points] = moved(checked(inside[points]))
            streamlines += int((~points).sum())
            target.write(rows.tobytes() + content[whole * 3 * dtype.itemsize :])
        while rest := file.read(AT_ONCE):
            target.write(rest)
    return streamlines, ()
