"""What is measured of a registration before it is judged: numbers, none of them a verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from maxca.engine.volume import Volume
from maxca.geometry import Affine, Chain
from maxca.geometry.fit import fitted_affine
from maxca.registration.inputs import Side
from maxca.report.verdict.again import Repeat, Rival
from maxca.report.verdict.coarse import CoarsePair, coarse_pair
from maxca.report.verdict.scale import scaled_chain, scaled_side
from maxca.report.verdict.volume import Extreme, Motion, extremes, hull, motion_of, one_sided, seen_share

ONE_SIDED = 0.05  # of the bright parts: what one image alone has is left out
DOUBTFUL = 2.0  # units between both directions: up to here nothing has to be left out
HALF = 0.5
SIZE = 150.0  # mm: a head


class Registered(Protocol):
    """A registration to judge; a ``report.case.Case`` is one."""

    @property
    def record(self) -> dict[str, Any]:
        """What ``result.json`` holds."""

    @property
    def fixed(self) -> Side:
        """The fixed side."""

    @property
    def moving(self) -> Side:
        """The moving side."""

    @property
    def chain(self) -> Chain:
        """Fixed world points → moving world points."""

    @property
    def inverse(self) -> Chain:
        """Moving world points → fixed world points."""


@dataclass(frozen=True)
class Evidence:
    """Measurements of a registration. Agreement is mutual information in nats, which no transform optimises last.

    Args:
        agreement: of the images under the result.
        affine_agreement: under its affine part alone.
        header_agreement: as the images lie in the world; 0 where that shows less than half as much of the content.
        again: what the same freedom reaches from here, coarsely.
        turned: what it reaches from the best other orientation.
        mirrored: what the best mirror image reaches, as a share of that from here.
        apart: distances between the result and a coarse registration backward, in units, at the 50th and 90th
            percentile of the content.
        apart_with_all: the same where what one image alone has was not left out of the registration backward.
        unit: mm, see ``CoarsePair``.
        seen: share of the fixed image's content in the field of view of the moving image.
        fixed_only: share of the fixed image's bright parts in the moving image's background.
        moving_only: share of the moving image's bright parts in the fixed image's background.
        squeezed: where the map squeezes most.
        stretched: where it stretches most.
        motion: of its affine part.
        swallowed: share of one image's bright parts that leave the other's content where the moving image keeps its
            size, but not in the result, and only where contrasts differ: of the fixed image's, and of the moving one's.
    """

    agreement: float
    affine_agreement: float
    header_agreement: float
    again: Rival
    turned: Rival
    mirrored: float
    apart: tuple[float, float]
    apart_with_all: tuple[float, float]
    unit: float
    seen: float
    fixed_only: float
    moving_only: float
    squeezed: Extreme
    stretched: Extreme
    motion: Motion
    swallowed: tuple[float, float]


def gather(case: Registered) -> Evidence:
    """Measure a registration: a second or so.

    All is measured in a world that is scaled so that the fixed image has an extent of ``SIZE``: no setting of the
    affine or of the deformation that is given in mm can then make the verdict depend on the size of what is seen.
    """
    factor = SIZE / case.fixed.image.grid.extent
    pair = coarse_pair(scaled_side(case.fixed, factor), scaled_side(case.moving, factor))
    chain, inverse = scaled_chain(case.chain, factor), scaled_chain(case.inverse, factor)
    ends = chain.map_points(pair.content)
    affine = chain.as_affine() if chain.is_affine else fitted_affine(pair.content, ends)
    rigid = case.record["settings"].get("transform") == "rigid"
    repeat = Repeat(pair, deformable=not chain.is_affine, rigid=rigid)
    again = repeat.from_here(affine)
    seen = seen_share(pair, chain)
    squeezed, stretched = extremes(pair, chain)
    fixed_only, moving_only = one_sided(pair, chain)
    apart = apart_with_all = _apart(pair, ends, repeat.backward(affine))
    if apart[0] > DOUBTFUL and max(fixed_only, moving_only) > ONE_SIDED:
        fixed = _masked(pair.fixed, pair.moving, chain) if fixed_only > ONE_SIDED else pair.fixed
        moving = _masked(pair.moving, pair.fixed, inverse) if moving_only > ONE_SIDED else pair.moving
        shared = replace(pair, fixed=fixed, moving=moving)
        apart = min(apart, _apart(pair, ends, repeat.backward(affine, shared)))
    return Evidence(
        agreement=pair.agreement(chain),
        affine_agreement=pair.agreement(Chain((affine,))),
        header_agreement=pair.agreement(Chain()) if seen_share(pair, Chain()) > HALF * seen else 0.0,
        again=again,
        turned=repeat.turned(affine),
        mirrored=repeat.mirrored(affine, again.affine),
        apart=apart,
        apart_with_all=apart_with_all,
        unit=pair.unit / factor,
        seen=seen,
        fixed_only=fixed_only,
        moving_only=moving_only,
        squeezed=squeezed.scaled(1 / factor),
        stretched=stretched.scaled(1 / factor),
        motion=motion_of(pair, affine).scaled(1 / factor),
        swallowed=_swallowed(repeat, affine, (fixed_only, moving_only)),
    )


def _swallowed(repeat: Repeat, affine: Affine, alone: tuple[float, float]) -> tuple[float, float]:
    """What one image alone has, such as a skull, where the size of the other changed until it covered that."""
    if not repeat.contrasts or repeat.rigid:
        return 0.0, 0.0
    fixed, moving = one_sided(repeat.pair, Chain((repeat.at_own_size(affine),)))
    return max(fixed - alone[0], 0.0), max(moving - alone[1], 0.0)


def _masked(volume: Volume, other: Volume, chain: Chain) -> Volume:
    """A volume that counts where the other has content; the chain maps its world points to the other's.

    What one image alone has would pull a coarse registration aside.
    """
    content = torch.as_tensor(hull(other.values.numpy()), dtype=torch.float32)
    there = chain.resample(content[None], other.grid, volume.grid)[0]
    return replace(volume, mask=there if volume.mask is None else there * volume.mask)


def _apart(pair: CoarsePair, ends: np.ndarray, back: Chain) -> tuple[float, float]:
    """How far from where it began a point ends that goes there by the result and back by another map, in units."""
    index = pair.moving.grid.to_voxel(ends)
    shape = np.array(pair.moving.grid.shape)
    seen = (((index > -1) & (index < shape)) | (shape == 1)).all(axis=1)
    if not seen.any():
        return float("inf"), float("inf")
    distance = np.linalg.norm(back.map_points(ends[seen]) - pair.content[seen], axis=1) / pair.unit
    return float(np.median(distance)), float(np.percentile(distance, 90))
