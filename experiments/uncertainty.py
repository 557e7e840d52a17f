"""The uncertainty of registrations with known maps, compared with their true error.

    python experiments/uncertainty.py ../shared/data -o uncertainty.csv [--pairs 8]

``brain``: a scan of a training subject of OASIS at 3 mm is seen through a smooth known map of 6 mm, and noise of 3 % is
added to both images. ``phantom``: a ball with texture and a part of 14 mm radius without, noise of 3 %, and a map with
waves of 3 mm; ``plain_mm`` and ``textured_mm`` are the uncertainty in both parts, ``plain_error_mm`` and
``textured_error_mm`` the true error. ``balanced`` registers each without a model on one thread with
``--uncertainty 8``; ``times_as_long`` is its time relative to one without. The rank correlation (Spearman) is over the
voxels of the content. Other rows change the perturbations: ``noise`` and ``smoothness`` alone, and the noise at its
estimated level (``full noise``). Rows of an existing table are not computed again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tables
from landmarks import scans, truth
from scipy.stats import spearmanr

import maxca
from maxca.engine.volume import foreground
from maxca.geometry import Chain, DenseField, Grid
from maxca.io.images import Image
from maxca.registration import uncertainty
from maxca.registration.resampling import resample

RUNS, NOISE = 8, 0.03  # of the brightest content
PERTURBATIONS = {  # the noise, and the largest factor of the smoothness
    "default": (uncertainty.NOISE, uncertainty.SMOOTHNESS),
    "noise": (uncertainty.NOISE, 1.0),
    "smoothness": (0.0, uncertainty.SMOOTHNESS),
    "full noise": (1.0, uncertainty.SMOOTHNESS),
}
RADIUS, PLAIN = 26.0, 14.0  # mm
COLUMNS = (
    *("kind", "pair", "perturbed", "spearman", "uncertainty_mm", "error_mm", "plain_mm", "textured_mm"),
    *("plain_error_mm", "textured_error_mm", "times_as_long"),
)


def noisy(image: Image, random: np.random.Generator) -> Image:
    """The image with noise in its content."""
    sd = NOISE * np.percentile(image.data[image.data > 0], 99)
    values = image.data + random.normal(0, sd, image.data.shape) * (image.data > 0)
    return replace(image, data=values.clip(0).astype(np.float32))


def brain(scan: Image, number: int) -> tuple[Image, Image, Chain]:
    """Fixed, moving, and the map between them."""
    random = np.random.default_rng(number)
    chain = truth(scan.grid, "near", random)
    fixed = resample(scan, scan.grid, chain, "linear", fill=0)
    return noisy(fixed, random), noisy(scan, random), chain


def phantom(number: int) -> tuple[Image, Image, Chain, np.ndarray]:
    """Fixed, moving, the map between them, and where the fixed one is plain (1) and textured (2)."""
    random = np.random.default_rng(number)
    shape = (27, 27, 27)
    affine = np.diag([2.5, 2.5, 2.5, 1.0])
    affine[:3, 3] = -2.5 * 13
    grid = Grid(shape, affine)
    nodes = grid.to_world(np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1))
    waves, phases = random.normal(0, 0.16, (24, 3)), random.uniform(0, 2 * np.pi, 24)
    centre = random.normal(size=3)
    centre *= 9 / np.linalg.norm(centre)
    bends, shifts = random.normal(0, 1 / 13, (3, 3)), random.uniform(0, 2 * np.pi, 3)

    def scene(points: np.ndarray) -> np.ndarray:
        inside = np.clip((RADIUS - np.linalg.norm(points, axis=-1)) / 4 + 0.5, 0, 1)
        texture = np.sin(points @ waves.T + phases).sum(-1) / np.sqrt(24)
        return inside * (4 + texture * (np.linalg.norm(points - centre, axis=-1) > PLAIN)) * 100

    moved = nodes + 3 * np.sin(nodes @ bends.T + shifts)
    field = DenseField(_tensor(np.moveaxis(moved - nodes, -1, 0)), grid)
    depth, away = RADIUS - np.linalg.norm(moved, axis=-1), np.linalg.norm(moved - centre, axis=-1)
    parts = np.where((depth > 4) & (away < PLAIN - 4), 1, np.where((depth > 8) & (away > PLAIN + 4), 2, 0))
    images = (Image(scene(points).astype(np.float32), grid) for points in (moved, nodes))
    fixed, moving = (noisy(image, random) for image in images)
    return fixed, moving, Chain((field,)), parts


def _tensor(values: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(values)).float()


def measured(fixed: Image, moving: Image, chain: Chain, parts: np.ndarray | None) -> dict[str, Any]:
    """The uncertainty and the error of a registration."""
    found = maxca.register(fixed, moving, model="none", threads=1, uncertainty=RUNS)
    assert found.uncertainty is not None
    inside = foreground(fixed.data)
    points = fixed.grid.to_world(np.argwhere(inside))
    error, mm = np.zeros(inside.shape), found.uncertainty.data
    error[inside] = np.linalg.norm(found.chain.map_points(points) - chain.map_points(points), axis=1)
    row = {
        "spearman": spearmanr(mm[inside], error[inside])[0],
        "uncertainty_mm": mm[inside].mean(),
        "error_mm": error[inside].mean(),
    }
    if parts is not None:
        for part, name in ((1, "plain"), (2, "textured")):
            row |= {f"{name}_mm": mm[parts == part].mean(), f"{name}_error_mm": error[parts == part].mean()}
    total = sum(found.record.seconds.values())
    row["times_as_long"] = total / (total - found.record.seconds["repeat"])
    return {name: f"{value:.3f}" for name, value in row.items()}


def rows(given: tuple[Any, ...], known: dict[str, Any], missing: list[str]) -> Iterator[dict[str, Any]]:
    """The missing rows of one pair."""
    usual = uncertainty.NOISE, uncertainty.SMOOTHNESS
    for name in missing:
        uncertainty.NOISE, uncertainty.SMOOTHNESS = PERTURBATIONS[name]
        yield known | {"perturbed": name} | measured(*given)
    uncertainty.NOISE, uncertainty.SMOOTHNESS = usual


def main() -> None:
    """Add the missing rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=8)
    options = parser.parse_args()
    old = tables.read(options.output)
    done = {(each["kind"], each["pair"], each["perturbed"]) for each in old}
    for number, scan in zip(range(options.pairs), scans(options.data), strict=False):
        for kind in ("brain", "phantom"):
            missing = [name for name in PERTURBATIONS if (kind, str(number), name) not in done]
            given = (*brain(scan, number), None) if kind == "brain" else phantom(number)
            for row in rows(given, {"kind": kind, "pair": number}, missing):
                tables.write(options.output, row, COLUMNS)


if __name__ == "__main__":
    main()
