"""Pairs with a known answer: one scene, defined at every point of the world, seen through any grid and any map."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from maxca.geometry import Chain, Grid
from maxca.io.images import Image

Map = Callable[[np.ndarray], np.ndarray]
RADIUS = 26.0  # mm, of the textured ball around the origin
WAVES = np.random.default_rng(5).normal(0, 0.16, (24, 3))  # radians per mm
PHASES = np.random.default_rng(6).uniform(0, 2 * np.pi, 24)


def scene(points: np.ndarray) -> np.ndarray:
    """Intensity at world points (…, 3): texture inside a ball, 0 outside."""
    texture = np.sin(points @ WAVES.T + PHASES).sum(-1) / np.sqrt(len(WAVES))
    return inside(points) * (4 + texture) * 100


def inside(points: np.ndarray) -> np.ndarray:
    return np.clip((RADIUS - np.linalg.norm(points, axis=-1)) / 4 + 0.5, 0, 1)


def regions(points: np.ndarray) -> np.ndarray:
    """Labels at world points: 1 to 4, quarters of the ball."""
    quarter = 1 + (points[..., 0] > 3) + 2 * (points[..., 1] > -2)
    return np.where(inside(points) > 0.5, quarter, 0)


def grid(spacing: tuple[float, float, float] = (2.5, 2.5, 2.5), extent: float = 66.0, flips: str = "") -> Grid:
    """A cube of ``extent`` mm around the origin; ``flips`` names the axes that run backwards."""
    shape = np.array([round(extent / s) for s in spacing])
    signs = np.array([-1.0 if axis in flips else 1.0 for axis in "ijk"])
    affine = np.diag([*(signs * spacing), 1.0])
    affine[:3, 3] = -affine[:3, :3] @ (shape - 1) / 2
    return Grid(tuple(shape), affine)


def bend(points: np.ndarray) -> np.ndarray:
    """A smooth map of fixed to moving world points: a small shift and turn, and waves of up to 3 mm."""
    x, y, z = np.moveaxis(points, -1, 0)
    waves = np.stack([np.sin(y / 11 + z / 17), np.cos(x / 12) * np.sin(z / 15), np.sin(x / 10 - y / 14)], axis=-1)
    turn = np.array([[0, -0.04, 0.02], [0.04, 0, 0], [-0.02, 0, 0]])
    return points + 3 * waves + points @ turn.T + np.array([3.0, -2.0, 1.0])


def image(where: Grid, through: Map = lambda x: x, what: Map = scene) -> Image:
    """What a grid sees of the scene through a map from its world points."""
    values = what(through(nodes(where)))
    return Image(values.astype(np.int16 if what is scene else np.uint8), where)


def nodes(where: Grid) -> np.ndarray:
    return where.to_world(np.stack(np.meshgrid(*map(np.arange, where.shape), indexing="ij"), axis=-1))


def error(chain: Chain, truth: Map = bend, where: Grid | None = None) -> float:
    """Mean distance in mm between a chain and the true map, over the ball in fixed space."""
    points = nodes(where or grid()).reshape(-1, 3)
    points = points[inside(bend(points)) > 0.5]
    return float(np.linalg.norm(chain.map_points(points) - truth(points), axis=-1).mean())


def save(path: Path, content: Image) -> Path:
    nib.save(nib.Nifti1Image(content.data, content.grid.affine), path)
    return path
