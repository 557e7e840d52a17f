"""Location, reading and writing of the tables of benchmarks and experiments."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
BENCHMARKS = Path(__file__).parents[1] / "benchmarks" / "results"


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none if it does not exist."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, row: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Add a row; the first one creates the file and its header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)
