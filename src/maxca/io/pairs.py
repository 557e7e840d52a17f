"""Lists of pairs to register, in CSV or JSON, and pairs drawn from scans."""

from __future__ import annotations

import csv
import io
import os
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import permutations
from pathlib import Path
from typing import Literal

from maxca.errors import MaxcaError
from maxca.io.atomic import atomic_path, full_suffix
from maxca.io.cells import neutral
from maxca.io.records import read_json, read_text

PairKind = Literal["inter", "intra"]


@dataclass(frozen=True)
class Pair:
    """Paths of two images, of their labels, masks, points, other regions and initial transform, and the pair's group.

    ``further`` has the fixed and the moving image of each channel after the first.
    """

    fixed: Path
    moving: Path
    fixed_labels: Path | None = None
    moving_labels: Path | None = None
    fixed_mask: Path | None = None
    moving_mask: Path | None = None
    fixed_points: Path | None = None
    moving_points: Path | None = None
    fixed_exclude: Path | None = None
    moving_exclude: Path | None = None
    rigid: Path | None = None
    initial_transform: Path | None = None
    group: str = ""
    further: tuple[tuple[Path, Path], ...] = ()

    @property
    def files(self) -> dict[str, Path]:
        """All files by column: ``"fixed"``, ``"moving"``, …, ``"fixed_2"``, ``"moving_2"``, …."""
        named = {name: path for name in COLUMNS if isinstance(path := getattr(self, name), Path)}
        return named | {
            f"{side}_{number}": path
            for number, both in enumerate(self.further, start=2)
            for side, path in zip(REQUIRED, both, strict=True)
        }


COLUMNS = tuple(field.name for field in fields(Pair))[:-1]
CHANNEL = re.compile(r"(fixed|moving)_([2-9]|[1-9][0-9])")  # a column of a further channel
MEANT = 'a JSON list of pairs; it is [{"fixed": …, "moving": …}, …]'
REQUIRED = ("fixed", "moving")


@dataclass(frozen=True)
class Scan:
    """One image of a data set.

    Args:
        name: unique in its data set; letters, digits, ``-``, ``_`` and ``.``.
        subject: all scans of one subject are in the same split.
        image: the file.
        labels: a label map on its grid.
        split: ``"train"`` or ``"val"``, if defined by the data set.
        group: kind of scan, such as ``"ED"``.
    """

    name: str
    subject: str
    image: Path
    labels: Path | None = None
    split: str | None = None
    group: str = ""


def read_pairs(path: str | Path, same: Mapping[str, Path] | None = None, *, present: bool = True) -> list[Pair]:
    """Read a list of pairs.

    A CSV file has the columns fixed, moving and, optionally, those of ``Pair``; fixed_2 and moving_2, fixed_3 and
    moving_3, … are further channels. A JSON file is a list of objects with such keys. Relative paths are relative to
    the file.

    Args:
        path: of the list.
        same: files by column that are the same for all pairs, instead of such columns.
        present: reject a list with files that do not exist.

    Raises:
        MaxcaError: for an invalid list or missing images; it names the row.
    """
    path, same = Path(path), same or {}
    if not os.path.lexists(path):
        raise MaxcaError(f"{path}: no such list of pairs")
    rows = _json_rows(path) if full_suffix(path) == ".json" else read_table(path)
    if not rows:
        raise MaxcaError(f"{path}: contains no pairs")
    for name in same:
        if any(row.get(name) for row in rows):
            raise MaxcaError(f"{path}: has a column {name}, and {name}={same[name]} is given too; remove one of them")
    return [_pair(path, number, row, same, present) for number, row in enumerate(rows, start=1)]


