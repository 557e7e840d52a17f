"""Registrations of brains with a lesion on one side: its volume, and the error around it, with and without exclusion.

    python experiments/exclusion.py ../shared/data -o exclusion.csv [--pairs 6] [--bends RADIUS]

A scan of a training subject of OASIS at 3 mm is seen through a known map: smooth bends of 6 mm, and a rigid motion
within 18 mm of a point in one hemisphere, so that volume does not change there. A lesion of 12 mm radius is painted
around it into one of the two images, dark with a bright rim. ``balanced`` registers the pair without a model on one
thread: without the lesion (clean), with it (ignored), and excluded with each ``--exclude-as``; SyN of ANTs does so
without and with cost-function masking. Errors are mean distances from the truth in mm, in the lesion, within 12 mm
around it, and elsewhere in the brain. With ``--bends`` nothing is rigid: the lesion, of the given radius in mm, bends
as the brain around it does, and only the filling by its surroundings is run. Rows of an existing table are not computed
again.
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
from landmarks import SPACING, scans
from scipy.spatial.transform import Rotation
from syn_pair import Maps, syn

import maxca
from maxca.engine.volume import foreground
from maxca.geometry import Chain, DenseField, Grid
from maxca.geometry.separable import gaussian, per_axis
from maxca.io.images import Image
from maxca.metrics import folding
from maxca.registration.exclusion import volumes_ml
from maxca.registration.resampling import resample

BEND = 6.0  # mm: standard deviation of each component of the field
LESION, RIGID, AROUND = 12.0, 18.0, 12.0  # mm: radius; radius of the rigid motion; of the surroundings
FADE = 18.0  # mm from the rigid motion to the bends
COLUMNS = (
    *("pair", "lesion", "radius_mm", "method", "true_change_percent", "volume_change_percent"),
    *("inside_mm", "around_mm", "elsewhere_mm", "ndv_percent", "seconds"),
)
OURS = ("clean", "ignored", "smooth", "volume", "rigid")


@dataclass(frozen=True, eq=False)
class Trial:
    """A pair with a known map and a lesion.

    Args:
        fixed: the scan seen through the map.
        moving: the scan.
        truth: fixed world points → moving world points.
        lesions: (I, J, K) bool of each image.
        radius: of the lesion, mm.
    """

    fixed: Image
    moving: Image
    truth: Chain
    lesions: dict[str, np.ndarray]
    radius: float = LESION


def trial(scan: Image, number: int, bends: float | None = None) -> Trial:
    """The pair of one scan.

    Args:
        scan: of a training subject.
        number: of the pair: the seed.
        bends: radius of a lesion that bends, mm; None for one that moves rigidly.
    """
    radius = LESION if bends is None else bends
    random = np.random.default_rng(number)
    grid = scan.grid
    content = grid.to_world(np.argwhere(foreground(scan.data)))
    middle, extent = content.mean(axis=0), np.ptp(content, axis=0)
    side = 1 if number % 2 else -1
    centre = middle + extent * [side * 0.22, random.uniform(-0.15, 0.15), random.uniform(0, 0.12)]
    truth = Chain((known(grid, centre, random, rigid=bends is None).faded(),))
    fixed = resample(scan, grid, truth, "linear", fill=0)
    nodes = grid.to_world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1))
    in_fixed = np.linalg.norm(nodes - centre, axis=-1) < radius
    in_moving = np.linalg.norm(nodes - truth.map_points(centre), axis=-1) < radius
    return Trial(fixed, scan, truth, {"fixed": in_fixed, "moving": in_moving}, radius)


def known(grid: Grid, centre: np.ndarray, random: np.random.Generator, *, rigid: bool) -> DenseField:
    """A smooth random field, rigid around a point or not."""
    noise = torch.from_numpy(random.normal(size=(3, *grid.shape))).float()
    smooth = per_axis(gaussian, grid.shape, (1, 1, 1), np.full(3, 24 / SPACING))(noise)
    smooth *= BEND / smooth.std()
    if not rigid:
        return DenseField(smooth, grid)
    nodes = grid.to_world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1))
    away = nodes - centre
    far = np.clip((np.linalg.norm(away, axis=-1) - RIGID) / FADE, 0, 1)
    share = torch.from_numpy(far * far * (3 - 2 * far)).float()
    turn = Rotation.from_rotvec(random.normal(0, 4, 3), degrees=True).as_matrix()
    index = np.rint(grid.to_voxel(centre)).astype(int)
    still = (
        np.moveaxis(away @ (turn - np.eye(3)).T, -1, 0)
        + smooth[:, index[0], index[1], index[2], None, None, None].numpy()
    )
    return DenseField(share * smooth + (1 - share) * torch.from_numpy(still).float(), grid)


def painted(image: Image, lesion: np.ndarray, number: int) -> Image:
    """The image with a dark lesion that has a bright rim."""
    from scipy import ndimage

    bright = np.percentile(image.data[image.data > 0], 99)
    core = ndimage.binary_erosion(lesion, iterations=1)
    level = np.where(core, 0.35, 1.1) * bright
    noise = np.random.default_rng(number).normal(0, 0.05 * bright, image.data.shape)
    data = np.where(lesion, level + noise, image.data)
    return replace(image, data=data.astype(image.data.dtype))


def measured(each: Trial, side: str, chain: Chain, inverse: Chain) -> dict[str, Any]:
    """Volume of the lesion, and errors."""
    grid = each.fixed.grid
    known = each.truth if side == "fixed" else each.truth.inverse()[0]
    lesion = each.lesions[side]
    (before, after), (_, truly) = (
        volumes_ml(lesion, grid, one) for one in (chain if side == "fixed" else inverse, known)
    )
    inside = foreground(each.fixed.data)
    points = grid.to_world(np.argwhere(inside))
    wrong = np.linalg.norm(chain.map_points(points) - each.truth.map_points(points), axis=1)
    centre = grid.to_world(np.argwhere(each.lesions["fixed"]).mean(axis=0))
    apart = np.linalg.norm(points - centre, axis=1)
    parts = {
        "inside_mm": apart < each.radius,
        "around_mm": (apart >= each.radius) & (apart < each.radius + AROUND),
        "elsewhere_mm": apart >= each.radius + AROUND,
    }
    return {
        "radius_mm": f"{each.radius:g}",
        "true_change_percent": f"{100 * (truly / before - 1):.2f}",
        "volume_change_percent": f"{100 * (after / before - 1):.2f}",
        **{name: f"{wrong[part].mean():.3f}" for name, part in parts.items()},
        "ndv_percent": f"{folding(chain, grid, inside).ndv_percent:.5f}",
    }


def rows(each: Trial, number: int, side: str, missing: set[str]) -> Iterator[dict[str, Any]]:
    """The rows of one pair with its lesion in one image."""
    region = Image(each.lesions[side].astype(np.uint8), each.fixed.grid)
    kept = replace(region, data=1 - region.data)
    clean: dict[str, Any] = {"fixed": each.fixed, "moving": each.moving}
    sick = clean | {side: painted(clean[side], each.lesions[side], number)}
    for name in (*OURS, "syn ignored", "syn masked"):
        if name not in missing:
            continue
        begin = time.process_time()
        if name.startswith("syn"):
            masks = {"fixed_mask" if side == "fixed" else "moving_mask": kept} if name == "syn masked" else {}
            found = syn(**sick, **masks)
        else:
            given: dict[str, Any] = (
                {} if name in ("clean", "ignored") else {f"{side}_exclude": region, "exclude_as": name}
            )
            result = maxca.register(**(clean if name == "clean" else sick), **given, model="none", threads=1)
            found = Maps(result.chain, result.inverse)
        seconds = f"{time.process_time() - begin:.1f}"
        yield {"pair": number, "lesion": side, "method": name, **measured(each, side, *found), "seconds": seconds}


def main() -> None:
    """Add the missing rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--bends", type=float, metavar="RADIUS", help="of a lesion that is not rigid, mm")
    options = parser.parse_args()
    old = tables.read(options.output)
    done = {(each["pair"], each["lesion"], each["radius_mm"], each["method"]) for each in old}
    methods = {*OURS, "syn ignored", "syn masked"} if options.bends is None else {"smooth"}
    for number, scan in zip(range(options.pairs), scans(options.data), strict=False):
        each = trial(scan, number, options.bends)
        for side in ("moving", "fixed"):
            missing = {name for name in methods if (str(number), side, f"{each.radius:g}", name) not in done}
            for row in rows(each, number, side, missing):
                tables.write(options.output, row, COLUMNS)


if __name__ == "__main__":
    main()
