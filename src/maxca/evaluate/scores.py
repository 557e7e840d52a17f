"""Scores of one registration from its output folder, computed in a separate process.

    python -m maxca.evaluate.scores '{"tool": …, "folder": …, "transform": …, "pair": {…}}'    # prints JSON

Dice and surface distances from labels warped by nearest neighbour, with each tool's own command; folding of the *total*
map, deformable and affine part together, on the fixed grid, within the mask or otherwise the foreground of the fixed
image.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maxca import metrics, plugins
from maxca.engine.volume import foreground
from maxca.evaluate.peers import LABELS, MAP, PARTS, WARP, ToolInput
from maxca.geometry import Chain, Grid
from maxca.geometry.fit import fitted_affine
from maxca.io.images import read
from maxca.io.learn2reg import read_voxel_displacement
from maxca.io.transforms import read_transform
from maxca.options import MatrixConvention
from maxca.registration.assessment import label_scores, landmark_error
from maxca.registration.inputs import Side, noticed, paired_points, read_side
from maxca.registration.labels import as_labels

POINTS = 100_000  # points at which a map and its inverse are compared


def score(task: dict[str, Any]) -> dict[str, Any]:
    """The scores of one registration.

    Args:
        task: ``tool``; ``folder`` of its output; ``transform``, a file, for existing transforms, and its
            ``matrix_convention``; ``pair``: the files of the pair by column.

    Returns:
        One number per available score; ``warnings`` about these files; and ``labels``: label →
        Dice, HD95 and mean surface distance in mm, for those in both label maps. A label moved out of the image has
        a Dice of 0 and no distances.
    """
    files = {name: Path(path) for name, path in task["pair"].items()}
    sides = {
        which: read_side(
            which,
            files[which],
            files.get(f"{which}_mask"),
            files.get(f"{which}_labels"),
            files.get(f"{which}_points"),
        )
        for which in ("fixed", "moving")
    }
    fixed, moving = paired_points(sides["fixed"], sides["moving"])
    grid = fixed.image.grid
    registered = ToolInput(files["fixed"], files["moving"], Path(task["folder"]))
    given = task.get("transform")
    if given is not None:
        chain, inverse = read_given(Path(given), grid, moving.image.grid, task.get("matrix_convention")), None
    else:
        chain, inverse = maps(task["tool"], registered)
    inside = content(fixed)
    folds = metrics.folding(chain, grid, inside)
    scores: dict[str, Any] = {
        "warnings": noticed(fixed, moving),
        "ndv_percent": folds.ndv_percent,
        "nonpositive_percent": folds.nonpositive_percent,
        "sdlogj": folds.sd_log_jacobian,
        "sdlogj_learn2reg": folds.sd_log_jacobian_plus_3,
        "deformation_mm": deformation(chain, grid, inside),
    }
    if inverse is not None:
        voxels = np.argwhere(inside)
        points = grid.to_world(voxels[:: max(1, len(voxels) // POINTS)])
        scores["inverse_error_mm"] = float(metrics.inverse_consistency(chain, inverse, points).mean())
    warped = None
    if task["tool"] in WARP and given is None and fixed.labels is not None and moving.labels is not None:
        WARP[task["tool"]](registered, files["moving_labels"])
        warped = as_labels(read(registered.folder / LABELS))
    if found := label_scores(fixed, moving, chain, warped):
        before = label_scores(fixed, moving, Chain())
        scores |= {
            "dice": mean(found.dice),
            "dice_before": None if before is None else mean(before.dice),
            "hd95_mm": mean(found.hd95),
            "msd_mm": mean(found.msd),
            "labels": {name: [found.dice[name], found.hd95.get(name), found.msd.get(name)] for name in found.dice},
        }
    if errors := landmark_error(fixed, moving, chain):
        scores["tre_mm"], scores["tre_before_mm"] = errors["tre_mm_after"].mean, errors["tre_mm_before"].mean
    return scores


def maps(tool: str, pair: ToolInput) -> tuple[Chain, Chain | None]:
    """Fixed world points → moving world points from the output of a tool, and the inverse if available."""
    folder = pair.folder
    if tool in MAP:
        MAP[tool](pair)
    if tool in PARTS:
        read = (read_transform(folder / name, matrix_convention="ras") for name in PARTS[tool])
        return Chain(tuple(step for part in read for step in part.steps)), None
    if tool == "maxca":
        return read_transform(folder / "transform.h5"), read_transform(folder / "inverse_transform.h5")
    return Chain(), Chain()


def read_given(path: Path, fixed: Grid, moving: Grid, matrix_convention: MatrixConvention | None = None) -> Chain:
    """An existing transform of ITK, ANTs or greedy, or displacements in voxels as in Learn2Reg."""
    voxels = read_voxel_displacement(path, fixed, moving)
    return read_transform(path, matrix_convention, (fixed, moving)) if voxels is None else Chain((voxels,))


def content(fixed: Side) -> np.ndarray:
    """(I, J, K) bool: the mask, or the foreground."""
    if fixed.mask is not None:
        return np.asarray(fixed.mask) > 0
    return foreground(fixed.image.data)


def deformation(chain: Chain, grid: Grid, inside: np.ndarray) -> float:
    """Mean distance in mm between the map and its best-fitting affine."""
    voxels = np.argwhere(inside)
    start = grid.to_world(voxels[:: max(1, len(voxels) // POINTS)])
    moved = chain.map_points(start)
    affine = fitted_affine(start, moved)
    return float(np.linalg.norm(moved - affine.map_points(start), axis=1).mean())


def mean(values: dict[int, float]) -> float | None:
    """The mean over labels, None without labels."""
    return float(np.mean(list(values.values()))) if values else None


def main(arguments: Sequence[str]) -> None:
    """Print the scores of one registration."""
    task = json.loads(arguments[0])
    for source in task.get("plugins", ()):  # a plugin may provide the reader of the images
        plugins.load(source)
    print(json.dumps(score(task)))


if __name__ == "__main__":
    main(sys.argv[1:])
