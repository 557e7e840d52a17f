"""Multi-atlas labelling of the brains of OASIS: Dice of each fusion, and of ANTs' joint label fusion.

    python experiments/labelling.py ../shared/data/oasis -w WORK -o labelling.csv [--scans val] [--methods joint,ants]

Each scan is labelled by the 15 training subjects (a training subject by the 14 others), by ``maxca label`` with
``fast`` registrations. ``single`` is the mean over the atlases of the Dice of one atlas alone; ``ants`` is joint label
fusion by antspyx of the same warped atlases, with the same patches, search, alpha and beta, at the voxels where the
atlases differ, background where the probabilities of other labels leave most; ``antspyx`` is the segmentation that
antspyx returns, which has no background there; ``ants3`` searches within 3 voxels, its default, instead of 1. Dice is
the mean over the labels of the scan. Settings were chosen on the training subject 1000. Seconds are the sum over the
registrations, on one thread, and processor time of the fusion. Rows of an existing table are not computed again, nor
are registrations in WORK.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from maxca.datasets.brain import read_bids
from maxca.io.images import Image, read
from maxca.io.pairs import Scan
from maxca.metrics import dice
from maxca.options import RegistrationOptions
from maxca.registration.record import WARPED, read_record
from maxca.registration.result import LABELS
from maxca.runtime import tuned
from maxca.workflows.cohort.options import CohortOptions
from maxca.workflows.labelling.fusion.fuse import FusionSettings, fuse
from maxca.workflows.labelling.fusion.stack import stacked
from maxca.workflows.labelling.options import LabellingOptions
from maxca.workflows.labelling.run import REGISTRATIONS, label_by_atlases

COLUMNS = ("scan", "method", "atlases", "dice", "registration_seconds", "fusion_seconds")
METHODS = ("single", "vote", "local", "joint", "ants")
Atlas = tuple[np.ndarray, np.ndarray]


def registered(scan: Scan, atlases: Sequence[Scan], work: Path) -> tuple[list[Atlas], float]:
    """The warped atlases of a scan by the workflow, the most similar first, and the seconds of all registrations."""
    folder = work / scan.name
    options = RegistrationOptions(effort="fast", threads=1)
    vote = LabellingOptions([atlas for atlas in atlases if atlas.subject != scan.subject], fusion="vote")
    record = label_by_atlases(scan.image, folder, vote, options, CohortOptions(workers=1)).record
    ranked = sorted(record.atlases, key=lambda atlas: -(atlas.similarity or 0))
    places = [folder / REGISTRATIONS / atlas.name for atlas in ranked]
    seconds = sum(sum(read_record(place).seconds.values()) for place in places)
    return [(read(place / WARPED).data, read(place / LABELS).data) for place in places], seconds


def by_ants(target: np.ndarray, atlases: Sequence[Atlas], search: int, returned: bool) -> np.ndarray:
    """Joint label fusion by ANTs at the voxels where the atlases differ."""
    import ants

    settings = FusionSettings()
    stack = stacked(target, atlases)
    margin = 2 * settings.patch + search
    box = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in stack.box)
    cut = [(image[box].astype(np.float32), labels[box].astype(np.uint32)) for image, labels in atlases]
    contested = np.logical_or.reduce([labels != cut[0][1] for _, labels in cut])
    fused = ants.joint_label_fusion(
        ants.from_numpy(target[box].astype(np.float32)),
        ants.from_numpy(contested.astype(np.float32)),
        [ants.from_numpy(image) for image, _ in cut],
        beta=settings.beta,
        rad=settings.patch,
        label_list=[ants.from_numpy(labels) for _, labels in cut],
        rho=settings.alpha,
        usecor=True,
        r_search=search,
    )
    # antspyx returns probabilities of labels other than 0, and a segmentation without 0: the rest is the background's.
    best, rest = np.zeros(contested.shape, np.float32), np.ones(contested.shape, np.float32)
    found = np.zeros(contested.shape, np.int64)
    for label, image in zip(fused["segmentation_numbers"], fused["probabilityimages"], strict=True):
        share = image.numpy()
        better = share > best
        best[better], found[better] = share[better], label
        rest -= share
    if returned:
        found = fused["segmentation"].numpy().astype(np.int64)
    else:
        found[rest >= best] = 0
    labels = np.zeros(target.shape, np.int64)
    labels[box] = np.where(contested, found, cut[0][1])
    return labels


def fusion(method: str, target: np.ndarray, atlases: Sequence[Atlas]) -> Callable[[], np.ndarray]:
    """A function that fuses the labels."""
    if method.startswith("ants"):
        search = int(method[4:]) if method[4:].isdecimal() else FusionSettings().search
        return lambda: by_ants(target, atlases, search, returned=method == "antspyx")
    return lambda: fuse(stacked(target, atlases), method).labels  # type: ignore[arg-type]


def overlap(truth: Image, labels: np.ndarray) -> float:
    """Mean Dice over the labels of the scan."""
    return float(np.mean(list(dice(truth.data, labels, [n for n in np.unique(truth.data).tolist() if n]).values())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-w", "--work", type=Path, required=True)
    parser.add_argument("--scans", default="val", help="val, or numbers of subjects with commas")
    parser.add_argument("--methods", default=",".join(METHODS))
    given = parser.parse_args()
    scans = read_bids(given.data)
    split = json.loads((given.data / "split.json").read_text())
    atlases = [scan for scan in scans if scan.split == "train"]
    numbers = split["val"] if given.scans == "val" else given.scans.split(",")
    done = set()
    if given.output.exists():
        done = {(row["scan"], row["method"]) for row in csv.DictReader(given.output.open(encoding="utf-8"))}
    for number in numbers:
        scan = next(each for each in scans if each.name.startswith(f"sub-{number}_"))
        missing = [name for name in given.methods.split(",") if (scan.name, name) not in done]
        if missing:
            add(scan, atlases, missing, given.work, given.output)


def add(scan: Scan, atlases: Sequence[Scan], methods: Sequence[str], work: Path, output: Path) -> None:
    """Label a scan and add its rows to the table."""
    assert scan.labels is not None
    warped, registration = registered(scan, atlases, work)
    truth, target = read(scan.labels), read(scan.image).data
    for method in methods:
        begin = time.process_time()
        with tuned(1):
            if method == "single":
                found = float(np.mean([overlap(truth, labels) for _, labels in warped]))
            else:
                found = overlap(truth, fusion(method, target, warped)())
        seconds = 0.0 if method == "single" else time.process_time() - begin
        row = (scan.name, method, len(warped), f"{found:.4f}", f"{registration:.0f}", f"{seconds:.0f}")
        new = not output.exists()
        with output.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(COLUMNS)
            writer.writerow(row)
        print(*row, flush=True)


if __name__ == "__main__":
    main()
