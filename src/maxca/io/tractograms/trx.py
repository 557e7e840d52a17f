"""TRX: a ZIP archive with a header in JSON, positions in world RAS mm, and any other arrays, which are copied."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from maxca.io.tractograms.part import AT_ONCE, Damaged, Map, checked
from maxca.io.voxels import HARMLESS, LIKELY_GROWTH, amount

HEADER, LONGEST_HEADER = "header.json", 1 << 20
POSITIONS = re.compile(r"positions(?:\.3)?\.float(16|32|64)")
MOST_MEMBERS, ENCRYPTED = 100_000, 1


def move_trx(source: Path, out: Path, moved: Map) -> tuple[int, tuple[str, ...]]:
    """See ``move_tractogram``."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(out, "w") as target:
        members = archive.infolist()
        _check(members, source.stat().st_size)
        header = _header(archive)
        points, streamlines = int(header["NB_VERTICES"]), int(header["NB_STREAMLINES"])
        kinds = {each.filename: found[1] for each in members if (found := POSITIONS.fullmatch(each.filename))}
        if len(kinds) != 1:
            raise Damaged(f"{len(kinds)} arrays of positions, but one is expected; export it again")
        for each in members:
            copy = zipfile.ZipInfo(each.filename, each.date_time)
            copy.compress_type, copy.external_attr = each.compress_type, each.external_attr
            if each.is_dir():
                target.writestr(copy, b"")
                continue
            with archive.open(each) as stored, target.open(copy, "w", force_zip64=True) as written:
                if each.filename in kinds:
                    dtype = np.dtype(f"<f{int(kinds[each.filename]) // 8}")
                    if each.file_size != 3 * points * dtype.itemsize:
                        raise Damaged(f"{points} points are declared, {amount(each.file_size)} stored; copy it again")
                    _move(stored, written, dtype, moved)  # type: ignore[arg-type]
                else:
                    shutil.copyfileobj(stored, written)
    half = "its positions are stored in half precision, 1/2048 of a coordinate; the mapped ones are rounded to that"
    return streamlines, (half,) if dtype.itemsize == 2 else ()


def _check(members: list[zipfile.ZipInfo], stored: int) -> None:
    """Reject archives that claim much more than they hold, or whose names lead elsewhere."""
    claimed = sum(each.file_size for each in members)
    if claimed > HARMLESS and claimed > stored * LIKELY_GROWTH:
        raise Damaged(f"{amount(stored)} that expand to {amount(claimed)}; unpack and check it first")
    if any(each.flag_bits & ENCRYPTED for each in members):
        raise Damaged("an encrypted archive, which is not supported; unpack it")
    names = {each.filename for each in members}
    elsewhere = any(name.startswith("/") or ".." in PurePosixPath(name).parts for name in names)
    if len(names) != len(members) or elsewhere or len(members) > MOST_MEMBERS:
        raise Damaged("an archive with names that are not of a TRX file; export it again")


def _header(archive: zipfile.ZipFile) -> dict[str, int]:
    with archive.open(HEADER) as file:
        content = file.read(LONGEST_HEADER)
    header: dict[str, int] = json.loads(content)
    return header


def _move(stored: BinaryIO, written: BinaryIO, dtype: np.dtype, moved: Map) -> None:
    while content := stored.read(AT_ONCE * 3 * dtype.itemsize):
        points = np.frombuffer(content, dtype).reshape(-1, 3)
        written.write(moved(checked(points)).astype(dtype).tobytes())
