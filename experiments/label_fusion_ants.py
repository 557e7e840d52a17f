"""Joint label fusion of maxca and of ANTs on some planes of a scan, after experiments/labelling.py.

    python experiments/label_fusion_ants.py SCAN LABELS WORK/sub-1107_T1w/registrations -o label_fusion_ants.csv

The planes begin at a third of the first axis. Labels are compared where the atlases differ, except in the five outer
planes on each side, which depend on what was cut off. Seconds are of processor time.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np
from labelling import by_ants

from maxca.io.images import read
from maxca.metrics import dice
from maxca.registration.record import WARPED
from maxca.registration.result import LABELS
from maxca.workflows.labelling.fusion.fuse import fuse
from maxca.workflows.labelling.fusion.stack import stacked

PLANES, OUTER = 22, 5
COLUMNS = ("scan", "atlases", "contested", "agreement", "dice_maxca", "dice_ants", "seconds_maxca", "seconds_ants")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("registrations", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    target, truth = read(given.scan).data, read(given.labels).data
    planes = slice(target.shape[0] // 3, target.shape[0] // 3 + PLANES)
    target, truth = target[planes], truth[planes]
    places = sorted(path.parent for path in given.registrations.glob(f"*/{WARPED}"))
    atlases = [(read(place / WARPED).data[planes], read(place / LABELS).data[planes]) for place in places]
    begin = time.process_time()
    ours = fuse(stacked(target, atlases), "joint").labels
    middle = time.process_time()
    theirs = by_ants(target, atlases, 1, returned=False)
    end = time.process_time()
    contested = np.logical_or.reduce([labels != atlases[0][1] for _, labels in atlases])
    contested[:OUTER] = contested[-OUTER:] = False
    inner = slice(OUTER, -OUTER)
    present = [label for label in np.unique(truth[inner]).tolist() if label]
    scores = [
        float(np.mean(list(dice(truth[inner], found[inner].astype(truth.dtype), present).values())))
        for found in (ours, theirs)
    ]
    agreement = float((ours == theirs)[contested].mean())
    with given.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        numbers = (f"{agreement:.5f}", *(f"{score:.4f}" for score in scores))
        times = (f"{middle - begin:.1f}", f"{end - middle:.1f}")
        writer.writerow((given.scan.name, len(atlases), int(contested.sum()), *numbers, *times))


if __name__ == "__main__":
    main()
