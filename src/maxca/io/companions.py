"""All files of an image, whose voxels may be in files other than the header."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from maxca.errors import MaxcaError
from maxca.io.datafiles import file_names, sibling
from maxca.io.layout import LONGEST_HEADER, Damaged
from maxca.io.regular import check_regular

NAMED = {
    ".mhd": re.compile(r"^\s*ElementDataFile\s*=\s*(.*?)\s*$", re.IGNORECASE | re.MULTILINE),
    ".nhdr": re.compile(r"^data ?file:\s*(.*?)\s*$", re.IGNORECASE | re.MULTILINE),
}


def files_of(path: Path) -> tuple[Path, ...]:
    """The regular files that an image consists of, its header first.

    Args:
        path: either file of a ``.hdr``/``.img`` pair, a ``.mhd`` or ``.nhdr`` header, or a single file.

    Raises:
        MaxcaError: for a file that is missing, not regular, or outside the folder of its header.
    """
    suffix = path.suffix.lower()
    check_regular(path)
    if suffix in (".hdr", ".img"):
        upper = path.suffix.isupper()
        pair = [path.with_suffix(other.upper() if upper else other) for other in (".hdr", ".img")]
        files = tuple(each for each in pair if each == path or each.exists())
    elif suffix in NAMED:
        files = (path, *_data_files(path))
    else:
        return (path,)
    for file in files:
        check_regular(file)
    return files


def _data_files(path: Path) -> Iterator[Path]:
    try:
        with path.open("rb") as file:
            header = file.read(LONGEST_HEADER).decode("latin-1")
    except OSError as error:
        raise MaxcaError(f"{path}: cannot be read; check its permissions") from error
    found = NAMED[path.suffix.lower()].search(header)
    if found is None or found[1].upper() == "LOCAL":
        return
    try:
        for name in file_names(found[1], header[found.end() :].splitlines()):
            yield sibling(path, name)
    except Damaged as error:
        raise MaxcaError(f"{path}: {error}") from error
