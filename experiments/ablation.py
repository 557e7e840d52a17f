"""The two branches of MAXCA, trained five times as long: after a few hundred steps blocks hardly differ yet.

python experiments/ablation.py ready    # ready: see block_swap.py
"""

from __future__ import annotations

import argparse

import tables
import trials
from block_swap import BLOCKS, of_corrxca
from trials import Trial

SHOWN = ("maxca", "regional", "dilated", "xca", "gmlp", "conv=multiply-adds")
LONGER = 5


def listed(options: argparse.Namespace) -> list[Trial]:
    """Each of them."""
    return of_corrxca("ablation", {label: {"block": BLOCKS[label]} for label in SHOWN}, options, longer=LONGER)


if __name__ == "__main__":
    trials.main(__doc__.splitlines()[0], listed, tables.RESULTS / "ablation.csv")
