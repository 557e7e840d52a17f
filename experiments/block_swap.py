"""Comparison of eight blocks in five networks, with all else equal; trained without labels.

    maxca prepare hippocampus SRC -o ready/hippocampus    # also ready/cardiac (acdc) and ready/brain (bids)
    python experiments/block_swap.py ready                 # hours; resumes
    python experiments/block_swap.py ready --only "hippocampus corrxca maxca 300 0"    # repeat one row

The convolution blocks are matched to MAXCA in parameters or in multiply-adds, so that the size of a network does not
confound the comparison.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import tables
import trials
from trials import Trial

MAXCA = {"name": "maxca", "heads": 2, "region": 4}
BLOCKS: dict[str, dict[str, Any]] = {
    "maxca": MAXCA,
    "regional": {**MAXCA, "name": "regional"},
    "dilated": {**MAXCA, "name": "dilated"},
    "xca": {**MAXCA, "name": "xca"},
    "window": {"name": "window", "heads": 2, "window": 4},
    "gmlp": {"name": "gmlp"},
    "conv=parameters": {"name": "conv_as", "by": "parameters", "to": "maxca", "heads": 2, "region": 4},
    "conv=multiply-adds": {"name": "conv_as", "by": "multiply_adds", "to": "maxca", "heads": 2, "region": 4},
}
# Small enough for three seeds on a CPU; the same channels for every block.
NETWORKS: dict[str, dict[str, Any]] = {
    "corrxca": {"encoder_channels": 4, "decoder_channels": 8, "levels": 3},
    "nice_net": {"encoder_channels": 4, "decoder_channels": 8, "levels": 3},
    "nice_trans": {"encoder_channels": 4, "decoder_channels": 8, "levels": 3},
    "voxelmorph": {"encoder": [8, 16, 16], "decoder": [16, 16, 16], "final": [16, 8]},
    "transmorph": {"channels": 16, "depths": [2, 2], "heads": [2, 2], "window": 4},
}
DECISIVE = ("maxca", "conv=multiply-adds", "gmlp")  # where not all can be trained
STEPS = {
    "hippocampus": dict.fromkeys(NETWORKS, 300),
    "cardiac": dict.fromkeys(("corrxca", "nice_net", "voxelmorph"), 200),
}


def listed(options: argparse.Namespace) -> list[Trial]:
    """The trials, ordered by seed."""
    return chosen("block_swap", STEPS, options)


def chosen(
    experiment: str, steps: Mapping[str, Mapping[str, int]], options: argparse.Namespace, *, labels: bool = False
) -> list[Trial]:
    """All blocks on hippocampi and the main ones elsewhere, ordered by seed, so that partial results are complete.

    Args:
        experiment: its name in the rows.
        steps: set → network → steps of training.
        options: from the command line.
        labels: whether trained with labels.
    """
    return [
        Trial(experiment, name, network_of(network, BLOCKS[label]), label, count, seed, labels)
        for seed in range(options.seeds or trials.SEEDS)
        for name, networks in steps.items()
        if not options.set or name in options.set
        for network, count in networks.items()
        for label in (BLOCKS if name == "hippocampus" else DECISIVE)
    ]


def network_of(name: str, block: Any, **change: Any) -> dict[str, Any]:
    """One of ``NETWORKS`` with a block and overridden arguments."""
    return {"name": name, "arguments": {**NETWORKS[name], "block": block, **change}}


if __name__ == "__main__":
    trials.main(__doc__.splitlines()[0], listed, tables.RESULTS / "block_swap.csv")
