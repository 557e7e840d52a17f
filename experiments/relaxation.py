"""Regularisation of the update and of the whole field: Dice against roughness on training pairs.

    python experiments/relaxation.py ../shared/data -o relaxation.csv [--sets brain,cardiac] [--settings 3:0.25,2:0.4]
        [--kernel exact]

Every pair is registered with ``balanced`` and no model for each setting: the smoothness in smallest spacings (σ of the
update), and the relaxation as a fraction of it (σ of the field after each step). The table has mean Dice of the labels,
SDlogJ over the content, NDV in % and seconds of one thread. All pairs are training pairs; the defaults may be chosen
here.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pair_rows import overlap

from maxca.engine.affine import align
from maxca.engine.deformable import optimise
from maxca.engine.settings import SMOOTHNESS, between_contrasts, settings_for
from maxca.engine.volume import FAINT
from maxca.geometry import Chain
from maxca.geometry.jacobian import field_determinant, nondiffeomorphic_volume
from maxca.io.images import Image, ImageLike, read
from maxca.metrics import common_labels
from maxca.options import RegistrationOptions
from maxca.registration.inputs import SideInputs
from maxca.registration.pair import prepare, read_pair
from maxca.runtime import tuned

USUAL = "3:0.155,2:0.2,2:0.25,2:0.3,1.5:0.25,1.5:0.3,1.2:0.3,1:0.36"
COLUMNS = ("set", "smoothness", "relaxation", "pairs", "dice", "sdlogj", "ndv_percent", "seconds")
Inputs = tuple[ImageLike, ImageLike, ImageLike, ImageLike]  # fixed, moving, and the labels of both


def brains(data: Path) -> Iterator[Inputs]:
    """Pairs of neighbouring training subjects."""
    subjects = json.loads((data / "oasis/split.json").read_text())["train"]
    scan, labels = (data / "oasis" / name for name in ("sub-{0}/anat", "derivatives/neuromorphometrics/sub-{0}/anat"))
    for a, b in zip(subjects[:8:2], subjects[1:8:2], strict=True):
        images = (Path(f"{scan}/sub-{{0}}_T1w.nii.gz".format(n)) for n in (a, b))
        drawn = (Path(f"{labels}/sub-{{0}}_dseg.nii.gz".format(n)) for n in (a, b))
        yield (*images, *drawn)  # type: ignore[misc]


def hearts(data: Path) -> Iterator[Inputs]:
    """Every sixth training pair."""
    with (data / "acdc/pairs_train.csv").open() as file:
        for row in list(csv.DictReader(file))[4::6]:
            yield tuple(  # type: ignore[misc]
                data / "acdc" / row[c] for c in ("fixed", "moving", "fixed_labels", "moving_labels")
            )


def hippocampi(data: Path) -> Iterator[Inputs]:
    """Pairs of neighbouring training subjects."""
    names = [Path(name).name for name in json.loads((data / "hippocampus/split.json").read_text())["train"]]
    names = [name if name.endswith(".nii.gz") else f"{name}.nii.gz" for name in names]
    folder = data / "hippocampus"
    for a, b in zip(names[4::5], names[5::5], strict=False):
        yield folder / "imagesTr" / a, folder / "imagesTr" / b, folder / "labelsTr" / a, folder / "labelsTr" / b


def slices(pairs: Iterator[Inputs], axes: tuple[int, ...]) -> Iterator[Inputs]:
    """Slices through the centre of the labels of each image, across each of the axes, as images in two dimensions."""
    for inputs in pairs:
        images = [read(each) for each in inputs]
        centres = [np.argwhere(labels.data > 0).mean(axis=0).round().astype(int) for labels in images[2:]]
        for axis in axes:
            cut = [_slice(image, axis, int(centre[axis])) for image, centre in zip(images, centres * 2, strict=True)]
            if common_labels(cut[2].data, cut[3].data):
                yield tuple(cut)  # type: ignore[misc]


def _slice(image: Image, axis: int, index: int) -> Image:
    first, last = [0, 0, 0], list(image.grid.shape)
    first[axis], last[axis] = index, index + 1
    chosen = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    return replace(image, data=image.data[chosen], grid=image.grid.box(first, last))


SETS: dict[str, Callable[[Path], Iterator[Inputs]]] = {
    "brain": brains,
    "cardiac": hearts,
    "hippocampus": hippocampi,
    "brain slice": lambda data: slices(brains(data), (0, 1, 2)),
    "cardiac slice": lambda data: slices(hearts(data), (2,)),
    "hippocampus slice": lambda data: slices(hippocampi(data), (0, 1, 2)),
}


def measured(inputs: Inputs, settings: list[tuple[float, float]]) -> Iterator[tuple[float, float, float, float]]:
    """Dice, SDlogJ, NDV in % and seconds of a pair for each setting."""
    pair = read_pair(SideInputs(inputs[0]), SideInputs(inputs[1]), RegistrationOptions())
    volumes = prepare(pair, torch.device("cpu"))
    fixed, moving = volumes.upright, volumes.moving
    found = align(volumes.fixed, moving)
    labels = read(inputs[2]), read(inputs[3])
    usual = settings_for(fixed.grid, "balanced")
    usual = usual if found.same_contrast else between_contrasts(usual)
    for smoothness, relaxation in settings:
        begin = time.process_time()
        plan = replace(usual, smoothness=usual.smoothness * smoothness / SMOOTHNESS, relaxation=relaxation)
        field, _ = optimise(fixed, moving, found.affine, plan)
        seconds = time.process_time() - begin
        content = Chain().resample(fixed.channels, fixed.grid, field.grid)[0] > FAINT
        rough = float(field_determinant(field)[content].clamp(min=1e-3).log().std())
        folded = 100 * float(nondiffeomorphic_volume(field)[content].mean())
        yield overlap(Chain((field, found.affine)), *labels), rough, folded, seconds


def main() -> None:
    """Add the rows of the sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--settings", default=USUAL)
    options = parser.parse_args()
    settings = [(float(a), float(b)) for a, b in (each.split(":") for each in options.settings.split(","))]
    new = not options.output.exists()
    with options.output.open("a", newline="") as file, tuned(1), torch.no_grad():
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        for name in options.sets.split(","):
            rows = np.array([list(measured(inputs, settings)) for inputs in SETS[name](options.data)])
            for setting, each in zip(settings, rows.swapaxes(0, 1), strict=True):
                writer.writerow([name, *setting, len(each), *(f"{number:.4f}" for number in each.mean(axis=0))])
            file.flush()


if __name__ == "__main__":
    main()
