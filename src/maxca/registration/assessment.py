"""How well one pair was registered: what ``result.json`` says under ``metrics``."""

from __future__ import annotations

from typing import Any

import numpy as np

from maxca import metrics
from maxca.engine.settings import level_steps
from maxca.engine.volume import FAINT, Volume, every
from maxca.geometry import Chain
from maxca.io.images import Image
from maxca.registration.inputs import Side
from maxca.registration.resampling import resample

COMPARED_POINTS = 200_000  # voxels at which the two transforms are compared


def regularity(chain: Chain, inverse: Chain, fixed: Volume, factor: int) -> dict[str, dict[str, float]]:
    """Folding and the round trip through both transforms, at the voxels of the finest level inside the content.

    Between those voxels the field is linear.
    """
    lattice = every(fixed, level_steps(fixed.grid, factor))
    content = lattice.values.cpu().numpy() > FAINT
    if not content.any():
        content[:] = True
    voxels = np.argwhere(content)
    points = lattice.grid.to_world(voxels[:: max(1, len(voxels) // COMPARED_POINTS)])
    error = metrics.inverse_consistency(chain, inverse, points)
    return {
        "folding": metrics.folding(chain, lattice.grid, content)._asdict(),
        "inverse_consistency_mm": {"mean": float(error.mean()), "max": float(error.max())},
    }


def overlap(fixed: Side, labels: Image | None, warped: Image | None) -> dict[str, Any]:
    """Dice and HD95 by label in both maps, before (as the images lie in the world) and after."""
    if fixed.labels is None or labels is None or warped is None:
        return {}
    grid = fixed.image.grid
    names = metrics.common_labels(fixed.labels, labels.data)
    unmoved = resample(labels, grid, Chain(), "labels")
    out: dict[str, Any] = {"labels_warped_by": "per-label linear weights, the largest wins"}
    for name, image in (("before", unmoved), ("after", warped)):
        dice = metrics.dice(fixed.labels, image.data, names)
        hd95 = metrics.hd95(fixed.labels, image.data, grid.spacing)
        out[f"dice_{name}"] = {"mean": float(np.mean(list(dice.values()))) if dice else None, "by_label": dice}
        out[f"hd95_mm_{name}"] = {"mean": float(np.mean(list(hd95.values()))) if hd95 else None, "by_label": hd95}
    return out


def landmark_error(fixed: Side, moving: Side, chain: Chain) -> dict[str, Any]:
    """Target registration error in mm of landmarks, before and after."""
    if fixed.points is None or moving.points is None:
        return {}
    pair = fixed.points.coordinates, moving.points.coordinates
    errors = {name: metrics.tre(*pair, each) for name, each in (("before", Chain()), ("after", chain))}
    return {f"tre_mm_{name}": {"mean": float(e.mean()), "by_point": e.tolist()} for name, e in errors.items()}
