"""A channel of a pair: one contrast, seen in both images."""

from __future__ import annotations

from dataclasses import dataclass

from maxca.engine.volume import Volume


@dataclass(frozen=True)
class Channel:
    """One of several contrasts of a pair, such as T2 next to T1.

    Args:
        fixed: prepared fixed image of this contrast, on the grid of the first channel; its mask excludes what is
            outside its field of view.
        moving: prepared moving image of this contrast, on any grid.
        similarity: a key of ``SIMILARITIES``.
        weight: relative to those of other channels, at least 0.
    """

    fixed: Volume
    moving: Volume
    similarity: str
    weight: float = 1.0