def write_pairs(path: str | Path, pairs: Iterable[Pair]) -> None:
    """Write a CSV list that ``read_pairs`` reads; paths below its folder become relative."""
    path = Path(path)
    rows = [
        {name: _cell(file, path.parent) for name, file in pair.files.items()}
        | {"group": _cell(pair.group, path.parent)}
        for pair in pairs
    ]
    further = {name for row in rows for name in row} - set(COLUMNS)
    given = [name for name in COLUMNS if name in REQUIRED or any(row.get(name) for row in rows)]
    used = [*given, *sorted(further, key=lambda name: (int(name.partition("_")[2]), name))]
    with atomic_path(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, used, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def pair_up(scans: Sequence[Scan], kind: PairKind, count: int | None = None, seed: int = 0) -> list[Pair]:
    """All ordered pairs of scans, or some of them.

    Args:
        scans: of a data set.
        kind: ``"inter"``: of two subjects; ``"intra"``: of one.
        count: number of pairs to draw, without repetition; by default all.
        seed: of the random choice.
    """
    pairs = [
        Pair(a.image, b.image, a.labels, b.labels, group=f"{a.group}-to-{b.group}" if a.group and b.group else kind)
        for a, b in permutations(scans, 2)
        if (a.subject == b.subject) == (kind == "intra")
    ]
    if count is None or count >= len(pairs):
        return pairs
    return random.Random(seed).sample(pairs, count)


def split_by_subject(scans: Sequence[Scan], share: float, seed: int = 0) -> tuple[list[Scan], list[Scan]]:
    """Training and validation scans, no subject in both.

    Args:
        scans: of a data set.
        share: fraction of the subjects used for validation; at least one, and at least one for training.
        seed: of the random choice.

    Raises:
        ValueError: for fewer than two subjects.
    """
    subjects = sorted({scan.subject for scan in scans})
    if len(subjects) < 2:
        raise ValueError(f"at least two subjects are needed for a split, received {len(subjects)}")
    count = min(max(1, round(share * len(subjects))), len(subjects) - 1)
    chosen = set(random.Random(seed).sample(subjects, count))
    return [s for s in scans if s.subject not in chosen], [s for s in scans if s.subject in chosen]


def read_table(path: Path, *, tabs: bool = False) -> list[dict[str, str]]:
    """The rows of a CSV file, or of one with tabs, without spaces around names and values.

    Raises:
        MaxcaError: for a file that is not CSV.
    """
    try:
        file = io.StringIO(read_text(path).decode("utf-8-sig"), newline="")
        rows = csv.DictReader(file, delimiter="\t" if tabs else ",")
        return [{k.strip(): (v or "").strip() for k, v in row.items() if k} for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        raise MaxcaError(f"{path}: not a CSV file: {error}") from error


def _json_rows(path: Path) -> list[dict[str, str]]:
    rows = read_json(path, list[dict[str, str | int | float | None]], MEANT)
    return [{str(key): "" if value is None else str(value) for key, value in row.items()} for row in rows]


def _pair(path: Path, number: int, row: dict[str, str], same: Mapping[str, Path], present: bool) -> Pair:
    missing = [name for name in REQUIRED if not row.get(name) and name not in same]
    if missing:
        raise MaxcaError(f"{path}, pair {number}: no {' and no '.join(missing)}; the columns are {', '.join(COLUMNS)}")
    files: dict[str, Path] = dict(same)
    for name in COLUMNS[:-1]:
        if row.get(name):
            files[name] = path.parent / row[name]
            if present and not os.path.exists(files[name]):
                raise MaxcaError(f"{path}, pair {number}: {name} is {row[name]}, which does not exist")
    return Pair(**files, group=row.get("group", ""), further=_further(path, number, row, present=present))


def _further(path: Path, number: int, row: dict[str, str], *, present: bool) -> tuple[tuple[Path, Path], ...]:
    """The channels of a row after the first.

    Raises:
        MaxcaError: for a channel of one side alone, a missing one, or a file that does not exist.
    """
    given = {name: cell for name, cell in row.items() if CHANNEL.fullmatch(name) and cell}
    channels = []
    for channel in range(2, 2 + (len(given) + 1) // 2):
        both = [f"{side}_{channel}" for side in REQUIRED]
        for name in both:
            if name not in given:
                raise MaxcaError(
                    f"{path}, pair {number}: no {name}; every channel has a fixed and a moving image, numbered from 2"
                )
            if present and not os.path.exists(path.parent / given[name]):
                raise MaxcaError(f"{path}, pair {number}: {name} is {given[name]}, which does not exist")
        channels.append((path.parent / given[both[0]], path.parent / given[both[1]]))
    return tuple(channels)


def _cell(value: Path | str | None, folder: Path) -> str:
    if not isinstance(value, Path):
        return neutral(value or "")
    value, folder = value.resolve(), folder.resolve()
    text = str(value.relative_to(folder)) if value.is_relative_to(folder) else str(value)
    if not text.isprintable():
        raise MaxcaError(f"{text}: a name with control characters cannot be stored in a list; rename the file")
    return text if neutral(text) == text else f"./{text}"
