"""maxca compared with greedy, ANTs SyN and elastix on many kinds of images, with known truth.

    python benchmarks/any_organ.py ../shared/data WORK -o benchmarks/results/any_organ.csv [--kinds lung,echo]

Three pairs are real (``organs/``: landmarks or labels). The others are made from scans of the data folder by a known
map and a change of contrast, noise or field of view. The pairs are written to WORK. Existing rows are skipped.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import binary_fill_holes, gaussian_filter, map_coordinates, zoom

from maxca.geometry import Grid
from maxca.geometry.grid import triple
from maxca.io.images import read, write
from maxca.io.pairs import Pair, write_pairs

METHODS = "maxca:transform=affine,maxca-balanced,greedy,syn,elastix"
POINTS = 1500
BRAIN = "oasis/sub-{0}/anat/sub-{0}_T1w.nii.gz"
Map = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Source:
    """A scan to make a pair from.

    Args:
        values: (I, J, K).
        grid: of the values.
        content: (I, J, K) bool, where the error is measured.
    """

    values: np.ndarray
    grid: Grid
    content: np.ndarray


@dataclass(frozen=True)
class Made:
    """How a pair is made: the moving image is the scan at mapped points, after a change of its values.

    Args:
        scan: its file, in the data folder.
        shrink: voxels that become one.
        amplitude: of the motion, in fractions of the extent.
        width: of the motion: σ in fractions of the extent.
        axes: along which there is motion.
        change: (values in [0, 1], random numbers) → values in [0, 1] of the moving image.
        unit: factor of the spacing.
        sliding: there is motion inside the dark part of the content alone.
    """

    scan: str
    shrink: float = 1.0
    amplitude: float = 0.04
    width: float = 0.12
    axes: tuple[int, ...] = (0, 1, 2)
    change: Callable[[np.ndarray, np.random.Generator], np.ndarray] = lambda values, _: values
    unit: float = 1.0
    sliding: bool = False


def noisy(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Additive noise."""
    return values + rng.normal(0, 0.03, values.shape)


