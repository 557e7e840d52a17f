"""Volume change of a map, and its affine part."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from maxca.engine.volume import FAINT
from maxca.geometry import Affine, Chain
from maxca.geometry.jacobian import field_determinant
from maxca.report.verdict.coarse import CoarsePair

NOTABLE = 4.0  # volume ratio that delimits the region around an extreme


@dataclass(frozen=True)
class Extreme:
    """The largest or smallest change of volume, and the region around it.

    Args:
        factor: mm³ of moving space per mm³ of fixed space.
        place: fixed world point, mm.
        mm3: volume of the connected region, in fixed space, that changes fourfold or more.
    """

    factor: float
    place: tuple[float, float, float]
    mm3: float

    def scaled(self, factor: float) -> Extreme:
        """The same in world space scaled by ``factor``."""
        x, y, z = (c * factor for c in self.place)
        return Extreme(self.factor, (x, y, z), self.mm3 * factor**3)


def extremes(pair: CoarsePair, chain: Chain) -> tuple[Extreme, Extreme]:
    """The largest compression and the largest expansion of the fixed image's content.

    Args:
        pair: both images; only the moving image's field of view is considered.
        chain: fixed world points → moving world points.
    """
    lattice = pair.fixed.grid
    factor = field_determinant(chain.field_on(lattice)).numpy()
    _, seen = pair.warped(chain)
    counted = (pair.fixed.values > FAINT).numpy() & (seen.numpy() > 0.5)
    if not counted.any():
        counted = np.ones(lattice.shape, dtype=bool)
    # A single node may be at a border of the field of view; a region is not.
    smooth = ndimage.median_filter(factor, size=[3 if n > 2 else 1 for n in lattice.shape])
    return _extreme(pair, smooth, counted, low=True), _extreme(pair, smooth, counted, low=False)


def _extreme(pair: CoarsePair, factor: np.ndarray, counted: np.ndarray, *, low: bool) -> Extreme:
    lattice = pair.fixed.grid
    sought = np.where(counted, factor if low else -factor, np.inf)
    index = np.unravel_index(int(sought.argmin()), sought.shape)
    value = float(factor[index])
    beyond = counted & ((factor < 1 / NOTABLE) if low else (factor > NOTABLE))
    regions, _ = ndimage.label(beyond)
    size = float((regions == regions[index]).sum()) if regions[index] else 0.0
    x, y, z = (float(c) for c in lattice.to_world(np.array(index, dtype=float)))
    return Extreme(value, (x, y, z), size * lattice.voxel_volume)


@dataclass(frozen=True)
class Motion:
    """Rotation, scaling and translation of the fixed image's content by an affine.

    Args:
        degrees: rotation angle.
        smallest: smallest scale factor along any direction, in the plane of a 2-D image.
        largest: largest scale factor.
        mm: displacement of the centre of the content.
        volume: mm³ of moving space per mm³ of fixed space.
    """

    degrees: float
    smallest: float
    largest: float
    mm: float
    volume: float

    def scaled(self, factor: float) -> Motion:
        """The same in world space scaled by ``factor``."""
        return replace(self, mm=self.mm * factor)


def motion_of(pair: CoarsePair, affine: Affine) -> Motion:
    """Rotation, scaling and translation of an affine, fixed world points → moving world points."""
    linear = affine.matrix[:3, :3]
    left, stretch, right = np.linalg.svd(linear)
    turn = left @ right
    cosine = (np.trace(turn if np.linalg.det(turn) > 0 else -turn) - 1) / 2
    middle = pair.content.mean(axis=0)
    moved = float(np.linalg.norm(affine.map_points(middle) - middle))
    degrees = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    return Motion(degrees, float(stretch.min()), float(stretch.max()), moved, float(stretch.prod()))


def seen_share(pair: CoarsePair, chain: Chain) -> float:
    """The fraction of the fixed image's content that is mapped into the field of view of the moving image."""
    grid = pair.moving.grid
    index = grid.to_voxel(chain.map_points(pair.content))
    shape = np.array(grid.shape)
    inside = (index > -1) & (index < shape)
    return float((inside | (shape == 1)).all(axis=1).mean())


def one_sided(pair: CoarsePair, chain: Chain) -> tuple[float, float]:
    """The fraction of one image's bright voxels outside the other's content, such as a skull in one image only.

    Only the common field of view is considered.

    Args:
        pair: both images.
        chain: fixed world points → moving world points.

    Returns:
        The fractions of the fixed and of the moving image.
    """
    values, weight = pair.warped(chain)
    both = weight.numpy() > 0.5
    fixed, moving = pair.fixed.values.numpy(), values.numpy()
    return _alone(fixed, moving, both), _alone(moving, fixed, both)


def _alone(mine: np.ndarray, theirs: np.ndarray, both: np.ndarray) -> float:
    if not both.any():
        return 0.0
    bright = both & (mine > threshold(mine[both]))
    outside = ~hull(np.where(both, theirs, 0))
    return float((bright & outside).sum() / max(bright.sum(), 1))


def hull(values: np.ndarray) -> np.ndarray:
    """(I, J, K) bool: the foreground, filled and dilated by one voxel."""
    inside = values > SHADE * threshold(values)
    inside = ndimage.binary_dilation(inside, ndimage.generate_binary_structure(3, 1))
    thin = [axis for axis, n in enumerate(values.shape) if n == 1]
    if not thin:
        return ndimage.binary_fill_holes(inside)
    return np.expand_dims(ndimage.binary_fill_holes(inside.squeeze(thin[0])), thin[0])


SHADE = 0.2  # of the threshold between dark and bright


def threshold(values: np.ndarray, bins: int = 64) -> float:
    """Otsu's threshold of values in [0, 1]: where the variance between dark and bright is largest."""
    count = np.histogram(values, bins, (0, 1))[0].astype(np.float64)
    level = (np.arange(bins) + 0.5) / bins
    below, mass = count.cumsum(), (count * level).cumsum()
    above = below[-1] - below
    apart = mass / np.maximum(below, 1) - (mass[-1] - mass) / np.maximum(above, 1)
    return float(level[(below * above * apart**2).argmax()])
