"""Registration of T1w and T2w scans of one subject with a known deformation: error with one channel and with both.

    python experiments/channels.py ../shared/data/ms/patient01    # hours on one core; resumes
    python experiments/channels.py ../shared/data/ms/patient01 --only "1 6 0 0.05" --tools fast,ants

The scans of one visit are the fixed image; those of the other visit, acquired months later, are deformed by a smooth
random map and are the moving image. The transforms of the data set align the channels of a visit, and the visits, so
that the true transform is known up to their error. With noise, independent Gaussian noise of that share of the
intensity range and a smooth bias field are added to every scan. Every case is registered with T1w alone, T2w alone, and
both as channels of equal weight; the error is measured in mm at points deep in the head that all scans show, the same
for all: skin, eyes and neck move between visits, so that their true place is not known. ``fast`` and ``balanced`` are
the efforts of this package; ``ants`` is SyN of ANTs with local correlation, initialised by its affine of the first
channel.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import cast

import numpy as np
import torch
from scipy import ndimage

import maxca
from maxca.engine.volume import normalise
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.geometry.grid import triple
from maxca.io.transforms import read_transform
from maxca.options import EffortName

sys.path.append(str(Path(__file__).parent))
import tables
from contrast import APART, bend

CONTRASTS = ("T1W", "T2W")
FIXED, BENDS, SEEDS, NOISES = (1, 2), (3, 6), (0, 1, 2), (0.0, 0.05)  # visits; mm; shares of the range
ARMS = {"T1W": (0,), "T2W": (1,), "both": (0, 1)}
TOOLS = ("fast", "balanced", "ants")
KEY = ("fixed_visit", "bend_mm", "seed", "noise", "tool", "channels")
COLUMNS = (*KEY, "before_mm", "mean_mm", "p95_mm", "seconds", "threads", "maxca")
BIAS, REACH = 0.2, 60.0  # largest change of intensity by the bias field, and its σ in mm
DEPTH, HEAD = 20.0, 0.1  # mm; of the intensity range
POINTS = 5_000
MARGIN = 6.0  # mm: points are at least this far inside all scans
BEYOND = 40.0  # mm of the deformation around the scans


@dataclass(frozen=True)
class Case:
    """Channels of both sides, and the truth.

    Args:
        fixed: T1w and T2w of one visit, in one world space.
        moving: those of the other visit, deformed.
        points: (N, 3) of the fixed image.
        truth: where they are in the moving images before the deformation.
        known: the deformation: points of the deformed images → points of the original ones.
    """

    fixed: list[maxca.Image]
    moving: list[maxca.Image]
    points: np.ndarray
    truth: np.ndarray
    known: DenseField

    def missed(self, points: np.ndarray) -> np.ndarray:
        """(N,) error in mm of the points of the moving image that a registration found."""
        return np.linalg.norm(self.known.map_points(points) - self.truth, axis=1)


def visit(folder: Path, number: int) -> list[maxca.Image]:
    """The channels of a visit in the world space of its FLAIR scan, by changes of their headers alone."""
    channels = []
    for contrast in CONTRASTS:
        image = maxca.read_image(folder / f"study{number}_{contrast}.nii.gz")
        placed = read_transform(folder / f"study{number}_{contrast}_intrastudy_to_FLAIR.txt").inverse()[0].as_affine()
        grid = Grid(image.grid.shape, placed.matrix @ image.grid.affine)
        channels.append(replace(image, data=scaled(image.data), grid=grid, path=None))
    return channels


def scaled(values: np.ndarray) -> np.ndarray:
    """Intensities from 0 to 1."""
    return normalise(torch.as_tensor(values.astype(np.float32))).numpy()


def degraded(image: maxca.Image, noise: float, rng: np.random.Generator) -> maxca.Image:
    """The image with a bias field and noise, if there is any."""
    if not noise:
        return image
    smooth = ndimage.gaussian_filter(rng.normal(size=image.data.shape), REACH / image.grid.spacing)
    bias = 1 + BIAS * smooth / np.abs(smooth).max()
    return replace(image, data=(image.data * bias + rng.normal(0, noise, image.data.shape)).astype(np.float32))


def around(images: list[maxca.Image]) -> Grid:
    """A grid along the world axes over all images, and beyond."""
    corners = np.concatenate([image.grid.corners for image in images])
    low, high = corners.min(axis=0) - BEYOND, corners.max(axis=0) + BEYOND
    affine = np.diag([APART, APART, APART, 1.0])
    affine[:3, 3] = low
    return Grid(triple(int(n) for n in np.ceil((high - low) / APART)), affine)


def deep(image: maxca.Image, seed: int) -> np.ndarray:
    """(N, 3) points of the head, RAS mm, at least ``DEPTH`` below its surface."""
    bright = ndimage.gaussian_filter(image.data, 2 / image.grid.spacing) > HEAD
    pieces, _ = ndimage.label(bright)
    head = pieces == np.bincount(pieces.flat)[1:].argmax() + 1
    filled = np.stack([ndimage.binary_fill_holes(head[..., k]) for k in range(head.shape[2])], axis=2)
    index = np.argwhere(ndimage.distance_transform_edt(filled, sampling=image.grid.spacing.tolist()) > DEPTH)
    return image.grid.to_world(np.random.default_rng(seed).permutation(index)[:POINTS])


def within(points: np.ndarray, images: list[maxca.Image]) -> np.ndarray:
    """(N,) bool: at least ``MARGIN`` mm inside all images."""
    found = np.ones(len(points), dtype=bool)
    for image in images:
        index, rim = image.grid.to_voxel(points), MARGIN / image.grid.spacing
        found &= ((index >= rim) & (index <= np.array(image.grid.shape) - 1 - rim)).all(axis=1)
    return found


def made(folder: Path, fixed_visit: int, rms: int, seed: int, noise: float) -> Case:
    """A case with a known deformation."""
    fixed, original = visit(folder, fixed_visit), visit(folder, 3 - fixed_visit)
    to_common = [read_transform(folder / f"study{n}_FLAIR_to_common_space.txt") for n in (fixed_visit, 3 - fixed_visit)]
    lies = to_common[1] @ to_common[0].inverse()[0]
    known = bend(around(original), rms, seed)
    rng = np.random.default_rng(1000 * fixed_visit + 100 * rms + seed)
    moving = []
    for image in original:
        values = torch.as_tensor(image.data)[None]
        moved = Chain((known,)).resample(values, image.grid, image.grid)[0].numpy()
        moving.append(degraded(replace(image, data=moved), noise, rng))
    points = deep(fixed[0], seed)
    truth = lies.map_points(points)
    shown = within(points, fixed) & within(truth, original)
    return Case([degraded(each, noise, rng) for each in fixed], moving, points[shown], truth[shown], known)


def by_maxca(case: Case, arm: tuple[int, ...], effort: EffortName, threads: int) -> np.ndarray:
    """The points of the moving image, by this package."""
    sides = ([side[channel] for channel in arm] for side in (case.fixed, case.moving))
    return maxca.register(*sides, effort=effort, model="none", threads=threads).chain.map_points(case.points)


def by_ants(case: Case, arm: tuple[int, ...]) -> np.ndarray:
    """The points of the moving image, by ANTs."""
    import ants
    import pandas as pd  # type: ignore[import-untyped]

    fixed, moving = ([ants_image(side[channel]) for channel in arm] for side in (case.fixed, case.moving))
    affine = ants.registration(fixed[0], moving[0], "Affine", random_seed=1)["fwdtransforms"]
    others = [["CC", f, m, 1, 4] for f, m in zip(fixed[1:], moving[1:], strict=True)]
    found = ants.registration(
        fixed[0],
        moving[0],
        "SyNOnly",
        initial_transform=affine[0],
        syn_metric="CC",
        syn_sampling=4,
        reg_iterations=(100, 70, 50, 10),
        multivariate_extras=others or None,
        random_seed=1,
    )["fwdtransforms"]
    turned = np.array([-1, -1, 1])  # RAS to LPS
    table = pd.DataFrame(case.points * turned, columns=["x", "y", "z"])
    return np.asarray(ants.apply_transforms_to_points(3, table, found)[["x", "y", "z"]]) * turned


def ants_image(image: maxca.Image) -> object:
    """The image as ANTs has it."""
    import ants

    turned = np.diag([-1.0, -1.0, 1.0])
    return ants.from_numpy(
        np.ascontiguousarray(image.data),
        origin=(turned @ image.grid.origin).tolist(),
        spacing=image.grid.spacing.tolist(),
        direction=turned @ image.grid.direction,
    )


def row(case: Case, key: tuple[object, ...], threads: int) -> dict[str, object]:
    """Register a case with some of its channels; the seconds are those of the processor."""
    tool, arm = str(key[4]), ARMS[str(key[5])]
    begin = time.process_time()
    found = by_ants(case, arm) if tool == "ants" else by_maxca(case, arm, cast(EffortName, tool), threads)
    error = case.missed(found)
    seconds = time.process_time() - begin
    still = case.missed(Affine.identity().map_points(case.points))
    return {
        **dict(zip(KEY, key, strict=True)),
        "before_mm": f"{still.mean():.4f}",
        "mean_mm": f"{error.mean():.4f}",
        "p95_mm": f"{np.percentile(error, 95):.4f}",
        "seconds": f"{seconds:.1f}",
        "threads": threads,
        "maxca": maxca.__version__,
    }


def main() -> None:
    """Compute the missing rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="with study1_T1W.nii.gz and so on, and their transforms")
    parser.add_argument("-o", "--output", type=Path, default=tables.RESULTS / "channels.csv")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="of the deformations")
    parser.add_argument("--only", help="only cases whose visit, deformation, seed and noise contain this text")
    parser.add_argument("--quick", action="store_true", help="only the first case, fast, as a test")
    options = parser.parse_args()
    known = {tuple(each[name] for name in KEY) for each in tables.read(options.output)}
    tools = TOOLS[:1] if options.quick else options.tools.split(",")
    seeds = map(int, options.seeds.split(","))
    for how in list(product(FIXED, BENDS, seeds, NOISES))[: 1 if options.quick else None]:
        if options.only and options.only not in " ".join(map(str, how)):
            continue
        keys = [(*how, tool, arm) for tool in tools for arm in ARMS if (*map(str, how), tool, arm) not in known]
        case = made(options.folder, *how) if keys else None
        for key in keys:
            assert case is not None
            found = row(case, key, options.threads)
            tables.write(options.output, found, COLUMNS)
            print(*key, found["mean_mm"], "mm of", found["before_mm"], found["seconds"], "s", flush=True)


if __name__ == "__main__":
    main()
