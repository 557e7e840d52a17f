"""Comparison of the blocks trained with labels, with which networks learn faster.

python experiments/block_swap_labels.py ready    # ready: see block_swap.py

Networks that learn more slowly are trained for more steps; all blocks of a network for the same number.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import tables
import trials
from block_swap import chosen, network_of
from trials import Trial

STEPS = {
    "hippocampus": {"corrxca": 300, "nice_net": 300, "nice_trans": 300, "voxelmorph": 1000, "transmorph": 1000},
    "cardiac": {"corrxca": 200, "nice_net": 200, "voxelmorph": 600},
    "brain": {"corrxca": 100, "nice_net": 100, "voxelmorph": 300},
}


def listed(options: argparse.Namespace) -> list[Trial]:
    """The trials, ordered by seed."""
    return chosen("block_swap_labels", STEPS, options, labels=True)


def of_corrxca(
    experiment: str, changes: Mapping[str, dict[str, Any]], options: argparse.Namespace, seeds: int = trials.SEEDS
) -> list[Trial]:
    """CorrXCA with some arguments changed, on hippocampi or the given sets, ordered by seed.

    Args:
        experiment: its name in the rows.
        changes: name of a row → arguments in place of those in ``NETWORKS``.
        options: from the command line.
        seeds: default number of seeds.
    """
    return [
        Trial(experiment, name, network_of("corrxca", **change), label, STEPS[name]["corrxca"], seed, labels=True)
        for seed in range(options.seeds or seeds)
        for name in options.set or ("hippocampus",)
        for label, change in changes.items()
    ]


if __name__ == "__main__":
    trials.main(__doc__.splitlines()[0], listed, tables.RESULTS / "block_swap_labels.csv")
