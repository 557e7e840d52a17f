"""Variants of MAXCA, one setting changed at a time; changed networks also with the convolution of the same cost.

python experiments/variants.py ready    # ready: see block_swap.py
"""

from __future__ import annotations

import argparse
from typing import Any

import tables
import trials
from block_swap import BLOCKS, MAXCA
from block_swap_labels import of_corrxca
from trials import Trial

CONVOLUTION = BLOCKS["conv=multiply-adds"]
WIDE = {"encoder_channels": 8, "decoder_channels": 16}
# Name of the row → difference from CorrXCA with MAXCA in regions of 4 voxels and two heads.
CHANGES: dict[str, dict[str, Any]] = {
    "maxca": {},
    "conv=multiply-adds": {"block": CONVOLUTION},
    "region 2": {"block": {**MAXCA, "region": 2}},
    "region 8": {"block": {**MAXCA, "region": 8}},
    "heads 1": {"block": {**MAXCA, "heads": 1}},
    "heads 4": {"block": {**MAXCA, "heads": 4}},
    "padding left out": {"block": {**MAXCA, "mask_padding": True}},
    "temperature from 4": {"block": {**MAXCA, "temperature": 4.0}},
    "temperature from 16": {"block": {**MAXCA, "temperature": 16.0}},
    "covariances": {"block": {**MAXCA, "normalise": False}},
    "with plain XCA besides": {"block": {**MAXCA, "axes": ["dilated", "regional", "plain"]}},
    "levels 2": {"levels": 2},
    "levels 2, conv=multiply-adds": {"levels": 2, "block": CONVOLUTION},
    "levels 4": {"levels": 4},
    "levels 4, conv=multiply-adds": {"levels": 4, "block": CONVOLUTION},
    "wide": WIDE,
    "wide, conv=multiply-adds": {**WIDE, "block": CONVOLUTION},
}


def listed(options: argparse.Namespace) -> list[Trial]:
    """The trials."""
    changes = {label: {"block": MAXCA, **change} for label, change in CHANGES.items()}
    return of_corrxca("variants", changes, options)


if __name__ == "__main__":
    trials.main(__doc__.splitlines()[0], listed, tables.RESULTS / "variants.csv")
