"""What the experiments on folders of pairs share: their command line, their table, and the Dice under a transform."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from maxca.geometry import Chain
from maxca.io.images import Image
from maxca.metrics import common_labels, dice
from maxca.runtime import tuned


def overlap(chain: Chain, fixed: Image, moving: Image) -> float:
    """Mean Dice of the labels of both images, those of the moving one warped by nearest neighbour."""
    labels = torch.as_tensor(moving.data.astype(np.int32))[None]
    warped = chain.resample(labels, moving.grid, fixed.grid, "nearest")[0].numpy()
    return float(np.mean(list(dice(fixed.data, warped, common_labels(fixed.data, moving.data)).values())))


def add_rows(
    description: str | None, columns: Sequence[str], rows_of: Callable[[Path], Sequence[Mapping[str, object]]]
) -> None:
    """Add the rows of the kinds of the command line to its table.

    Args:
        description: of the experiment, for ``--help``.
        columns: of the table.
        rows_of: folder of a pair → its rows.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--kinds", required=True)
    options = parser.parse_args()
    new = not options.output.exists()
    with options.output.open("a", newline="") as file, tuned(2), torch.no_grad():
        writer = csv.DictWriter(file, columns)
        if new:
            writer.writeheader()
        for kind in options.kinds.split(","):
            writer.writerows(rows_of(options.pairs / kind))
            file.flush()
