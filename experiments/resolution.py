"""MAXCA at some levels of a network, and equally expensive convolutions at the others.

python experiments/resolution.py ready    # ready: see block_swap.py
"""

from __future__ import annotations

import argparse

import tables
import trials
from block_swap import BLOCKS
from block_swap_labels import of_corrxca
from trials import Trial

ATTENTION, CONVOLUTION = BLOCKS["maxca"], BLOCKS["conv=multiply-adds"]
# Finest first: full, half and quarter resolution.
WHERE = {
    "nowhere": [CONVOLUTION] * 3,
    "quarter": [CONVOLUTION, CONVOLUTION, ATTENTION],
    "half and quarter": [CONVOLUTION, ATTENTION, ATTENTION],
    "everywhere": [ATTENTION] * 3,
    "full": [ATTENTION, CONVOLUTION, CONVOLUTION],
}

SEEDS = 6  # three cannot resolve differences of 0.01 Dice


def listed(options: argparse.Namespace) -> list[Trial]:
    """The trials."""
    changes = {label: {"block": blocks} for label, blocks in WHERE.items()}
    return of_corrxca("resolution", changes, options, SEEDS)


if __name__ == "__main__":
    trials.main(__doc__.splitlines()[0], listed, tables.RESULTS / "resolution.csv")
