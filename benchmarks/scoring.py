"""Scores one registration; a process of its own, so that the benchmark's stays small.

    python scoring.py METHOD FOLDER FIXED FIXED_LABELS MOVING_LABELS    # prints one line of JSON

The same code for every method: Dice and HD95 from the labels that the method's own tool warped (nearest neighbour), and
the folding of its *total* map, deformable and affine part together, from its transform files on the fixed grid, where
the fixed image is above 0.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import torch
from peers import FIELD, LABELS

from maxca.geometry import Chain, Grid
from maxca.io.itk import read_transform
from maxca.metrics import dice, folding, hd95


def main(arguments: Sequence[str]) -> None:
    """Print the scores of one registration."""
    method, *paths = arguments
    folder, fixed, fixed_labels, moving_labels = map(Path, paths)
    print(json.dumps(score(method, folder, fixed, fixed_labels, moving_labels)))


def score(method: str, folder: Path, fixed: Path, fixed_labels: Path, moving_labels: Path) -> dict[str, float]:
    image, grid = read(fixed)
    truth, _ = read_labels(fixed_labels)
    warped, _ = read_labels(folder / LABELS)
    folds = folding(total_map(method, folder), grid, image > 0)
    return {
        "dice": mean(dice(truth, warped)),
        "dice_before": mean(dice(truth, unregistered(moving_labels, grid))),
        "hd95_mm": mean(hd95(truth, warped, grid.spacing)),
        "ndv_percent": folds.ndv_percent,
        "nonpositive_percent": folds.nonpositive_percent,
        "sdlogj": folds.sd_log_jacobian,
    }


def total_map(method: str, folder: Path) -> Chain:
    """Fixed world points to moving world points, as the method left it."""
    if method == "greedy":
        return joined(folder / "warp.nii.gz", folder / "aff.mat")
    if method == "syn":
        return joined(folder / "syn_1Warp.nii.gz", folder / "syn_0GenericAffine.mat")
    if method == "elastix":
        return read_transform(folder / FIELD)
    return read_transform(folder / "transform.h5")


def joined(*files: Path) -> Chain:
    """The transforms of ``files``, the first of which meets the fixed point first."""
    return Chain(tuple(step for file in files for step in read_transform(file).steps))


def unregistered(labels: Path, reference: Grid) -> np.ndarray:
    """Moving labels on the fixed grid, by the headers alone."""
    data, grid = read_labels(labels)
    return Chain().resample(torch.as_tensor(data)[None], grid, reference, "nearest")[0].numpy()


def read(path: Path) -> tuple[np.ndarray, Grid]:
    image = nibabel.load(path)
    return np.asarray(image.dataobj), Grid(image.shape, image.affine)


def read_labels(path: Path) -> tuple[np.ndarray, Grid]:
    data, grid = read(path)
    return np.rint(data).astype(np.int32), grid


def mean(values: dict[int, float]) -> float:
    return float(np.mean(list(values.values()))) if values else float("nan")


if __name__ == "__main__":
    main(sys.argv[1:])
