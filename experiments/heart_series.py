"""Series of hearts of known motion: labels carried from end-diastole, ejection fraction, in-between frames.

    python experiments/heart_series.py ../shared/data/acdc -o heart_series.csv [--set training] [--patients 20]

ACDC has two labelled frames of each heart. A pairwise registration of them that their labels guide gives a field from
end-systole to end-diastole. The frames of a beat show end-diastole under fractions of that field, with noise of 2 % of
the bright tissue; the frame at end-systole is the real one. ``maxca.organ_motion`` aligns the series to the first frame
(cyclic) and carries the labels of end-diastole to every frame. Columns:

- ``dice``: of the carried labels at end-systole, by nearest neighbour; ``dice_pair``: of ``maxca.register`` of the two
  real frames, the same model and interpolation.
- ``ef_percent``: ejection fraction of the left ventricle by the table of labels, ``ef_carried`` from the voxels of the
  carried labels at end-systole, ``ef_pair`` by the pair, ``ef_true`` from the labels of both frames.
- ``dice_between``: of the labels carried to the in-between frames and their true labels there.
- ``error_mm``: mean distance between true and found position in the reference, over the true labels of the in-between
  frames; ``error_before_mm`` without registration.

``--set training`` takes training patients, on which the settings were chosen. Rows of an existing table are not
computed again.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import tables
import torch
from pair_rows import overlap

import maxca
from maxca.geometry import Chain, DenseField
from maxca.io.images import Image, read
from maxca.io.transforms import read_transform
from maxca.runtime import tuned
from maxca.workflows.series.options import SeriesInputs, SeriesOptions

FRAMES = 12
NOISE = 0.02  # standard deviation, of the 99th percentile
VENTRICLE = 3  # the label of the left ventricle
SETS = {"training": "pairs_train.csv", "validation": "pairs_val.csv"}
COLUMNS = (
    *("set", "patient", "asked", "model", "time_smoothness", "frames"),
    *("dice", "dice_pair", "dice_before", "ef_percent", "ef_carried", "ef_pair", "ef_true"),
    *("dice_between", "dice_between_before", "error_mm", "error_before_mm", "ndv_percent", "seconds", "peak_mb"),
)


class Heart(NamedTuple):
    """Both frames of a patient, as files, and their labels."""

    name: str
    systole: Path
    diastole: Path
    systole_labels: Image
    diastole_labels: Image


class Beat(NamedTuple):
    """A series and its truth.

    Args:
        path: of the series.
        fractions: (T,) of the field: 0 at end-diastole, 1 at end-systole.
        field: points of end-systole → points of end-diastole; at each fraction, points of a frame → those.
        systole: number of the real frame.
    """

    path: Path
    fractions: np.ndarray
    field: DenseField
    systole: int


def hearts(data: Path, which: str) -> Iterator[Heart]:
    """The patients of a set."""
    with (data / SETS[which]).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["group"] == "ED-to-ES":
                systole, diastole = data / row["fixed"], data / row["moving"]
                labels = read(data / row["fixed_labels"]), read(data / row["moving_labels"])
                yield Heart(systole.parent.name, systole, diastole, *labels)


def beat(heart: Heart, folder: Path, count: int, seed: int = 0) -> Beat:
    """A series of one beat, see above."""
    found = maxca.register(
        heart.systole,
        heart.diastole,
        fixed_labels=heart.systole_labels,
        moving_labels=heart.diastole_labels,
        guide=("labels",),
        model="none",
        effort="fast",
        initial_transform="header",
    )
    diastole, systole = read(heart.diastole), read(heart.systole)
    field = found.chain.field_on(systole.grid)
    rng = np.random.default_rng(seed)
    fractions = np.sin(np.pi * np.arange(count) / count) ** 2
    middle = int(fractions.argmax())
    values = torch.as_tensor(diastole.data.astype(np.float32))[None]
    frames = []
    for number, part in enumerate(fractions):
        moved = DenseField(part * field.displacement, field.grid)
        frame = Chain((moved,)).resample(values, diastole.grid, systole.grid, "bspline")[0].numpy()
        frame = systole.data.astype(np.float32) if number == middle else frame
        bright = float(np.percentile(diastole.data, 99))
        frames.append(np.maximum(frame + rng.normal(0, NOISE * bright, frame.shape), 0))
    path = folder / "beat.nii.gz"
    nib.save(nib.Nifti1Image(np.rint(np.stack(frames, axis=-1)).astype(np.int16), systole.grid.affine), path)
    return Beat(path, fractions, field, middle)


def row(heart: Heart, options: SeriesOptions, count: int) -> dict[str, Any]:
    """Measure one patient."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = beat(heart, folder, count)
        heart.diastole_labels.save(folder / "labels.nii.gz")
        found = maxca.organ_motion(
            made.path, folder / "out", options, inputs=SeriesInputs(labels=folder / "labels.nii.gz")
        )
        maps = [read_transform(each) for each in sorted((folder / "out" / "inverse_transforms").iterdir())]
    pair = maxca.register(heart.systole, heart.diastole, model=options.model, threads=1)
    between = list(_between(heart, made, maps))
    volumes = [each.volume_ml for each in found.measures.labels if each.label == VENTRICLE]
    both = heart.systole_labels, heart.diastole_labels
    record = found.record
    return {
        "patient": heart.name,
        "model": record.motion.model,
        "time_smoothness": options.time_smoothness,
        "frames": count,
        "dice": overlap(maps[made.systole], *both),
        "dice_pair": overlap(pair.chain, *both),
        "dice_before": overlap(Chain(), *both),
        "ef_percent": 100 * (1 - min(volumes) / max(volumes)),
        "ef_carried": _fraction(_carried(maps[made.systole], *both), heart.diastole_labels.data),
        "ef_pair": _fraction(_carried(pair.chain, *both), heart.diastole_labels.data),
        "ef_true": _fraction(heart.systole_labels.data, heart.diastole_labels.data),
        "dice_between": float(np.mean([each.dice for each in between])),
        "dice_between_before": float(np.mean([each.before for each in between])),
        "error_mm": _distance(each.errors for each in between),
        "error_before_mm": _distance(each.displacements for each in between),
        "ndv_percent": record.motion.ndv_percent,
        "seconds": record.seconds,
        "peak_mb": record.peak_memory_mb,
    }


