"""Strain of labels: along the local axes of a left ventricle, or its principal values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage

from maxca.geometry import Chain, Grid
from maxca.geometry.strain import green_lagrange

AROUND = 0.9  # of the outline of a cavity, in its slices, that touches its wall
CAVITY = 0.1  # of the volume of a wall, at least: what a cavity has; a nodule in a lung has less
THICK = 1.5  # times the spacing within slices: then their normal is the long axis


class Ventricle(NamedTuple):
    """A cavity and its wall.

    Args:
        cavity: its label.
        wall: the label around it.
    """

    cavity: int
    wall: int


@dataclass(frozen=True, eq=False)
class LabelRegion:
    """Labels within a box around them.

    Args:
        labels: (I, J, K) integers.
        grid: of the box.
        names: the labels that occur, without the background.
    """

    labels: np.ndarray
    grid: Grid
    names: tuple[int, ...]

    @classmethod
    def of(cls, labels: np.ndarray, grid: Grid) -> LabelRegion:
        """The region around all labels, with a voxel of margin."""
        inside = np.argwhere(labels != 0)
        low = np.maximum(inside.min(axis=0) - 1, 0)
        high = np.minimum(inside.max(axis=0) + 2, labels.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        names = tuple(int(each) for each in np.unique(labels) if each != 0)
        return cls(labels[box], grid.box(low.tolist(), high.tolist()), names)

    @property
    def across(self) -> int:
        """The axis across the slices: one with a single voxel, or that of the largest spacing."""
        return next(iter(self.grid.thin_axes), int(np.argmax(self.grid.spacing)))

    @property
    def ventricle(self) -> Ventricle | None:
        """A cavity and the wall that encloses it in its slices, as the myocardium the left ventricle.

        A label that is small against the one around it, as a nodule in a lung, is no cavity.
        """
        within = [axis for axis in range(3) if axis != self.across and self.labels.shape[axis] > 1]
        sizes = {name: np.count_nonzero(self.labels == name) for name in self.names}
        found = []
        for cavity in self.names:
            inside = self.labels == cavity
            ring = np.zeros_like(inside)
            for axis in within:
                structure = np.zeros((3, 3, 3), bool)
                structure[tuple(slice(None) if a == axis else 1 for a in range(3))] = True
                ring |= ndimage.binary_dilation(inside, structure)
            around = self.labels[ring & ~inside]
            for wall in self.names:
                if sizes[cavity] < CAVITY * sizes[wall]:
                    continue
                share = float((around == wall).mean()) if wall != cavity and around.size else 0.0
                found.append((share, Ventricle(cavity, wall)))
        best = max(found, default=(0.0, None), key=lambda one: one[0])
        return best[1] if best[0] >= AROUND else None

    def axes(self, ventricle: Ventricle) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Unit vectors (I, J, K, 3) of each voxel: radial, from the axis of the cavity; circumferential; longitudinal.

        The long axis is the normal of thick slices, and otherwise the longest axis of the cavity and its wall together.
        """
        points = self.grid.to_world(np.stack(np.meshgrid(*map(np.arange, self.labels.shape), indexing="ij"), axis=-1))
        cavity = points[self.labels == ventricle.cavity]
        spacing = self.grid.spacing
        rest = np.delete(spacing, self.across).max()
        if self.grid.thin_axes or spacing[self.across] > THICK * rest:
            long = self.grid.direction[:, self.across]
        else:
            both = points[np.isin(self.labels, ventricle)]
            long = np.linalg.eigh(np.cov(both.T))[1][:, -1]
        away = points - cavity.mean(axis=0)
        along = away @ long
        middle = _axis_of(cavity - cavity.mean(axis=0), long, along)
        radial = away - middle
        radial = radial - (radial @ long)[..., None] * long
        radial /= np.maximum(np.linalg.norm(radial, axis=-1, keepdims=True), 1e-9)
        return radial, np.cross(long, radial), np.broadcast_to(long, radial.shape)


def _axis_of(cavity: np.ndarray, long: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Where the axis of a cavity is at each position along its long axis: a straight line through its slices."""
    at = cavity @ long
    spread = float((at**2).sum())
    aside = cavity - at[:, None] * long
    slope = (at[:, None] * aside).sum(axis=0) / spread if spread > 0 else np.zeros(3)
    return along[..., None] * (slope + long)


class LabelStrain(NamedTuple):
    """Mean Green-Lagrange strain of a label, see ``geometry.strain.green_lagrange``.

    Args:
        largest: mean of the largest principal strain.
        smallest: mean of the smallest principal strain.
        radial: along the radius of the ventricle; None but for its wall.
        circumferential: around its axis.
        longitudinal: along its axis.
    """

    largest: float
    smallest: float
    radial: float | None = None
    circumferential: float | None = None
    longitudinal: float | None = None


class StrainMeter:
    """Measures the strain of labels under maps from the space of the labels.

    Args:
        region: the labels.
    """

    def __init__(self, region: LabelRegion) -> None:
        self.region = region
        self.ventricle = region.ventricle
        self.axes = None if self.ventricle is None else region.axes(self.ventricle)

    def __call__(self, chain: Chain) -> dict[int, LabelStrain]:
        """The strain of each label.

        Args:
            chain: world points of the labels → world points of a frame.
        """
        tensor = green_lagrange(chain, self.region.grid)
        flat = list(self.region.grid.thin_axes)
        found = {}
        for label in self.region.names:
            inside = self.region.labels == label
            each = tensor[torch.as_tensor(inside)]
            principal = torch.linalg.eigvalsh(_in_plane(each, self.region.grid, flat)).numpy()
            found[label] = LabelStrain(float(principal[:, -1].mean()), float(principal[:, 0].mean()))
            if self.ventricle is not None and self.axes is not None and label == self.ventricle.wall:
                along = [
                    float(np.einsum("na,nab,nb->n", axis[inside], each.numpy(), axis[inside]).mean())
                    for axis in self.axes
                ]
                found[label] = found[label]._replace(
                    radial=along[0], circumferential=along[1], longitudinal=None if flat else along[2]
                )
        return found


def _in_plane(tensors: torch.Tensor, grid: Grid, flat: list[int]) -> torch.Tensor:
    """Tensors (N, 3, 3), or their part (N, 2, 2) in the plane of a slice."""
    if not flat:
        return tensors
    axes = torch.as_tensor(np.delete(grid.direction, flat, axis=1).copy())
    return axes.T @ tensors @ axes
