"""Registrations of known quality to calibrate the verdict: real and manipulated scans.

A result is classified by its outcome and not by the manipulation: by its distance from the known map between the two
images, or by the overlap of labels relative to that of good results. Images of different organs and noise have
no correct result. Results between correct and wrong are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io.images import Image

THICK = 2.5  # slices are not resampled if they are this many times thicker than pixels


@dataclass(frozen=True, eq=False)
class Scan:
    """An image, its labels if available, and the map to its source.

    Args:
        image: voxels and grid.
        labels: on the same grid, or None.
        source: this image's world points → world points of its source scan; None if there is no such map.
        subject: name of the subject.
    """

    image: Image
    labels: np.ndarray | None
    source: Chain
    subject: str

    def changed(self, data: np.ndarray) -> Scan:
        """A copy with other intensities."""
        return replace(self, image=replace(self.image, data=data.astype(np.float32)))


@dataclass(frozen=True, eq=False)
class Trial:
    """A pair to register.

    Args:
        name: unique, ``"set/kind/number"``.
        fixed: the fixed scan.
        moving: the moving scan.
        truth: ``"map"`` (both come from one scan), ``"labels"`` or ``"none"`` (nothing corresponds).
        fixed_mask: for ``register``.
        moving_mask: for ``register``.
        then: manipulation of the result, to make it wrong; fixed world → fixed world.
        around: fixed world points where the error is measured too, such as those around a lesion.
        options: further ones of ``register``.
    """

    name: str
    fixed: Scan
    moving: Scan
    truth: str
    fixed_mask: np.ndarray | None = None
    moving_mask: np.ndarray | None = None
    then: Chain = field(default_factory=Chain)
    around: np.ndarray | None = None
    options: dict[str, object] = field(default_factory=dict)


def scan(path: Path, labels: Path | None = None, mm: float = 0.0, subject: str = "") -> Scan:
    """Read an image; voxels smaller than ``mm`` are averaged to about that size."""
    nifti = nib.Nifti1Image.from_filename(path)
    data = np.asarray(nifti.dataobj, dtype=np.float32)
    affine = nifti.affine
    assert affine is not None
    data = data[..., None] if data.ndim == 2 else data
    regions = None if labels is None else np.asarray(nib.Nifti1Image.from_filename(labels).dataobj).astype(np.int16)
    grid = Grid(data.shape, affine)
    steps = [max(1, round(mm / s)) if n > 1 else 1 for s, n in zip(grid.spacing, grid.shape, strict=True)]
    if max(steps) > 1:
        keep = [n // s * s for n, s in zip(grid.shape, steps, strict=True)]
        cut = tuple(slice(n) for n in keep)
        blocks = [m for n, s in zip(keep, steps, strict=True) for m in (n // s, s)]
        data = data[cut].reshape(blocks).mean(axis=(1, 3, 5))
        middle = tuple(slice(s // 2, n, s) for n, s in zip(keep, steps, strict=True))
        regions = None if regions is None else regions[cut][middle]
        coarse = grid.affine.copy()
        coarse[:3, :3] *= steps
        coarse[:3, 3] = grid.to_world((np.array(steps) - 1) / 2)
        grid = Grid(data.shape, coarse)
    return Scan(Image(data, grid), regions, Chain(), subject or path.name)


def bent(of: Scan, voxels: float, seed: int, reach: float = 0.12) -> Scan:
    """The scan deformed by a smooth random map with a given RMS displacement in voxels.

    Args:
        of: the scan.
        voxels: of its finest spacing.
        seed: of the map.
        reach: σ of the map as a fraction of the longest side.
    """
    grid = of.image.grid
    extent = max(n * s for n, s in zip(grid.shape, grid.spacing, strict=True))
    nodes = grid.at_spacing([max(extent * reach / 3, s) for s in grid.spacing])
    noise = np.random.default_rng(seed).normal(size=(3, *nodes.shape))
    motion = torch.from_numpy(ndimage.gaussian_filter(noise, (0, *(extent * reach / nodes.spacing)))).float()
    for axis in grid.thin_axes:  # no motion out of the plane of a 2-D image
        motion -= torch.as_tensor(grid.direction[:, axis, None, None, None] * motion.numpy()).sum(0) * torch.as_tensor(
            grid.direction[:, axis, None, None, None]
        )
    motion = motion.float()
    motion *= voxels * grid.smallest_spacing / motion.square().sum(dim=0).mean().sqrt()
    return seen(of, Chain((DenseField(motion, nodes),)), grid)


def seen(of: Scan, through: Chain, grid: Grid) -> Scan:
    """The scan on another grid, through a map from that grid's world to its own."""
    values = torch.as_tensor(of.image.data.astype(np.float32))[None]
    low = float(of.image.data.min())
    data = through.resample(values, of.image.grid, grid, fill=low)[0].numpy()
    labels = None
    if of.labels is not None:
        labels = through.resample(torch.as_tensor(of.labels)[None], of.image.grid, grid, "nearest")[0].numpy()
    return Scan(Image(data, grid), labels, of.source @ through, of.subject)


