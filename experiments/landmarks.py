"""Registrations of brains with known motion that landmarks guide: rescued ones, and the error at other points.

    python experiments/landmarks.py ../shared/data -o landmarks.csv [--pairs 40]

Scans of training subjects of OASIS at 3 mm are deformed by a smooth known field, and turned by 60 to 180 degrees about
a random axis (``turned``) or left as they are (``near``, half as many). Every pair is registered by ``fast`` without a
model and without a search of all rotations, on one thread: without landmarks; guided by 6 (``turned``) or 20 (``near``)
landmarks, placed far from each other with an error of half a voxel; and guided by the same of which one is wrong (6) or
three (20). The error is the mean distance from the truth at 200 other points of the content, in voxels. ``turned``
pairs that succeed without landmarks (error of at most two voxels) are skipped. Rows of an existing table are not
computed again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tables
import torch
from scipy.spatial.transform import Rotation

import maxca
from maxca.engine.volume import foreground
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.geometry.separable import gaussian, per_axis
from maxca.io.images import Image, read
from maxca.registration.resampling import resample

SPACING = 3.0  # mm
BEND = 6.0  # mm: standard deviation of each component of the field
FAILED = 2.0  # voxels
COLUMNS = ("kind", "pair", "guide", "landmarks", "error_voxels", "suspected", "wrong", "ndv_percent", "seconds")


def scans(data: Path) -> Iterator[Image]:
    """Coarse scans of training subjects, over and over."""
    subjects = json.loads((data / "oasis/split.json").read_text())["train"]
    while True:
        for subject in subjects:
            scan = read(data / f"oasis/sub-{subject}/anat/sub-{subject}_T1w.nii.gz")
            grid = scan.grid.at_spacing((SPACING,) * 3)
            yield resample(scan, grid, Chain(), "linear", fill=0)


def truth(grid: Grid, kind: str, random: np.random.Generator) -> Chain:
    """A known map, fixed world points → moving world points: a smooth field, then a turn about the middle."""
    noise = torch.from_numpy(random.normal(size=(3, *grid.shape))).float()
    smooth = per_axis(gaussian, grid.shape, (1, 1, 1), np.full(3, 24 / SPACING))(noise)
    bend = DenseField(smooth * (BEND / smooth.std()), grid)
    matrix = np.eye(4)
    if kind == "turned":
        axis = random.normal(size=3)
        turn = Rotation.from_rotvec(axis / np.linalg.norm(axis) * random.uniform(60, 180), degrees=True)
        matrix[:3, :3] = turn.as_matrix()
        matrix[:3, 3] = grid.center - matrix[:3, :3] @ grid.center
    return Chain((bend.faded(), Affine(matrix)))


def spread(points: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Rows of points far from each other: each is the farthest from those before it."""
    chosen = [int(random.integers(len(points)))]
    for _ in range(count - 1):
        far = np.min([np.linalg.norm(points - points[row], axis=1) for row in chosen], axis=0)
        chosen.append(int(far.argmax()))
    return np.array(chosen)


def register(pair: dict[str, Image], points: Any, chain: Chain, others: np.ndarray) -> dict[str, object]:
    """Register a pair and measure its error."""
    begin = time.process_time()
    given: dict[str, Any] = {**pair, "effort": "fast", "model": "none", "search": "off", "threads": 1}
    if points is not None:
        given |= {"fixed_points": points[0], "moving_points": points[1], "guide": ["points"]}
    found = maxca.register(**given)
    apart = np.linalg.norm(found.chain.map_points(others) - chain.map_points(others), axis=1)
    suspected = [name for each in found.record.guidance for name in each.suspected]
    return {
        "error_voxels": float(apart.mean() / SPACING),
        "suspected": " ".join(suspected),
        "ndv_percent": f"{found.metrics.folding.ndv_percent:.5f}",
        "seconds": f"{time.process_time() - begin:.1f}",
    }


def rows(fixed: Image, kind: str, number: int) -> list[dict[str, object]]:
    """Of one pair: without landmarks, with them, and with wrong ones."""
    random = np.random.default_rng([number, kind == "near"])
    chain = truth(fixed.grid, kind, random)
    # The scan is the moving image, and what it looks like under the map is the fixed one.
    pair = {"fixed": resample(fixed, fixed.grid, chain, "linear", fill=0), "moving": fixed}
    content = pair["fixed"].grid.to_world(np.argwhere(foreground(pair["fixed"].data)))
    count, bad = (6, 1) if kind == "turned" else (20, 3)
    places = content[spread(content, count, random)]
    others = content[random.choice(len(content), 200, replace=False)]
    ends = chain.map_points(places) + random.normal(0, SPACING / 2 / np.sqrt(3), places.shape)
    wrong = ends.copy()
    wrong[:bad] = np.roll(ends, count // 2, axis=0)[:bad]
    found = [{"guide": "none", "landmarks": 0} | register(pair, None, chain, others)]
    if kind == "turned" and float(str(found[0]["error_voxels"])) <= FAILED:
        return []
    found.append({"guide": "right", "landmarks": count} | register(pair, (places, ends), chain, others))
    marked = {"guide": "wrong", "landmarks": count, "wrong": " ".join(str(n + 1) for n in range(bad))}
    found.append(marked | register(pair, (places, wrong), chain, others))
    return [{"kind": kind, "pair": number, **each} | {"error_voxels": f"{each['error_voxels']:.3f}"} for each in found]


def main() -> None:
    """Add the missing rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=40, help="of each kind")
    options = parser.parse_args()
    old = tables.read(options.output)
    for kind in ("turned", "near"):
        done = {int(each["pair"]) for each in old if each["kind"] == kind}
        left = options.pairs // (2 if kind == "near" else 1) - len(done)
        for number, scan in enumerate(scans(options.data)):
            if left <= 0:
                break
            if number not in done and (found := rows(scan, kind, number)):
                for each in found:
                    tables.write(options.output, each, COLUMNS)
                left -= 1


if __name__ == "__main__":
    main()
