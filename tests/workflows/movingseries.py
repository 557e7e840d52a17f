"""Series of the phantom with known motion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
from scipy.spatial.transform import Rotation

from maxca.geometry import Affine, Grid


def rigid(translation: Sequence[float], degrees: Sequence[float], about: Sequence[float] = (0, 0, 0)) -> Affine:
    """T(x) = R (x - c) + c + t, turned about the x axis first."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = np.add(translation, about) - matrix[:3, :3] @ about
    return Affine(matrix)


def motions(count: int, seed: int = 0) -> list[Affine]:
    """Up to 5 mm and 5 degrees; none of the first frame."""
    rows = np.random.default_rng(seed).uniform(-5, 5, (count, 6))
    return [Affine.identity(), *(rigid(row[:3], row[3:]) for row in rows[1:])]


def frame(where: Grid, motion: Affine, rng: np.random.Generator | None = None) -> np.ndarray:
    """What a grid sees of the phantom after it has moved."""
    values = phantoms.scene(motion.inverse()[0].map_points(phantoms.nodes(where)))
    return (values if rng is None else values + rng.normal(0, 12, values.shape)).astype(np.float32)


def write(path: Path, frames: Sequence[np.ndarray], where: Grid, dtype: str = "int16") -> Path:
    """A 4-D NIfTI file with a repetition time of 2 s."""
    image = nib.Nifti1Image(np.stack(frames, axis=-1).astype(dtype), where.affine)
    image.header.set_zooms((*image.header.get_zooms()[:3], 2.0))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return path


def apart(found: Affine, truth: Affine, where: Grid) -> float:
    """Mean distance of two maps over the phantom, in voxels."""
    points = phantoms.nodes(where).reshape(-1, 3)
    points = points[phantoms.inside(points) > 0.5]
    moved = found.map_points(points) - truth.map_points(points)
    return float(np.linalg.norm(moved, axis=-1).mean() / where.smallest_spacing)