def speckled(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Multiplicative noise of two voxels' width, as in ultrasound."""
    return values * np.clip(1 + 1.2 * gaussian_filter(rng.normal(0, 1, values.shape), 1.0), 0, 3)


def t2_like(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Dark where T1 is bright; the background stays dark."""
    return np.where(values > 0.05, np.clip(1.15 - values, 0, 1) ** 1.3, 0) + rng.normal(0, 0.02, values.shape)


def blurred(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The resolution and noise of an echo-planar or a PET image."""
    return gaussian_filter(t2_like(values, rng), 1.5) + rng.normal(0, 0.02, values.shape)


def stained(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another stain: brightness by a curve that is not monotonic."""
    return np.abs(values - 0.45) * 1.4 + rng.normal(0, 0.02, values.shape)


def round_view(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Padding outside a circle in the plane, far below all values."""
    i, j = np.indices(values.shape[:2]) - (np.array(values.shape[:2])[:, None, None] - 1) / 2
    outside = np.hypot(i / values.shape[0], j / values.shape[1]) > 0.47
    return np.where(outside[..., None], -0.6, noisy(values, rng))


KINDS = {
    "brain to T2": Made(BRAIN.format(1000), 0.5, change=t2_like),
    "EPI along one axis": Made(BRAIN.format(1001), 0.5, axes=(1,), change=blurred),
    "mouse brain": Made(BRAIN.format(1002), 0.4, change=noisy, unit=0.06),
    "PET of a mouse": Made(BRAIN.format(1003), 0.4, amplitude=0.03, change=blurred, unit=0.06),
    "heart in thick slices": Made("acdc/patient001/patient001_frame01.nii.gz", change=noisy),
    "hippocampus": Made("hippocampus/imagesTr/hippocampus_185.nii.gz", change=noisy),
    "sliding chest wall": Made("organs/lung/fixed.nii.gz", amplitude=0.05, change=noisy, sliding=True),
    "round field of view": Made("organs/lung/fixed.nii.gz", change=round_view),
    "ultrasound": Made("organs/echo/fixed.nii.gz", amplitude=0.03, change=speckled),
    "histology": Made("organs/kidney/fixed.nii.gz", amplitude=0.05, axes=(0, 1), change=stained),
}
REAL = ("lung", "echo", "kidney")


def opened(data: Path, made: Made) -> Source:
    """The scan of a kind, shrunk, with values from 0 to 1."""
    image = read(data / made.scan)
    factors = [made.shrink if n > 1 else 1.0 for n in image.grid.shape]
    values = zoom(image.data.astype(np.float64), factors, order=1)
    low, high = np.percentile(values, [0.5, 99.5])
    values = np.clip((values - low) / (high - low), 0, 1)
    affine = image.grid.affine.copy()
    affine[:3, :3] *= made.unit * np.array(image.grid.shape) / np.array(values.shape)
    affine[:3, 3] *= made.unit
    content = np.stack([binary_fill_holes(values[..., k] > 0.15) for k in range(values.shape[2])], axis=2)
    return Source(values, Grid(triple(values.shape), affine), content)


def motion(source: Source, made: Made, rng: np.random.Generator) -> np.ndarray:
    """(3, I, J, K) displacement in voxels, the same in mm along all axes."""
    shape, spacing = source.grid.shape, source.grid.spacing
    extent = max(n * s for n, s in zip(shape, spacing, strict=True))
    sigma = [made.width * extent / s if n > 1 else 0.0 for n, s in zip(shape, spacing, strict=True)]
    out = np.zeros((3, *shape))
    for axis in made.axes:
        smooth = gaussian_filter(rng.normal(0, 1, shape), sigma)
        out[axis] = smooth / np.abs(smooth[source.content]).max() * made.amplitude * extent / spacing[axis]
    if made.sliding:
        out *= (gaussian_filter(source.values, 1.0) < 0.35) & source.content
    return out


def made_pair(data: Path, made: Made, folder: Path) -> Pair:
    """Write fixed and moving image and points of a made pair."""
    rng = np.random.default_rng(sum(map(ord, made.scan)) + len(made.axes))
    source = opened(data, made)
    moved = np.indices(source.grid.shape) + motion(source, made, rng)
    moving = made.change(map_coordinates(source.values, moved, order=1, mode="nearest"), rng)
    inside = np.argwhere(map_coordinates(source.content.astype(float), moved, order=1, mode="constant") > 0.5)
    here = inside[rng.permutation(len(inside))[:POINTS]]
    there = moved[:, here[:, 0], here[:, 1], here[:, 2]].T
    fixed_values = noisy(source.values, rng)
    for name, values in (("fixed", fixed_values), ("moving", moving)):
        write((values * 1000).round().astype(np.int16), source.grid, folder / f"{name}.nii.gz")
    points = folder / "fixed_points.csv", folder / "moving_points.csv"
    for path, index in zip(points, (there, here), strict=True):
        save_points(path, source.grid.to_world(index))
    return Pair(folder / "fixed.nii.gz", folder / "moving.nii.gz", fixed_points=points[0], moving_points=points[1])


def save_points(path: Path, points: np.ndarray) -> None:
    """RAS mm."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("x", "y", "z"), *points.round(5).tolist()])


def real_pair(data: Path, kind: str, folder: Path) -> Pair:
    """A pair of ``organs/``; for the lung, points inside it and where its known motion takes them."""
    place = data / "organs" / kind
    for file in place.iterdir():  # the table then has the names alone
        if not (folder / file.name).exists():
            (folder / file.name).symlink_to(file.resolve())
    images = folder / "fixed.nii.gz", folder / "moving.nii.gz"
    if kind == "echo":
        return Pair(*images, folder / "fixed_labels.nii.gz", folder / "moving_labels.nii.gz")
    if kind == "kidney":
        return Pair(*images, fixed_points=folder / "fixed_points.csv", moving_points=folder / "moving_points.csv")
    field = np.asarray(nib.load(place / "truth_displacement.nii.gz").dataobj)[:, :, :, 0]  # type: ignore[attr-defined]
    lung = read(place / "fixed_lung.nii.gz")
    inside = np.argwhere(lung.data > 0)
    index = inside[np.random.default_rng(0).permutation(len(inside))[:POINTS]]
    points = lung.grid.to_world(index)
    motion_ras = field[tuple(index.T)] * np.array([-1, -1, 1])  # ITK's vectors are LPS
    paths = folder / "fixed_points.csv", folder / "moving_points.csv"
    for path, each in zip(paths, (points, points + motion_ras), strict=True):
        save_points(path, each)
    return Pair(*images, fixed_points=paths[0], moving_points=paths[1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the pairs and run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--kinds", default=",".join((*REAL, *KINDS)))
    parser.add_argument("--methods", default=METHODS)
    options = parser.parse_args(arguments)
    for kind in options.kinds.split(","):
        folder = options.work / kind.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        made = KINDS.get(kind)
        pair = made_pair(options.data, made, folder) if made else real_pair(options.data, kind, folder)
        write_pairs(folder / "pairs.csv", [pair])
        words = ["--pairs", str(folder / "pairs.csv"), "--name", kind, "--methods", options.methods, "--threads", "2"]
        subprocess.run([sys.executable, "-m", "maxca", "evaluate", *words, "-o", str(options.output)], check=True)


if __name__ == "__main__":
    main()
