"""Synthetic pairs of many kinds with a known warp: organs painted as ellipsoids, seen through any grid.

All lengths are shares of an organ's radius, so that a kind holds at any scale; ``radius`` makes millimetres of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maxca.geometry import Grid
from maxca.io.form import Form
from maxca.io.images import Image

WAVES = np.random.default_rng(11).normal(0, 5.0, (20, 3))  # of the texture, radians per radius
PHASES = np.random.default_rng(12).uniform(0, 2 * np.pi, 20)
Ellipsoid = tuple[tuple[float, float, float], tuple[float, float, float], float, int]  # centre, radii, value, label


@dataclass(frozen=True)
class Organ:
    """A kind of pair.

    Args:
        parts: painted one over the other.
        radius: in mm.
        spacing: of the fixed image, in mm.
        moving_spacing: of the moving image, if another.
        outside: value around everything.
        texture: standard deviation of the values inside.
        warp: size of the deformation.
        turn: rotation of the moving image, in degrees about (1, 1, 1).
        shift: of the moving image along (1, -1, 0.5).
        flips: axes of the fixed array that run backwards.
        inverted: the moving image has dark for bright.
        flat: 2-D.
        options: of ``maxca.register``.
    """

    parts: tuple[Ellipsoid, ...]
    radius: float
    spacing: tuple[float, float, float]
    moving_spacing: tuple[float, float, float] | None = None
    outside: float = 0.0
    texture: float = 25.0
    warp: float = 0.06
    turn: float = 3.0
    shift: float = 0.05
    flips: str = ""
    inverted: bool = False
    flat: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def grid(self, spacing: tuple[float, float, float], flips: str = "") -> Grid:
        """A box of 1.35 radii to all sides around the origin; a single slice of a flat organ."""
        shape = np.maximum(np.round(2.7 * self.radius / np.array(spacing)).astype(int), 2)
        if self.flat:
            shape[2] = 1
        signs = np.array([-1.0 if axis in flips else 1.0 for axis in "ijk"])
        affine = np.diag([*(signs * spacing), 1.0])
        affine[:3, 3] = -affine[:3, :3] @ (shape - 1) / 2
        return Grid(tuple(int(n) for n in shape), affine)

    def fixed(self) -> Image:
        """The organ after the warp."""
        where = self.grid(self.spacing, self.flips)
        return self._image(self._paint(self.truth(nodes(where)), 2), where)

    def moving(self) -> Image:
        """The organ itself."""
        where = self.grid(self.moving_spacing or self.spacing)
        values = self._paint(nodes(where), 2)
        highest = max(value for *_, value, _ in self.parts)
        return self._image(
            np.where(values > 0.2 * highest, 1.2 * highest - values, 0) if self.inverted else values, where
        )

    def labels(self, points: np.ndarray) -> np.ndarray:
        """Labels of the moving organ at world points (…, 3)."""
        return self._paint(points, 3)

    def truth(self, points: np.ndarray) -> np.ndarray:
        """Fixed world points (…, 3) → moving world points, in mm."""
        u = points / self.radius
        x, y, z = np.moveaxis(u, -1, 0)
        waves = np.stack(
            [np.sin(2.6 * y + 1.9 * z), np.cos(2.4 * x) * np.sin(2.1 * z + 1), np.sin(2.5 * x - 2.2 * y)], -1
        )
        axis = np.array([0.0, 0.0, 1.0]) if self.flat else np.ones(3) / np.sqrt(3)
        angle = np.radians(self.turn)
        turned = (
            u * np.cos(angle)
            + np.cross(axis, u) * np.sin(angle)
            + np.outer(u @ axis, axis).reshape(u.shape) * (1 - np.cos(angle))
        )
        moved = turned + self.warp * waves + self.shift * np.array([1.0, -1.0, 0.5])
        if self.flat:
            moved[..., 2] = u[..., 2]
        return moved * self.radius

    def _paint(self, points: np.ndarray, what: int) -> np.ndarray:
        u = points / self.radius
        painted = np.full(u.shape[:-1], self.outside if what == 2 else 0.0)
        edge = max(self.spacing[:2]) / self.radius
        grain = self.texture * np.sin(u @ WAVES.T + PHASES).sum(-1) * np.sqrt(2 / len(WAVES))
        for part in self.parts:
            centre, radii = np.array(part[0]), np.array(part[1])
            away = (1 - np.linalg.norm((u - centre) / radii, axis=-1)) * radii.min() / edge
            if what == 3:
                painted = np.where(away > 0, part[3], painted)
            else:
                inside = np.clip(away + 0.5, 0, 1)
                painted = painted * (1 - inside) + (part[2] + grain) * inside
        return painted

    def _image(self, values: np.ndarray, where: Grid) -> Image:
        return Image(np.round(values).astype(np.int16), where, form=Form(dimension=2 if self.flat else 3))


def nodes(where: Grid) -> np.ndarray:
    """World points of all voxels, (I, J, K, 3)."""
    return where.to_world(np.stack(np.meshgrid(*map(np.arange, where.shape), indexing="ij"), axis=-1))


def to_voxels(grid: Grid, points: np.ndarray) -> np.ndarray:
    """Voxel coordinates of world points (…, 3)."""
    inverse = np.linalg.inv(grid.affine)
    return points @ inverse[:3, :3].T + inverse[:3, 3]


HEAD: tuple[Ellipsoid, ...] = (
    ((0, 0, 0), (0.85, 1.0, 0.8), 120, 1),
    ((0, 0, 0), (0.7, 0.85, 0.65), 260, 2),
    ((0.2, 0.1, 0.1), (0.12, 0.4, 0.15), 40, 3),
    ((-0.2, 0.1, 0.1), (0.12, 0.4, 0.15), 40, 3),
    ((0, -0.55, -0.4), (0.4, 0.2, 0.15), 190, 4),
)
HEART: tuple[Ellipsoid, ...] = (
    ((-0.5, 0.1, 0), (0.42, 0.65, 0.9), 320, 1),
    ((0.2, 0, 0), (0.6, 0.6, 0.95), 130, 2),
    ((0.2, 0, 0), (0.38, 0.38, 0.85), 330, 3),
)
CHEST: tuple[Ellipsoid, ...] = (
    ((0, 0, 0), (1.0, 0.75, 1.0), 40, 0),
    ((-0.5, 0, 0), (0.36, 0.55, 0.8), -850, 1),
    ((0.5, 0, 0), (0.36, 0.55, 0.8), -850, 2),
    ((0.1, 0.2, -0.2), (0.25, 0.3, 0.3), 60, 3),
)
CURVED: tuple[Ellipsoid, ...] = (
    ((0, 0, 0), (1.1, 1.1, 1.1), 90, 0),
    ((0, 0.35, 0.1), (0.3, 0.5, 0.32), 200, 1),
    ((0.1, -0.35, 0), (0.26, 0.55, 0.28), 180, 2),
)
KIDNEYS: tuple[Ellipsoid, ...] = (
    ((0, 0, 0), (1.0, 0.8, 1.0), 150, 0),
    ((-0.5, -0.2, 0), (0.28, 0.3, 0.55), 330, 1),
    ((0.5, -0.2, 0.1), (0.28, 0.3, 0.55), 330, 2),
    ((0, -0.4, 0), (0.18, 0.2, 0.9), 260, 3),
)

ORGANS = {
    "head": Organ(HEAD, 80.0, (5.0, 5.0, 5.0), flips="ij", texture=50),
    "head, fast": Organ(HEAD, 80.0, (4.5, 4.5, 4.5), texture=50, options={"effort": "fast"}),
    "head at 60 µm": Organ(HEAD, 1.0, (0.06, 0.06, 0.06), texture=50, options={"effort": "fast"}),
    "heart in thick slices": Organ(HEART, 50.0, (2.5, 2.5, 9.0), warp=0.08),
    "chest": Organ(CHEST, 150.0, (9.0, 9.0, 9.0), outside=-1000, warp=0.08),
    "small crop": Organ(CURVED, 18.0, (1.2, 1.2, 1.2), shift=0.1),
    "kidneys in two contrasts": Organ(KIDNEYS, 120.0, (8.0, 8.0, 8.0), inverted=True, options={"similarity": "mi"}),
    "kidneys by mean squares": Organ(
        KIDNEYS, 120.0, (8.0, 8.0, 8.0), (7.0, 7.0, 10.0), turn=12.0, shift=0.15, options={"similarity": "mse"}
    ),
    "a slice of a head": Organ(HEAD, 80.0, (1.8, 1.8, 1.8), flat=True),
}
