"""The domain of a model: extent and similarity measure of its training pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maxca.engine.volume import Volume
from maxca.geometry import Grid

AXES = ("from left to right", "from back to front", "from bottom to top")


@dataclass(frozen=True)
class Domain:
    """The domain of a model.

    Args:
        extent_mm: smallest and largest extent of the content of an image along right, anterior and superior.
        similarity: measure of its training.
        gain: the smallest fraction of the dissimilarity (1 minus similarity) after an affine that it must remove.
    """

    extent_mm: tuple[tuple[float, float], ...]
    similarity: str
    gain: float


def extent(grid: Grid) -> np.ndarray:
    """(3,) extent of a grid in mm along right, anterior and superior, for the nearest axes."""
    return np.array(grid.canonical.shape) * grid.canonical.spacing


def outside_domain(domain: Domain, fixed: Volume, moving: Volume, similarity: str) -> str:
    """Why a pair is outside a model's domain; empty if it is inside."""
    if domain.similarity != similarity:
        return f"trained with {domain.similarity}, not {similarity}"
    return outside_extent(domain.extent_mm, fixed=fixed, moving=moving)


def outside_extent(extent_mm: Sequence[tuple[float, float]], **volumes: Volume) -> str:
    """Why one of several images, given by name, is smaller or larger than the training images; empty if none is."""
    for name, volume in volumes.items():
        for axis, (mm, (least, most)) in enumerate(zip(extent(volume.grid), extent_mm, strict=True)):
            if not least <= mm <= most:
                return (
                    f"the {name} image is {mm:.3g} mm {AXES[axis]}, its training images were {least:.3g} to {most:.3g}"
                )
    return ""
