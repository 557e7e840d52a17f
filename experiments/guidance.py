"""Registrations of brains that labels guide: overlap of the labels that guide and of all others, folding and time.

    python experiments/guidance.py ../shared/data/oasis/pairs_val.csv -o guidance.csv [--set training] [--ants]

Each pair of two subjects is registered by ``balanced`` without a model on one thread: without a guide, guided by eight
structures, and guided by all labels; with ``--ants`` also by ``ants.label_image_registration`` with the eight
structures and its defaults (SyN, each label one metric; with all labels it would have 138). ``--set training`` takes
three pairs of training subjects instead, on which the share of the force was chosen. Rows of an existing table are not
computed again. Seconds are those of the processor, without reading the files and scoring.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import tables
from relaxation import brains

from maxca.engine.volume import foreground
from maxca.geometry import Chain
from maxca.io.images import Image, read
from maxca.io.pairs import read_pairs
from maxca.io.transforms import read_transform
from maxca.metrics import common_labels, dice, folding
from maxca.options import RegistrationOptions
from maxca.registration.inputs import SideInputs
from maxca.registration.monitor import Monitor
from maxca.registration.record import FoldingRecord
from maxca.registration.register import register
from maxca.registration.resampling import apply

# Caudate, putamen, thalamus and hippocampus, right and left, in the numbers of Neuromorphometrics.
EIGHT = (36, 37, 57, 58, 59, 60, 47, 48)
ARMS = ("none", "eight", "all")
ANTS = "ants eight"
COLUMNS = ("set", "pair", "guide", "labels", "dice_eight", "dice_others", "dice", "ndv_percent", "sdlogj", "seconds")
UNGUIDED = ("read", "measure")  # stages whose seconds do not count


def only(labels: Image) -> Image:
    """The eight structures."""
    return replace(labels, data=np.where(np.isin(labels.data, EIGHT), labels.data, 0).astype(labels.data.dtype))


class Processor(Monitor):
    """Seconds of the processor, on a machine with other work."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """See ``Monitor``."""
        begin = time.process_time()
        with super().stage(name):
            yield
        self.seconds[name] = time.process_time() - begin


def row(images: tuple[Path, Path], labels: tuple[Image, Image], guide: str) -> dict[str, object]:
    """Register a pair and score all its labels."""
    guiding = [only(each) for each in labels] if guide == "eight" else labels
    fixed, moving = (SideInputs(image, labels=each) for image, each in zip(images, guiding, strict=True))
    options = RegistrationOptions(guide=() if guide == "none" else ("labels",), model="none", threads=1)
    found = register(fixed, moving, options, monitor=Processor())
    seconds = sum(time for stage, time in found.record.seconds.items() if stage not in UNGUIDED)
    return {"guide": guide} | scored(labels, found.chain, found.metrics.folding, seconds)


def ants_row(images: tuple[Path, Path], labels: tuple[Image, Image]) -> dict[str, object]:
    """The same by ANTs, guided by the eight structures; its default sets the intensities as well."""
    import ants

    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, each in enumerate(labels):
            only(each).save(f"{folder}/{number}.nii.gz")
            files.append(ants.image_read(f"{folder}/{number}.nii.gz"))
        scans = [ants.image_read(str(image)) for image in images]
        begin = time.process_time()
        found = ants.label_image_registration(files[:1], files[1:], scans[:1], scans[1:], output_prefix=f"{folder}/a_")
        seconds = time.process_time() - begin
        chain = Chain()
        for path in found["fwdtransforms"]:  # the last one is applied to points first
            chain = read_transform(path) @ chain
    scan = read(images[0])
    folds = FoldingRecord(**folding(chain, scan.grid, foreground(scan.data))._asdict())
    return {"guide": ANTS} | scored(labels, chain, folds, seconds)


def scored(labels: tuple[Image, Image], chain: Chain, folds: FoldingRecord, seconds: float) -> dict[str, object]:
    """Overlap of all labels under a map, fixed world points → moving world points, and its folding."""
    warped = apply(labels[1], labels[0], chain, interpolation="nearest")
    scores = dice(labels[0].data, warped.data, common_labels(labels[0].data, labels[1].data))
    eight = [score for label, score in scores.items() if label in EIGHT]
    others = [score for label, score in scores.items() if label not in EIGHT]
    return {
        "labels": len(scores),
        "dice_eight": f"{np.mean(eight):.4f}",
        "dice_others": f"{np.mean(others):.4f}",
        "dice": f"{np.mean(eight + others):.4f}",
        "ndv_percent": f"{folds.ndv_percent:.5f}",
        "sdlogj": f"{folds.sd_log_jacobian:.4f}",
        "seconds": f"{seconds:.2f}",
    }


def pairs(source: Path, name: str) -> Iterator[tuple[Path, Path, Path, Path]]:
    """Images and labels of the pairs of two subjects."""
    if name == "training":
        yield from list(brains(source.parents[1]))[:3]
        return
    for each in read_pairs(source):
        if each.group == "inter" and each.fixed_labels is not None and each.moving_labels is not None:
            yield each.fixed, each.moving, each.fixed_labels, each.moving_labels


def main() -> None:
    """Add the missing rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--set", choices=("validation", "training"), default="validation")
    parser.add_argument("--ants", action="store_true")
    options = parser.parse_args()
    old = tables.read(options.output)
    done = {(each["set"], each["pair"], each["guide"]) for each in old}
    for number, (fixed, moving, *drawn) in enumerate(pairs(options.pairs, options.set)):
        for guide in (*ARMS, ANTS) if options.ants else ARMS:
            if (options.set, str(number), guide) not in done:
                images, both = (fixed, moving), (read(drawn[0]), read(drawn[1]))
                found = ants_row(images, both) if guide == ANTS else row(images, both, guide)
                tables.write(options.output, {"set": options.set, "pair": number} | found, COLUMNS)


if __name__ == "__main__":
    main()