def turned(of: Scan, degrees: float, axis: np.ndarray) -> Scan:
    """The scan rotated about its centre, on a grid that contains it, with an unrotated header."""
    grid = of.image.grid
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis)).as_matrix()
    turn[:3, 3] = grid.center - turn[:3, :3] @ grid.center
    return seen(of, Chain((Affine(turn),)), grid)


def mirrored(of: Scan, axis: int) -> Scan:
    """The voxels in reverse order along an axis of the array, with an unchanged header."""
    grid = of.image.grid
    flip = np.eye(4)
    flip[axis, axis], flip[axis, 3] = -1, grid.shape[axis] - 1
    world = grid.affine @ flip @ grid.world_to_voxel
    return seen(of, Chain((Affine(world),)), grid)


def scaled(of: Scan, factor: float) -> Scan:
    """A header with spacings scaled by ``factor``, about the same centre."""
    affine = of.image.grid.affine.copy()
    affine[:3, :3] *= factor
    affine[:3, 3] = of.image.grid.center - affine[:3, :3] @ ((np.array(of.image.grid.shape) - 1) / 2)
    grid = Grid(of.image.grid.shape, affine)
    back = Affine(of.image.grid.affine @ grid.world_to_voxel)
    return Scan(Image(of.image.data, grid), of.labels, of.source @ Chain((back,)), of.subject)


def cut(of: Scan, axis: int, share: float, low: bool) -> Scan:
    """A part of the field of view along one axis of the array."""
    n = of.image.grid.shape[axis]
    keep = max(2, round(share * n))
    start, end = [0, 0, 0], list(of.image.grid.shape)
    start[axis], end[axis] = (0, keep) if low else (n - keep, n)
    box = tuple(slice(a, b) for a, b in zip(start, end, strict=True))
    labels = None if of.labels is None else of.labels[box]
    return Scan(Image(of.image.data[box], of.image.grid.box(start, end)), labels, of.source, of.subject)


def inverted(of: Scan) -> Scan:
    """Inverted intensities with unchanged background."""
    data = of.image.data
    top = np.percentile(data, 99.5)
    low = data.min() + 0.02 * (top - data.min())
    return of.changed(np.where(data > low, np.clip(1.15 * top - data, data.min(), None), data))


def noisy(of: Scan, share: float, seed: int) -> Scan:
    """Gaussian noise, σ as a fraction of the 99th percentile."""
    sigma = share * np.percentile(of.image.data, 99)
    return of.changed(of.image.data + np.random.default_rng(seed).normal(0, sigma, of.image.data.shape))


def blurred(of: Scan, voxels: float) -> Scan:
    """Gaussian smoothing, σ in voxels of the finest axis."""
    grid = of.image.grid
    sigma = [voxels * grid.smallest_spacing / s if n > 1 else 0 for s, n in zip(grid.spacing, grid.shape, strict=True)]
    return of.changed(ndimage.gaussian_filter(of.image.data, sigma))


