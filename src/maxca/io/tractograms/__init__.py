"""Tractograms: streamlines that a transform moves, a part at a time; the rest of a file is kept as it is."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from maxca.errors import MaxcaError
from maxca.io.regular import check_regular
from maxca.io.tractograms.part import Damaged, Map
from maxca.io.tractograms.tck import move_tck
from maxca.io.tractograms.trk import move_trk
from maxca.io.tractograms.trx import move_trx

MOVERS: dict[str, Callable[[Path, Path, Map], tuple[int, tuple[str, ...]]]] = {
    ".trk": move_trk,
    ".tck": move_tck,
    ".trx": move_trx,
}
SUFFIXES = tuple(MOVERS)
READ_ERRORS = (
    *(ValueError, KeyError, IndexError, TypeError, OverflowError, EOFError, struct.error, zlib.error),
    *(zipfile.BadZipFile, NotImplementedError, RecursionError),
)


def move_tractogram(source: Path, out: Path, moved: Map) -> tuple[int, tuple[str, ...]]:
    """Write a tractogram with its points mapped.

    Args:
        source: TRK, TCK or TRX.
        out: the file to write, of the same format.
        moved: from (N, 3) world points to others, RAS+ mm.

    Returns:
        The number of streamlines, and warnings, one line each.

    Raises:
        MaxcaError: for a file that is damaged or of another kind.
        OSError: if the output cannot be written.
    """
    check_regular(source)
    try:
        return MOVERS[source.suffix.lower()](source, out, moved)
    except Damaged as error:
        raise MaxcaError(f"{source}: {error}") from error
    except READ_ERRORS as error:
        raise MaxcaError(
            f"{source}: a tractogram that is damaged, or of another kind; copy or export it again"
        ) from error
