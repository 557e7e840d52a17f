"""Dice per region of the labels of a segmentation model on the validation scans, with and without mirror images.

python experiments/segmentation/label_dice.py ../shared/data [--model brain-names] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from maxca.io.images import read
from maxca.metrics import dice
from maxca.models.segmentation_file import load_segmenter
from maxca.models.zoo import find_model
from maxca.registration.labelling import label


def main() -> None:
    """Print the mean Dice and the seconds of every scan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="brain-names")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    folder = options.data / "oasis"
    model = load_segmenter(find_model(options.model))
    rows = []
    for subject in json.loads((folder / "split.json").read_text())["val"]:
        drawn = read(folder / f"derivatives/neuromorphometrics/sub-{subject}/anat/sub-{subject}_dseg.nii.gz").data
        present = [int(number) for number in np.unique(drawn) if number]
        row = []
        for each in (replace(model, mirror=None), model):
            begin = time.perf_counter()
            found = label(folder / f"sub-{subject}/anat/sub-{subject}_T1w.nii.gz", each, "cpu", options.threads)
            seconds = time.perf_counter() - begin
            row += [float(np.mean(list(dice(drawn, found.image.data, present).values()))), seconds]
        rows.append(row)
        print(subject, *(f"{number:.4f}" for number in row), flush=True)
    print("mean", *(f"{number:.4f}" for number in np.mean(rows, axis=0)))


if __name__ == "__main__":
    main()
