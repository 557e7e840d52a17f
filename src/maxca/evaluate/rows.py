"""Tables of an evaluation: a row per pair and method, and a row per label of these."""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maxca.errors import MaxcaError, one_line
from maxca.io.atomic import atomic_path, folders_of
from maxca.io.cells import neutral
from maxca.io.records import read_text

Row = dict[str, str]
SCORES = (
    *("dice", "dice_before", "hd95_mm", "msd_mm", "tre_mm", "tre_before_mm"),
    *("ndv_percent", "nonpositive_percent", "sdlogj", "sdlogj_learn2reg", "deformation_mm", "inverse_error_mm"),
)
KEY = ("set", "pair", "method")
COLUMNS = (*KEY, "fixed", "moving", "group", *SCORES, "seconds", "peak_mb", "threads", "versions", "error")
MARKDOWN_START = "**"  # first characters of the summary, by which it is recognised
NUMBERS = {*SCORES, "seconds", "peak_mb"}
LARGEST = 1 << 30  # most bytes of a table
LABEL_COLUMNS = (*KEY, "label", "dice", "hd95_mm", "msd_mm")
SUMMARY_COLUMNS = (
    *("set", "method", "score", "pairs", "mean", "sd", "low", "high"),
    *("against", "both", "difference", "difference_low", "difference_high", "p", "p_holm", "effect"),
)


def label_file(path: Path) -> Path:
    """The path of the table of labels, in the same folder."""
    return path.with_name(f"{path.stem}-labels.csv")


def summary_file(path: Path) -> Path:
    """The path of the summary, in the same folder."""
    return path.with_name(f"{path.stem}-summary.csv")


def key(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The key of a row."""
    return tuple(neutral(str(row[name])) for name in KEY)


def read_rows(path: str | Path, columns: Sequence[str] = COLUMNS) -> list[Row]:
    """The rows of a table, without a truncated last line.

    Raises:
        MaxcaError: for a file of another kind.
    """
    path = Path(path)
    if not os.path.lexists(path):
        return []
    heads, rows = _table(path)
    if heads and not set(columns) <= set(heads):
        missing = ", ".join(name for name in columns if name not in heads)
        raise MaxcaError(f"{path}: is not a table of maxca evaluate, it lacks {missing}; choose another file")
    whole = [(line, row) for line, row in rows if None not in row and None not in row.values()]
    for line, row in whole:
        _check_numbers(path, line, row)
    return [row for _, row in whole]


def check_table(path: Path, columns: Sequence[str] = COLUMNS) -> None:
    """Check that rows can be added: to a table with exactly these columns, or a missing or empty file.

    Raises:
        MaxcaError: for another file, which is not changed.
    """
    if not os.path.lexists(path):
        return
    heads, _ = _table(path)
    if heads and heads != list(columns):
        raise MaxcaError(f"{path}: exists and is not a table of maxca evaluate; choose another file")


def check_markdown(path: Path) -> None:
    """Check that a file can be replaced: only one written by ``summary.markdown``.

    Raises:
        MaxcaError: for any other existing file.
    """
    if os.path.lexists(path) and not read_text(path).startswith(MARKDOWN_START.encode()):
        raise MaxcaError(
            f"{path}: exists and is not from maxca evaluate; choose another table, so that it is not replaced"
        )


def _table(path: Path) -> tuple[list[str], list[tuple[int, Row]]]:
    """The header, and the rows with their line numbers."""
    try:
        text = read_text(path, LARGEST).decode("utf-8")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise MaxcaError(f"{path}: not a table of maxca evaluate (CSV): {error}; choose another file") from error
    return list(reader.fieldnames or [""] * bool(text)), rows


def _check_numbers(path: Path, line: int, row: Row) -> None:
    for name in NUMBERS & row.keys():
        try:
            float(row[name] or "nan")
        except ValueError as error:
            raise MaxcaError(
                f"{path}, line {line}: {name} is {one_line(row[name], 40)!r}, not a number; correct or remove the line"
            ) from error


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Lock a table for adding rows; file systems without locks are not protected.

    Raises:
        MaxcaError: if another process holds the lock: both would compute the same rows.
    """
    with folders_of(path), path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MaxcaError(f"{path}: another evaluation is writing to it; choose another file, or wait") from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        try:
            yield
        finally:
            if not path.stat().st_size:
                path.unlink()


def append(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> None:
    """Add rows to a file, after removing a truncated last line."""
    torn = path.is_file() and path.stat().st_size and not path.read_bytes().endswith(b"\n")
    is_new = not path.is_file() or not path.stat().st_size
    with path.open("a", newline="", encoding="utf-8") as file:
        if torn:
            file.write("\n")
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        if is_new:
            writer.writeheader()
        for row in rows:
            writer.writerow({name: _rounded(row.get(name, "")) for name in columns})


def keep_labels(path: Path, done: Collection[tuple[str, ...]]) -> None:
    """Remove the labels of unfinished rows, which will be computed again."""
    rows = read_rows(label_file(path), LABEL_COLUMNS)
    kept = [row for row in rows if key(row) in done]
    if len(kept) < len(rows):
        with atomic_path(label_file(path)) as unfinished:
            append(unfinished, kept, LABEL_COLUMNS)


def numbers(rows: Iterable[Row], column: str) -> list[float]:
    """The numbers in a column, ignoring empty cells."""
    return [float(row[column]) for row in rows if row[column] not in ("", "nan")]


def names(rows: Iterable[Row], column: str) -> list[str]:
    """The unique entries of a column, in order."""
    return list(dict.fromkeys(row[column] for row in rows))


def _rounded(value: object) -> object:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else neutral(str(value))
