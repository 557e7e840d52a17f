"""Parts of a report: figures with their texts, tables, and the images of a case in one plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from maxca.geometry import Chain
from maxca.report import pictures
from maxca.report.case import Case
from maxca.report.planes import Plane, sampled


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure with its text.

    Args:
        array: (H, W) or (H, W, 3) uint8.
        alt: alternative text.
    """

    array: np.ndarray
    alt: str

    @property
    def address(self) -> str:
        """``data:``."""
        return pictures.as_address(self.array)


class Shows(Protocol):
    """A figure, still or moving."""

    @property
    def array(self) -> np.ndarray:
        """(H, W) or (H, W, 3) uint8: its size is that of the figure."""

    @property
    def address(self) -> str:
        """``data:``."""

    @property
    def alt(self) -> str:
        """Alternative text."""


@dataclass(frozen=True)
class Table:
    """Rows under a caption, sortable by column."""

    caption: str
    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(frozen=True)
class Group:
    """Figures of one kind."""

    id: str
    title: str
    about: str
    pictures: Sequence[Shows]
    table: Table | None = None


class Shown:
    """The images of a case in one plane."""

    def __init__(self, case: Case, plane: Plane) -> None:
        fixed, moving = case.fixed.image, case.moving.image
        self.plane = plane
        layers = {
            "fixed": sampled(fixed.data, fixed.grid, Chain(), plane),
            "before": sampled(moving.data, moving.grid, Chain(), plane),
            "warped": sampled(moving.data, moving.grid, case.chain, plane),
        }
        windows = {
            "fixed": pictures.window(layers["fixed"]),
            "before": pictures.window(layers["warped"]),
            "warped": pictures.window(layers["warped"]),
        }
        self.gray = {
            name: [pictures.gray(slice_, windows[name]) for slice_ in plane.pictures(values)]
            for name, values in layers.items()
        }

    @property
    def about(self) -> dict[str, Any]:
        """Data for the page and its script."""
        height, width = self.gray["fixed"][0].shape
        return {
            "name": self.plane.name,
            "sides": self.plane.sides,
            "positions": self.plane.positions(),
            "width": width,
            "height": height,
            **{name: [pictures.as_address(one) for one in slices] for name, slices in self.gray.items()},
        }

    def middle(self, name: str) -> np.ndarray:
        """The middle slice of a layer."""
        slices = self.gray[name]
        return slices[len(slices) // 2]
