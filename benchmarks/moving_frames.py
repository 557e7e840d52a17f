"""Series of known motion: frames of a real scan that moves rigidly, with noise, spikes and dropouts of slices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from maxca.io.images import read

NOISE = 0.04  # standard deviation, of the bright tissue
SPIKED = 0.1  # of the frames have a spike of k-space, and as many a slice without signal


@dataclass(frozen=True)
class Kind:
    """How a series is made from a scan.

    Args:
        path: of the scan, below the folder of data.
        spacing: of the frames in mm.
        margin: frames see this many voxels less of the scan at each side: anatomy moves into the field of view and
            out of it.
    """

    path: str
    spacing: tuple[float, float, float]
    margin: int = 0


@dataclass(frozen=True, eq=False)
class Made:
    """A series and its truth.

    Args:
        frames: (I, J, K, T) int16.
        affine: (4, 4) voxel to world.
        truth: (T, 4, 4) world points of the first frame → of each frame.
        points: (N, 3) world points of the content of the first frame.
    """

    frames: np.ndarray
    affine: np.ndarray
    truth: np.ndarray
    points: np.ndarray

    def save(self, path: Path) -> None:
        """Write a NIfTI file."""
        nib.save(nib.Nifti1Image(self.frames, self.affine), path)


def motion(count: int, rng: np.random.Generator, mm: float = 5.0, degrees: float = 5.0) -> np.ndarray:
    """(T, 6) translations in mm and rotations in degrees: a drift, and jumps, up to the given sizes."""
    drift = ndimage.gaussian_filter1d(rng.normal(size=(count, 6)), 4, axis=0)
    jumps = np.zeros((count, 6))
    for start in rng.choice(np.arange(1, count), max(1, count // 12), replace=False):
        jumps[start : start + int(rng.integers(1, 8))] += rng.normal(size=6)
    moved = drift / drift.std() + jumps
    moved -= moved[0]
    return moved / np.abs(moved).max(axis=0) * ([mm] * 3 + [degrees] * 3)


def make(scan: Path, kind: Kind, count: int, seed: int) -> Made:
    """Make a series.

    Args:
        scan: a 3-D image.
        kind: of the frames.
        count: of frames.
        seed: of motion and noise.
    """
    rng = np.random.default_rng(seed)
    image = read(scan)
    data = image.data.astype(np.float32)
    data = data / np.percentile(data[data > data.mean()], 99)
    ratio = np.array(kind.spacing) / image.grid.spacing
    coarse = ndimage.gaussian_filter(data, np.maximum(0.42 * np.sqrt(np.maximum(ratio**2 - 1, 0)), 0))
    coefficients = ndimage.spline_filter(coarse, order=3, mode="constant")
    affine = image.grid.affine.copy()
    affine[:3, :3] *= ratio
    shape = np.maximum(1, np.floor(np.array(data.shape) / ratio) - 2 * kind.margin).astype(int)
    affine[:3, 3] = image.grid.to_world((np.array(data.shape) - 1) / 2) - affine[:3, :3] @ (shape - 1) / 2
    nodes = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 3)
    world = nodes @ affine[:3, :3].T + affine[:3, 3]
    middle = world.mean(axis=0)
    truth, frames = [], []
    for row in motion(count, rng):
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_euler("xyz", row[3:], degrees=True).as_matrix()
        matrix[:3, 3] = middle + row[:3] - matrix[:3, :3] @ middle
        truth.append(matrix)
        there = np.linalg.inv(matrix)  # the anatomy that is at each voxel of the moved frame
        index = image.grid.to_voxel(world @ there[:3, :3].T + there[:3, 3])
        seen = ndimage.map_coordinates(coefficients, index.T, order=3, mode="constant", prefilter=False)
        frames.append(corrupted(seen.reshape(shape), rng, rng.random()))
    bright = frames[0] > 0.3
    values = (np.stack(frames, axis=-1) * 800).clip(-(2**15), 2**15 - 1)
    return Made(np.rint(values).astype(np.int16), affine, np.stack(truth), world[bright.ravel()])


def corrupted(frame: np.ndarray, rng: np.random.Generator, chance: float) -> np.ndarray:
    """A frame with noise (Rician), and by chance with a spike of k-space or a slice of weak signal."""
    noise = rng.normal(0, NOISE, (2, *frame.shape))
    frame = np.hypot(frame + noise[0], noise[1]).astype(np.float32)
    if chance < SPIKED:
        waves = np.tensordot(rng.uniform(-1, 1, 3), np.indices(frame.shape), 1)
        frame += 0.2 * np.cos(waves)
    elif chance < 2 * SPIKED:
        frame[:, :, int(rng.integers(frame.shape[2] // 4, 3 * frame.shape[2] // 4 + 1))] *= 0.3
    return frame
