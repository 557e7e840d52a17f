"""Similarity of a pair under a transform."""

from __future__ import annotations

from maxca.engine.volume import Volume, at_scale
from maxca.geometry.transforms import Chain
from maxca.losses.similarity import similarity_measure

COMPARED_AT = 2.0  # smallest spacings between the samples of reported similarities: less is noise


def similarity_of(
    fixed: Volume, moving: Volume, name: str, chains: dict[str, Chain], mm: float | None = None
) -> dict[str, float]:
    """Similarity of a pair under each of several chains.

    Args:
        fixed: prepared fixed image.
        moving: prepared moving image.
        name: the similarity.
        chains: fixed world points → moving world points, by name.
        mm: distance of the samples; by default twice the smallest spacing of the fixed image.
    """
    mm = mm or COMPARED_AT * fixed.grid.smallest_spacing
    fixed_lattice, moving_lattice = at_scale(fixed, mm), at_scale(moving, mm)
    measure = similarity_measure(name, fixed_lattice.values, fixed_lattice.grid, fixed_lattice.mask)
    scores = {}
    for key, chain in chains.items():
        warped = chain.resample(moving_lattice.values[None], moving_lattice.grid, fixed_lattice.grid)[0]
        scores[key] = float(measure(warped).value)
    return scores
