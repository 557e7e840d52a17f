"""Text files that are just a 4x4 matrix."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np


def plain_matrix(path: Path) -> np.ndarray | None:
    """The matrix in a text file of four lines of four numbers and nothing else."""
    content = path.read_bytes()[:10_000]
    if b"\0" in content:
        return None
    rows = [re.split(r"[\s,]+", line.strip()) for line in content.decode("latin-1").splitlines() if line.strip()]
    if [len(row) for row in rows] != [4] * 4:
        return None
    try:
        return np.array(rows, dtype=np.float64)
    except ValueError:
        return None
