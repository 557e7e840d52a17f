"""Accuracy of registrations of synthetic and of real pairs, on reference kernels.

    python tests/accuracy.py DATA > tests/golden/accuracy.json

The measures are computed from the transform and the warped image alone, not by the package's own metrics. Libraries
choose among kernels that round differently, by the processor; the ascent of a pair whose optimum is flat then ends
elsewhere (its TRE differs by up to 15 %). So this script runs itself again with the environment variables by which
each library takes the same kernels on every x86-64 processor with AVX2.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

REFERENCE_KERNELS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
if __name__ == "__main__" and any(os.environ.get(name) != value for name, value in REFERENCE_KERNELS.items()):
    # Libraries read these when they are loaded.
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **REFERENCE_KERNELS})

import numpy as np  # noqa: E402
from organs import ORGANS, Organ, nodes, to_voxels  # noqa: E402

import maxca  # noqa: E402
from maxca import Grid, Result  # noqa: E402
from maxca.io.images import Image, read  # noqa: E402
from maxca.io.points import read_points  # noqa: E402

HIPPOCAMPUS = "hippocampus/{}Tr/hippocampus_185.nii.gz", "hippocampus/{}Tr/hippocampus_361.nii.gz"
REAL: dict[str, dict[str, Any]] = {
    "hippocampi of two people": {
        "images": [name.format("images") for name in HIPPOCAMPUS],
        "labels": [name.format("labels") for name in HIPPOCAMPUS],
        "options": {"model": "auto"},
    },
    "a heart, end-diastole to end-systole": {
        "images": [f"acdc/patient001/patient001_frame{n}.nii.gz" for n in ("12", "01")],
        "labels": [f"acdc/patient001/patient001_frame{n}_gt.nii.gz" for n in ("12", "01")],
        "options": {"effort": "fast"},
        "every": 2,
    },
    "kidney sections in two stains": {
        "images": ["organs/kidney/fixed.nii.gz", "organs/kidney/moving.nii.gz"],
        "points": ["organs/kidney/fixed_points.csv", "organs/kidney/moving_points.csv"],
        "options": {"effort": "fast"},
        "every": 2,
    },
}


def synthetic(organ: Organ) -> dict[str, float]:
    """Dice, TRE in mm over the organ, and correlation, of a pair whose warp is known everywhere."""
    fixed, moving = organ.fixed(), organ.moving()
    result = register(fixed, moving, **organ.options)
    points = nodes(fixed.grid)
    truth, found = organ.truth(points), result.chain.map_points(points)
    inside = organ.labels(truth) > 0
    return {
        "dice": dice(organ.labels(truth), organ.labels(found)),
        "tre": float(np.linalg.norm(found - truth, axis=-1)[inside].mean()),
        "similarity": correlation(fixed, result.warped),
    }


def real(files: Mapping[str, Any], folder: Path) -> dict[str, float]:
    """The same where labels or landmarks were drawn by people."""
    fixed, moving, *labels = (
        thinned(read(folder / name), files.get("every", 1)) for name in (*files["images"], *files.get("labels", ()))
    )
    result = register(fixed, moving, **files["options"])
    found = {"similarity": correlation(fixed, result.warped)}
    if labels:
        drawn, other = labels
        found["dice"] = dice(drawn.data, nearest(other, result.chain.map_points(nodes(drawn.grid))))
    if "points" in files:
        here, there = (read_points(folder / name).coordinates for name in files["points"])
        found["tre"] = float(np.linalg.norm(result.chain.map_points(here) - there, axis=-1).mean())
    return found


def thinned(image: Image, every: int) -> Image:
    """Every n-th voxel in the plane: large slices take too long for a test."""
    data = image.data[::every, ::every].copy()
    return replace(image, data=data, grid=Grid(data.shape, image.grid.affine @ np.diag([every, every, 1, 1])))


def register(fixed: Image, moving: Image, **options: Any) -> Result:
    return maxca.register(fixed, moving, **{"model": "none", "threads": 1, **options})


def dice(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Mean over the labels of ``ours``."""
    overlaps = []
    for label in np.unique(ours[ours > 0]):
        a, b = ours == label, theirs == label
        overlaps.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    return float(np.mean(overlaps))


def correlation(fixed: Image, warped: Image) -> float:
    """Absolute correlation of the values of two images on one grid: contrasts may be inverted."""
    return float(abs(np.corrcoef(fixed.data.ravel(), warped.data.ravel())[0, 1]))


def nearest(labels: Image, points: np.ndarray) -> np.ndarray:
    """Labels of the voxels nearest to world points (…, 3); 0 outside."""
    index = np.rint(to_voxels(labels.grid, points)).astype(int)
    known = ((index >= 0) & (index < labels.grid.shape)).all(axis=-1)
    i, j, k = np.moveaxis(np.where(known[..., None], index, 0), -1, 0)
    return np.where(known, labels.data[i, j, k], 0)


def main(data: Path) -> None:
    """Print the measures of the synthetic pairs, and of the real ones whose folders are there, as JSON."""
    found = {name: synthetic(organ) for name, organ in ORGANS.items()}
    for name, files in REAL.items():
        if (data / files["images"][0]).exists():
            found[name] = real(files, data)
    rounded = {name: {key: float(f"{value:.6g}") for key, value in row.items()} for name, row in found.items()}
    print("{" + ",\n ".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rounded.items()) + "}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
