"""Does the block matter? Five networks, eight blocks each, all else the same.

    maxca prepare hippocampus SRC -o ready/hippocampus    # likewise ready/cardiac (acdc) and ready/brain (bids)
    python experiments/block_swap.py ready                 # hours; goes on where it was
    python experiments/block_swap.py ready --only "hippocampus corrxca maxca 300 0"    # one row again

The convolution blocks are as wide as MAXCA has parameters, or as it has multiply-adds: what a network gains by being
larger is not counted for the block.
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
# As large as three seeds on a CPU allow; the same channels for every block.
NETWORKS: dict[str, dict[str, Any]] = {
    "corrxca": {"encoder_channels": 4, "decoder_channels": 8, "levels": 3},
    "nice_net": {"encoder_channels": 4, "decoder_channels": 8, "levels": 3},
    "nice_trans": {"encoder_channels": 4, "decoder_channels": 8, "levels": 3},
    "voxelmorph": {"encoder": [8, 16, 16], "decoder": [16, 16, 16], "final": [16, 8]},
    "transmorph": {"channels": 16, "depths": [2, 2], "heads": [2, 2], "window": 4},
}
DECISIVE = {"networks": ("corrxca", "nice_net", "voxelmorph"), "blocks": ("maxca", "conv=multiply-adds", "gmlp")}
STEPS = {"hippocampus": 300, "cardiac": 200, "brain": 100}


def listed(options: argparse.Namespace) -> list[Trial]:
    """Seed by seed, so that what is there at any time is complete for the seeds it has."""
    return [
        Trial("block_swap", name, {"name": network, "arguments": {**arguments, "block": block}}, label, steps, seed)
        for seed in range(options.seeds)
        for name, steps in STEPS.items()
        if not options.set or name in options.set
        for network, arguments in NETWORKS.items()
        if name == "hippocampus" or network in DECISIVE["networks"]
        for label, block in BLOCKS.items()
        if name == "hippocampus" or label in DECISIVE["blocks"]
    ]


def of_corrxca(
    experiment: str, changes: Mapping[str, dict[str, Any]], options: argparse.Namespace, *, longer: int = 1
) -> list[Trial]:
    """CorrXCA with some arguments changed, on hippocampi or the sets asked for; seed by seed.

    Args:
        experiment: its name in the rows.
        changes: name of a row → arguments in place of those in ``NETWORKS``.
        options: of the command line.
        longer: how many times the steps of ``STEPS``.
    """
    return [
        Trial(
            experiment,
            name,
            {"name": "corrxca", "arguments": {**NETWORKS["corrxca"], **change}},
            label,
            longer * STEPS[name],
            seed,
        )
        for seed in range(options.seeds)
        for name in options.set or ("hippocampus",)
        for label, change in changes.items()
    ]


if __name__ == "__main__":
    trials.main(__doc__.splitlines()[0], listed, tables.RESULTS / "block_swap.csv")