def slab(of: Scan, share: float, seed: int) -> Scan:
    """A missing slab across the third axis."""
    data = of.image.data.copy()
    n = data.shape[2]
    width = max(1, round(share * n))
    start = int(np.random.default_rng(seed).integers(n // 5, n - n // 5 - width + 1))
    data[:, :, start : start + width] = data.min()
    return of.changed(data)


def thick(of: Scan, every: int) -> Scan:
    """Thick slices along the third axis: means of n slices."""
    data, grid = of.image.data, of.image.grid
    count = data.shape[2] // every
    affine = grid.affine.copy()
    affine[:3, 2] *= every
    affine[:3, 3] += grid.affine[:3, 2] * (every - 1) / 2
    values = data[:, :, : count * every].reshape(*data.shape[:2], count, every).mean(axis=-1)
    labels = None if of.labels is None else of.labels[:, :, every // 2 : count * every : every]
    return Scan(Image(values, Grid(values.shape, affine)), labels, of.source, of.subject)


def nothing(like: Scan, seed: int, smooth: float) -> Scan:
    """Noise on the grid of a scan, ``smooth`` voxels wide, with its range of intensities."""
    noise = np.random.default_rng(seed).normal(size=like.image.data.shape)
    noise = ndimage.gaussian_filter(noise, smooth) if smooth else noise
    noise = (noise - noise.min()) / np.ptp(noise) * np.percentile(like.image.data, 99)
    return replace(like.changed(noise), labels=None)


def headed(brain: Scan, seed: int) -> Scan:
    """A skull-stripped brain within synthetic fluid, skull and scalp."""
    data = brain.image.data
    inside = ndimage.binary_fill_holes(data > 0.05 * np.percentile(data, 99))
    away = ndimage.distance_transform_edt(~inside, sampling=brain.image.grid.spacing)
    top = np.percentile(data, 95)
    random = np.random.default_rng(seed)
    texture = 1 + 0.15 * ndimage.gaussian_filter(random.normal(size=data.shape), 1.5) * 5
    shell = np.select(
        [away <= 0, away < 5, away < 10, away < 18], [data, 0.15 * top, 0.05 * top, 0.9 * top * texture], 0
    )
    return brain.changed(shell)


def padded(of: Scan, voxels: int) -> Scan:
    """The scan padded with background."""
    grid = of.image.grid
    wide = grid.box([-voxels] * 3, [n + voxels for n in grid.shape])
    low = float(of.image.data.min())
    labels = None if of.labels is None else np.pad(of.labels, voxels)
    return Scan(Image(np.pad(of.image.data, voxels, constant_values=low), wide), labels, of.source, of.subject)


def with_lesion(of: Scan, radius: float, seed: int) -> tuple[Scan, np.ndarray, np.ndarray]:
    """A synthetic lesion, a dark ball with a bright rim that replaces tissue: the scan, the ball, its centre in mm.

    Args:
        of: the scan.
        radius: as a fraction of the longest side.
        seed: of its position.
    """
    grid, data = of.image.grid, of.image.data
    mm = radius * max(n * s for n, s in zip(grid.shape, grid.spacing, strict=True))
    deep = ndimage.distance_transform_edt(data > 0.1 * np.percentile(data, 99), sampling=grid.spacing)
    places = np.argwhere(deep > min(1.1 * mm, 0.8 * deep.max()))
    middle = grid.to_world(places[np.random.default_rng(seed).integers(len(places))])
    nodes = grid.to_world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1))
    distance = np.linalg.norm(nodes - middle, axis=-1)
    top = np.percentile(data, 99)
    ball = distance < mm
    return of.changed(np.select([distance < 0.75 * mm, ball], [0.2 * top, 1.1 * top], data)), ball, middle
