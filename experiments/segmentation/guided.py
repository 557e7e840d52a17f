"""Brains registered with and without their predicted segmentations as a guide of the optimisation.

    python experiments/segmentation/guided.py DATA WEIGHTS -o guided.csv [--shares 0,0.5] [--pairs 10]

DATA is the folder that holds ``oasis``; WEIGHTS are those of train.py. Dice is that of the reference labels, warped by
nearest neighbour. Existing rows are skipped.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from safetensors.torch import load_file

from maxca.engine.affine import align
from maxca.engine.deformable import optimise
from maxca.engine.settings import settings_for
from maxca.engine.terms import Guide, ImageTerm
from maxca.geometry import Affine, Chain
from maxca.geometry.repair import invertible
from maxca.io.pairs import read_pairs
from maxca.metrics import dice, folding
from maxca.models.segmentation import Segmenter
from maxca.networks.segmentation import SegmentationUNet
from maxca.options import RegistrationOptions
from maxca.registration.assessment import warped_labels
from maxca.registration.inputs import SideInputs
from maxca.registration.pair import PreparedPair, prepare, read_pair
from maxca.runtime import tuned

COLUMNS = ("pair", "share", "dice", "sdlogj", "ndv_percent", "segmentation_seconds", "optimisation_seconds")
FINEST_MM = 1.5  # the segmentation does not act at full resolution
CPU = torch.device("cpu")


def segmenter(data: Path, weights: Path) -> Segmenter:
    """The trained network; its classes are the labels of the training subjects, in ascending order."""
    folder = data / "oasis/derivatives/neuromorphometrics"
    train = json.loads((data / "oasis/split.json").read_text())["train"]
    numbers: set[int] = set()
    for subject in train:
        file = folder / f"sub-{subject}/anat/sub-{subject}_dseg.nii.gz"
        numbers |= set(np.unique(np.asarray(nib.load(file).dataobj)).tolist())  # type: ignore[attr-defined]
    network = SegmentationUNet(len(numbers))
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(weights).items()})
    return Segmenter(network.eval(), tuple(sorted(numbers)))


def guide_of(segment: Segmenter, volumes: PreparedPair, affine: Affine, share: float) -> Guide:
    """The segmentations of both images as a term."""
    fixed, moving = (segment.expected(segment(volume)) for volume in (volumes.upright, volumes.moving))
    return Guide(ImageTerm(fixed, moving, affine, "mse"), share, FINEST_MM)


def main() -> None:
    """Add the missing rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--shares", default="0,0.5")
    parser.add_argument("--pairs", type=int, default=10)
    options = parser.parse_args()
    segment = segmenter(options.data, options.weights)
    new = not options.output.exists()
    there = set() if new else {(row["pair"], row["share"]) for row in csv.DictReader(options.output.open())}
    with options.output.open("a", newline="") as file, tuned(2), torch.no_grad():
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        for number, row in enumerate(read_pairs(options.data / "oasis/pairs_val.csv")[: options.pairs]):
            missing = [share for share in options.shares.split(",") if (str(number), share) not in there]
            if not missing:
                continue
            sides = SideInputs(row.fixed, labels=row.fixed_labels), SideInputs(row.moving, labels=row.moving_labels)
            pair = read_pair(*sides, RegistrationOptions())
            volumes = prepare(pair, CPU)
            affine = align(volumes.fixed, volumes.moving).affine
            settings = settings_for(volumes.upright.grid, "balanced")
            for share in missing:
                begin = time.perf_counter()
                guides = [guide_of(segment, volumes, affine, float(share))] if float(share) else []
                between = time.perf_counter()
                field, _ = optimise(volumes.upright, volumes.moving, affine, settings, terms=guides)
                end = time.perf_counter()
                chain = Chain((invertible(field).field, affine))
                warped = warped_labels(pair.fixed, pair.moving, chain)
                assert warped is not None and pair.fixed.labels is not None
                folded = folding(chain, volumes.upright.grid)
                writer.writerow(
                    {
                        "pair": number,
                        "share": share,
                        "dice": round(float(np.mean(list(dice(pair.fixed.labels, warped).values()))), 4),
                        "sdlogj": round(folded.sd_log_jacobian, 4),
                        "ndv_percent": folded.ndv_percent,
                        "segmentation_seconds": round(between - begin, 1),
                        "optimisation_seconds": round(end - between, 1),
                    }
                )
                file.flush()


if __name__ == "__main__":
    main()
