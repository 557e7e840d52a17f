"""Brains registered with and without their segmentations as a guide, and the overlap predicted from these.

    python experiments/segmentation/guided.py DATA MODEL -o guided.csv [--pairs 10]

DATA is the folder that holds ``oasis``; MODEL is that of publish.py. Every pair is registered by each of ``METHODS``,
from none at all to the guided optimisation. Dice is that of the reference labels, warped by nearest neighbour;
predicted is the mean overlap of the segmentations, before calibration. Existing rows are skipped.
"""

from __future__ import annotations

import argparse
import csv
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from maxca.engine.affine import align
from maxca.engine.deformable import optimise
from maxca.engine.settings import Settings, settings_for
from maxca.geometry import Affine, Chain
from maxca.geometry.repair import invertible
from maxca.io.pairs import read_pairs
from maxca.metrics import dice, folding
from maxca.models.guide import SegmentedPair, segment_pair
from maxca.models.segmentation_file import load_segmenter
from maxca.options import RegistrationOptions
from maxca.registration.assessment import warped_labels
from maxca.registration.inputs import SideInputs
from maxca.registration.pair import LoadedPair, PreparedPair, prepare, read_pair
from maxca.runtime import tuned

COLUMNS = ("pair", "method", "dice", "predicted", "sdlogj", "ndv_percent", "seconds", "segmentation_seconds")
METHODS = ("header", "affine", "smooth", "fast", "balanced", "guided")
SMOOTH_MM = 12.0
CPU = torch.device("cpu")


def settings_of(method: str, volumes: PreparedPair) -> Settings | None:
    """The settings of the optimisation; None without one."""
    if method in ("header", "affine"):
        return None
    grid = volumes.upright.grid
    if method == "smooth":
        return replace(settings_for(grid, "fast"), smoothness=SMOOTH_MM)
    return settings_for(grid, "fast" if method == "fast" else "balanced")


def registered(method: str, volumes: PreparedPair, affine: Affine, segmented: SegmentedPair) -> tuple[Chain, float]:
    """The transform of a method, and the seconds of its optimisation."""
    settings = settings_of(method, volumes)
    if settings is None:
        return Chain((affine,)) if method == "affine" else Chain(), 0.0
    begin = time.perf_counter()
    guides = [segmented.guide(affine)] if method == "guided" else []
    field, _ = optimise(volumes.upright, volumes.moving, affine, settings, terms=guides)
    seconds = time.perf_counter() - begin
    return Chain((invertible(field).field, affine)), seconds


def row_of(pair: LoadedPair, volumes: PreparedPair, chain: Chain, segmented: SegmentedPair) -> dict[str, object]:
    """The measures of a transform."""
    warped = warped_labels(pair.fixed, pair.moving, chain)
    assert warped is not None and pair.fixed.labels is not None
    bent = folding(chain, volumes.upright.grid)
    return {
        "dice": round(float(np.mean(list(dice(pair.fixed.labels, warped).values()))), 4),
        "predicted": round(float(np.mean(list(segmented.overlap(chain).values()))), 4),
        "sdlogj": round(bent.sd_log_jacobian, 4),
        "ndv_percent": bent.ndv_percent,
    }


def main() -> None:
    """Add the missing rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=10)
    options = parser.parse_args()
    model = replace(load_segmenter(options.model), calibration=(0.0, 1.0))
    new = not options.output.exists()
    there = set() if new else {(row["pair"], row["method"]) for row in csv.DictReader(options.output.open())}
    with options.output.open("a", newline="") as file, tuned(2), torch.no_grad():
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        for number, row in enumerate(read_pairs(options.data / "oasis/pairs_val.csv")[: options.pairs]):
            missing = [method for method in METHODS if (str(number), method) not in there]
            if not missing:
                continue
            sides = SideInputs(row.fixed, labels=row.fixed_labels), SideInputs(row.moving, labels=row.moving_labels)
            pair = read_pair(*sides, RegistrationOptions())
            volumes = prepare(pair, CPU)
            affine = align(volumes.fixed, volumes.moving).affine
            begin = time.perf_counter()
            segmented = segment_pair(model, volumes.upright, volumes.moving)
            waited = round(time.perf_counter() - begin, 1)
            for method in missing:
                chain, seconds = registered(method, volumes, affine, segmented)
                measures = row_of(pair, volumes, chain, segmented)
                about = {"pair": number, "method": method, "seconds": round(seconds, 1), "segmentation_seconds": waited}
                writer.writerow(about | measures)
                file.flush()


if __name__ == "__main__":
    main()
