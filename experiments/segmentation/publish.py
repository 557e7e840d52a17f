"""Turn trained weights into a segmentation model that ``register --model`` and ``maxca label`` take.

    python experiments/segmentation/publish.py DATA WEIGHTS -o brain-names.safetensors [--measure SCANS…]

DATA is the folder that holds ``oasis``. The classes of the weights are the labels of the training subjects in ascending
order. With ``--measure`` the extent and the confidence of scans are printed, from which the constants below were set.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from safetensors.torch import load_file

from maxca.models.domain import extent
from maxca.models.segmentation import BACKGROUND, Segmenter
from maxca.models.segmentation_file import save_segmenter
from maxca.networks.segmentation import SegmentationUNet
from maxca.options import RegistrationOptions
from maxca.registration.inputs import SideInputs
from maxca.registration.pair import prepare, read_pair
from maxca.training.sides import counterparts

EXTENT_MM = ((124.0, 186.0), (154.0, 233.0), (123.0, 183.0))  # of the training scans, 15 % more on both sides
CONFIDENCE = 0.84  # between the least of the training scans, 0.860, and the highest of two heads with skull, 0.822
SHARE, FINEST_MM = 0.5, 1.5
CALIBRATION = (-0.006, 0.885)  # a line through the first three pairs of guided.csv, before calibration


def segmenter(data: Path, weights: Path) -> Segmenter:
    """The trained network with the names of its labels."""
    folder = data / "oasis/derivatives/neuromorphometrics"
    train = json.loads((data / "oasis/split.json").read_text())["train"]
    numbers: set[int] = set()
    for subject in train:
        file = folder / f"sub-{subject}/anat/sub-{subject}_dseg.nii.gz"
        numbers |= set(np.unique(np.asarray(nib.load(file).dataobj)).tolist())  # type: ignore[attr-defined]
    with (data / "oasis/labels.csv").open() as file_of_names:
        names = {int(row["Label Number"]): row["Label Name"] for row in csv.DictReader(file_of_names)} | {0: BACKGROUND}
    network = SegmentationUNet(len(numbers))
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(weights).items()})
    ordered = {number: names[number] for number in sorted(numbers)}
    swapped = counterparts(ordered)
    assert swapped is not None
    return Segmenter(
        network.eval(),
        ordered,
        mirror=tuple(swapped),
        extent_mm=EXTENT_MM,
        confidence=CONFIDENCE,
        share=SHARE,
        finest_mm=FINEST_MM,
        calibration=CALIBRATION,
    )


def measure(model: Segmenter, files: list[Path]) -> None:
    """Print extent in mm and confidence of every scan."""
    for file in files:
        volume = prepare(
            read_pair(SideInputs(file), SideInputs(file), RegistrationOptions()), torch.device("cpu")
        ).fixed
        found = model.coarse(model(volume))
        print(file.name, *extent(volume.grid).round().astype(int), round(found.confidence, 3), flush=True)


def main() -> None:
    """Write the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--measure", type=Path, nargs="*", default=[], help="scans whose confidence is printed")
    options = parser.parse_args()
    model = segmenter(options.data, options.weights)
    save_segmenter(model, options.output)
    measure(model, options.measure)


if __name__ == "__main__":
    main()