class _Between(NamedTuple):
    """An in-between frame: Dice before and of the carried labels, (N, 3) displacements and errors of points."""

    before: float
    dice: float
    displacements: np.ndarray
    errors: np.ndarray


def _between(heart: Heart, made: Beat, maps: Sequence[Chain]) -> Iterator[_Between]:
    """Each in-between frame, compared where its true labels are."""
    diastole, grid = heart.diastole_labels, made.field.grid
    for number, part in enumerate(made.fractions):
        if number in (0, made.systole):
            continue
        truth = Chain((DenseField(float(part) * made.field.displacement, grid),))
        labels = replace(heart.systole_labels, data=_carried(truth, heart.systole_labels, diastole))
        points = grid.to_world(np.argwhere(labels.data != 0)[::7])
        there = truth.map_points(points)
        before, after = (overlap(chain, labels, diastole) for chain in (Chain(), maps[number]))
        yield _Between(before, after, there - points, maps[number].map_points(points) - there)


def _carried(chain: Chain, systole: Image, diastole: Image) -> np.ndarray:
    labels = torch.as_tensor(diastole.data.astype(np.int32))[None]
    return chain.resample(labels, diastole.grid, systole.grid, "nearest")[0].numpy()


def _distance(vectors: Iterable[np.ndarray]) -> float:
    return float(np.mean([np.linalg.norm(each, axis=-1).mean() for each in vectors]))


def _fraction(systole: np.ndarray, diastole: np.ndarray) -> float:
    return float(100 * (1 - (systole == VENTRICLE).sum() / (diastole == VENTRICLE).sum()))


def _cell(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Add the rows that the table lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--set", choices=SETS, default="validation")
    parser.add_argument("--patients", type=int, default=20)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--models", nargs="+", default=["auto"])
    parser.add_argument("--time-smoothness", nargs="+", type=float, default=[0.7])
    given = parser.parse_args()
    done = {
        (each["set"], each["patient"], each["asked"], each["time_smoothness"]) for each in tables.read(given.output)
    }
    for heart in list(hearts(given.data, given.set))[: given.patients]:
        for model in given.models:
            for smooth in given.time_smoothness:
                if (given.set, heart.name, model, f"{smooth:g}") in done:
                    continue
                options = SeriesOptions(
                    transform="deformable", cyclic=True, model=model, time_smoothness=smooth, threads=1
                )
                with tuned(1):
                    found = {"set": given.set, "asked": model} | row(heart, options, given.frames)
                tables.write(given.output, {name: _cell(found[name]) for name in COLUMNS}, COLUMNS)


if __name__ == "__main__":
    main()
