"""A beating left ventricle of known motion: a ball of blood in a thick wall, which contracts and keeps its volume."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms

from maxca.geometry import Grid
from maxca.io.images import Image

INNER, OUTER = 10.0, 19.0  # mm, radii at rest
CAVITY, WALL = 3, 2


def squeezed(points: np.ndarray, part: float) -> np.ndarray:
    """Where points of a contracted frame were at rest: every radius in the plane, r² + part * 60 mm², keeps areas."""
    flat = points[..., :2]
    radius = np.linalg.norm(flat, axis=-1, keepdims=True)
    fades = np.clip((OUTER + 12 - radius) / 12, 0, 1)
    grown = np.sqrt(radius**2 + 60 * part * fades)
    moved = points.copy()
    moved[..., :2] = flat * np.where(radius > 1e-6, grown / np.maximum(radius, 1e-6), 1)
    # Near the axis the map would be singular: blood has no texture, and moves smoothly.
    core = np.clip(radius / INNER, 0, 1)
    moved[..., :2] = (1 - core) * flat * np.sqrt(1 + 60 * part / INNER**2) + core * moved[..., :2]
    return moved


def ventricle(points: np.ndarray) -> np.ndarray:
    """Labels at rest."""
    radius = np.linalg.norm(points[..., :2], axis=-1)
    inside = np.where(radius < INNER, CAVITY, np.where(radius < OUTER, WALL, 0))
    return np.where(np.abs(points[..., 2]) < 20, inside, 0)


def tissue(points: np.ndarray) -> np.ndarray:
    """Intensity at rest: bright blood, dark textured wall, textured surroundings."""
    texture = 60 * np.sin(points @ phantoms.WAVES.T * 1.5 + phantoms.PHASES).sum(-1) / np.sqrt(len(phantoms.WAVES))
    labels = ventricle(points)
    around = np.linalg.norm(points[..., :2], axis=-1) < 38
    return np.where(labels == CAVITY, 600, np.where(labels == WALL, 250, np.where(around, 400, 60))) + texture


def parts(count: int) -> np.ndarray:
    """(T,) of the contraction, of one beat."""
    return np.sin(np.pi * np.arange(count) / count) ** 2


def write_beat(folder: Path, where: Grid, count: int, noise: float = 10.0) -> Path:
    """The series, and the labels at rest next to it."""
    rng = np.random.default_rng(3)
    nodes = phantoms.nodes(where)
    frames = [tissue(squeezed(nodes, part)) + rng.normal(0, noise, where.shape) for part in parts(count)]
    image = nib.Nifti1Image(np.stack(frames, axis=-1).clip(0).astype(np.int16), where.affine)
    image.header.set_zooms((*image.header.get_zooms()[:3], 0.08))
    nib.save(image, folder / "cine.nii.gz")
    phantoms.save(folder / "labels.nii.gz", Image(ventricle(nodes).astype(np.uint8), where))
    return folder / "cine.nii.gz"
