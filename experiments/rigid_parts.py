"""Registrations of brains in which three structures move rigidly: departure from a rigid motion, error and folding.

    python experiments/rigid_parts.py ../shared/data -o rigid_parts.csv [--pairs 4]

``known``: a scan of a training subject of OASIS at 3 mm is the moving image, and the fixed one is the scan seen through
a known map: smooth bends of 3 mm, in which brain stem and both temporal poles move rigidly, each on its own.
``subjects``: pairs of neighbouring training subjects at 3 mm, whose truth is not known; nothing in them is rigid, so
that this is the harder case. ``balanced`` registers without a model on one thread, freely and with the structures as
rigid bodies; SyN of ANTs is compared. The departure is the largest distance of the map from the best rigid motion
of a structure, at random points within its voxels, in voxels; errors are mean distances from the truth in mm, inside
the structures, within 12 mm around them, and elsewhere in the brain; Dice is that of the other labels. Rows of an
existing table are not computed again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tables
import torch
from landmarks import SPACING
from relaxation import brains
from scipy import ndimage
from scipy.spatial.transform import Rotation
from syn_pair import syn

import maxca
from maxca.engine.volume import foreground
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.geometry.landmarks import fitted_rigid
from maxca.geometry.separable import gaussian, per_axis
from maxca.io.images import Image, read
from maxca.metrics import common_labels, dice, folding
from maxca.registration.resampling import apply, resample

BODIES = (35, 202, 203)  # brain stem, right and left temporal pole, in the numbers of Neuromorphometrics
BEND, AROUND = 3.0, 12.0  # mm: standard deviation of the field; reach of the surroundings
MARGIN, FADE = 2.0, 15.0  # mm: around a structure that still moves rigidly; from there to the bends
METHODS = ("free", "rigid", "syn")
COLUMNS = (
    *("kind", "pair", "method", "departure_voxels", "inside_mm", "around_mm", "elsewhere_mm", "dice"),
    *("ndv_percent", "seconds"),
)


@dataclass(frozen=True, eq=False)
class Trial:
    """A pair with bodies in the fixed image.

    Args:
        fixed: the fixed image.
        moving: the moving image.
        bodies: labels of the fixed image.
        labels: all labels of both images.
        truth: fixed world points → moving world points, if known.
    """

    fixed: Image
    moving: Image
    bodies: Image
    labels: tuple[Image, Image]
    truth: Chain | None = None


def coarse(path: Path, interpolation: Any) -> Image:
    """An image at 3 mm."""
    image = read(path)
    return resample(image, image.grid.at_spacing((SPACING,) * 3), Chain(), interpolation, fill=0)


def trials(data: Path, count: int) -> Iterator[tuple[str, int, Trial]]:
    """The pairs of both kinds."""
    for number, (first, second, *drawn) in enumerate(list(brains(data))[:count]):
        fixed, moving = (coarse(Path(path), "linear") for path in (first, second))
        labels = coarse(Path(drawn[0]), "nearest"), coarse(Path(drawn[1]), "nearest")
        truth, bodies = known(labels[1], np.random.default_rng(number))
        seen = resample(moving, moving.grid, truth, "linear", fill=0)
        yield (
            "known",
            number,
            Trial(seen, moving, bodies, (resample(labels[1], moving.grid, truth, "nearest", fill=0), labels[1]), truth),
        )
        own = np.where(np.isin(labels[0].data, BODIES), labels[0].data, 0)
        yield "subjects", number, Trial(fixed, moving, Image(own.astype(np.int16), fixed.grid), labels)


def known(labels: Image, random: np.random.Generator) -> tuple[Chain, Image]:
    """A smooth random map to the space of labels, in which each body moves rigidly; and the bodies before it."""
    grid: Grid = labels.grid
    noise = torch.from_numpy(random.normal(size=(3, *grid.shape))).float()
    smooth = per_axis(gaussian, grid.shape, (1, 1, 1), np.full(3, 24 / SPACING))(noise).numpy()
    field = smooth * (BEND / smooth.std())
    nodes = grid.to_world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1))
    bodies = np.zeros(grid.shape, np.int16)
    for name in BODIES:
        only = replace(labels, data=(labels.data == name).astype(np.uint8))
        centre, shift = nodes[only.data > 0].mean(axis=0), field[:, only.data > 0].mean(axis=1)
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_rotvec(random.normal(0, 3, 3), degrees=True).as_matrix()
        matrix[:3, 3] = centre - matrix[:3, :3] @ (centre - shift)
        inside = resample(only, grid, Chain((Affine(matrix),)), "nearest", fill=0).data > 0
        bodies[inside] = name
        far = np.clip((ndimage.distance_transform_edt(~inside, sampling=grid.spacing) - MARGIN) / FADE, 0, 1)
        share = far * far * (3 - 2 * far)
        rigid = np.moveaxis(Affine(matrix).map_points(nodes) - nodes, -1, 0)
        field = share * field + (1 - share) * rigid
    return Chain((DenseField(torch.from_numpy(field).float(), grid).faded(),)), Image(bodies, grid)


def departure(chain: Chain, bodies: Image) -> float:
    """The largest distance from a rigid motion, in voxels, at random points within the voxels of the bodies."""
    random, worst = np.random.default_rng(0), 0.0
    for name in BODIES:
        index = np.argwhere(bodies.data == name)
        chosen = index[random.integers(len(index), size=20_000)]
        points = bodies.grid.to_world(chosen + random.uniform(-0.5, 0.5, chosen.shape))
        ends = chain.map_points(points)
        worst = max(worst, float(np.linalg.norm(fitted_rigid(points, ends).map_points(points) - ends, axis=1).max()))
    return worst / bodies.grid.smallest_spacing


def measured(each: Trial, chain: Chain) -> dict[str, Any]:
    """Departure, errors, overlap of the other labels, and folding."""
    grid, inside = each.fixed.grid, foreground(each.fixed.data)
    warped = apply(each.labels[1], each.labels[0], chain, interpolation="nearest")
    names = [name for name in common_labels(each.labels[0].data, each.labels[1].data) if name not in BODIES]
    row = {
        "departure_voxels": f"{departure(chain, each.bodies):.4f}",
        "dice": f"{np.mean(list(dice(each.labels[0].data, warped.data, names).values())):.4f}",
        "ndv_percent": f"{folding(chain, grid, inside).ndv_percent:.5f}",
    }
    if each.truth is not None:
        apart = ndimage.distance_transform_edt(each.bodies.data == 0, sampling=grid.spacing)
        near = (apart > 0) & (apart < AROUND) & inside
        for name, part in (("inside", apart == 0), ("around", near), ("elsewhere", (apart >= AROUND) & inside)):
            points = grid.to_world(np.argwhere(part))
            wrong = np.linalg.norm(chain.map_points(points) - each.truth.map_points(points), axis=1)
            row[f"{name}_mm"] = f"{wrong.mean():.3f}"
    return row


def main() -> None:
    """Add the missing rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=4, help="of each kind, at most 4")
    options = parser.parse_args()
    old = tables.read(options.output)
    done = {(each["kind"], each["pair"], each["method"]) for each in old}
    for kind, number, each in trials(options.data, options.pairs):
        for method in METHODS:
            if (kind, str(number), method) in done:
                continue
            begin = time.process_time()
            if method == "syn":
                chain = syn(each.fixed, each.moving).chain
            else:
                given: dict[str, Any] = {"rigid": each.bodies} if method == "rigid" else {}
                chain = maxca.register(each.fixed, each.moving, **given, model="none", threads=1).chain
            seconds = f"{time.process_time() - begin:.1f}"
            row = {"kind": kind, "pair": number, "method": method, **measured(each, chain), "seconds": seconds}
            tables.write(options.output, row, COLUMNS)


if __name__ == "__main__":
    main()
