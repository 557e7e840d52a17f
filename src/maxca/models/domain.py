"""What pairs a model was trained for, as far as their extent and similarity measure can tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maxca.engine.volume import Volume
from maxca.geometry import Grid

AXES = ("from left to right", "from back to front", "from bottom to top")


@dataclass(frozen=True)
class Domain:
    """What a model was trained for.

    Args:
        extent_mm: least and most that the content of an image reaches to the right, anterior and superior.
        similarity: that it was trained with.
        gain: the share of the similarity missing to 1 after an affine that it should add at least.
    """

    extent_mm: tuple[tuple[float, float], ...]
    similarity: str
    gain: float


def extent(grid: Grid) -> np.ndarray:
    """(3,) mm that a grid reaches to the right, anterior and superior, its axes taken for the nearest of these."""
    return np.array(grid.canonical.shape) * grid.canonical.spacing


def outside_domain(domain: Domain, fixed: Volume, moving: Volume, similarity: str) -> str:
    """Why a pair is outside of a model's domain; empty where it is inside."""
    if domain.similarity != similarity:
        return f"trained with {domain.similarity}, not {similarity}"
    for name, volume in (("fixed", fixed), ("moving", moving)):
        for axis, (mm, (least, most)) in enumerate(zip(extent(volume.grid), domain.extent_mm, strict=True)):
            if not least <= mm <= most:
                return (
                    f"the {name} image is {mm:.3g} mm {AXES[axis]}, its training images were {least:.3g} to {most:.3g}"
                )
    return ""
