"""Measurements of a registration, on which the verdict is based."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from maxca.engine.volume import Volume
from maxca.geometry import Affine, Chain
from maxca.geometry.fit import fitted_affine
from maxca.registration.inputs import Side
from maxca.registration.record import Record
from maxca.report.verdict.again import Repeat, Rival
from maxca.report.verdict.coarse import CoarsePair, coarse_pair
from maxca.report.verdict.scale import scaled_chain, scaled_side
from maxca.report.verdict.volume import Extreme, Motion, extremes, hull, motion_of, one_sided, seen_share

ONE_SIDED = 0.05  # of the bright voxels: from here on, content of one image alone is excluded
DOUBTFUL = 2.0  # units between both directions: up to here nothing has to be excluded
HALF = 0.5
SIZE = 150.0  # mm: a head


class Registered(Protocol):
    """The interface of a registration to assess, such as ``report.case.Case``."""

    @property
    def record(self) -> Record:
        """The content of ``result.json``."""

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
    """Measurements of a registration. Agreement is mutual information in nats, which the deformation does not maximise.

    Args:
        agreement: of the images under the result.
        affine_agreement: under its affine part alone.
        header_agreement: before registration; 0 if less than half as much of the content is visible then.
        again: a coarse registration initialised with the result.
        turned: a coarse registration from the best other orientation.
        mirrored: agreement of the best mirror image, relative to that of ``again``.
        apart: distances between the result and a coarse registration backward, in units, at the 50th and 90th
            percentile of the content.
        apart_with_all: the same without excluding content of one image alone.
        unit: mm, see ``CoarsePair``.
        seen: fraction of the fixed image's content in the field of view of the moving image.
        fixed_only: fraction of the fixed image's bright voxels in the moving image's background.
        moving_only: fraction of the moving image's bright voxels in the fixed image's background.
        squeezed: the largest compression.
        stretched: the largest expansion.
        motion: of its affine part.
        swallowed: fraction of the fixed, and of the moving, image's bright voxels that are covered by the other's
            content only because the affine changed its size; measured only if contrasts differ.
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
    """Measure a registration, in about a second.

    World space is scaled so that the fixed image has an extent of ``SIZE``: the verdict is then independent of the
        physical
    size of the object.
    """
    factor = SIZE / case.fixed.image.grid.extent
    pair = coarse_pair(scaled_side(case.fixed, factor), scaled_side(case.moving, factor))
    chain, inverse = scaled_chain(case.chain, factor), scaled_chain(case.inverse, factor)
    ends = chain.map_points(pair.content)
    affine = chain.as_affine() if chain.is_affine else fitted_affine(pair.content, ends)
    rigid = case.record.settings.transform == "rigid"
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
    """Content of one image alone, such as a skull, that the other covers because the affine changed its size."""
    if not repeat.contrasts or repeat.rigid:
        return 0.0, 0.0
    fixed, moving = one_sided(repeat.pair, Chain((repeat.at_own_size(affine),)))
    return max(fixed - alone[0], 0.0), max(moving - alone[1], 0.0)


def _masked(volume: Volume, other: Volume, chain: Chain) -> Volume:
    """A volume masked to the content of the other; the chain maps its world points to the other's.

    Content of one image alone would distort a coarse registration.
    """
    content = torch.as_tensor(hull(other.values.numpy()), dtype=torch.float32)
    there = chain.resample(content[None], other.grid, volume.grid)[0]
    return replace(volume, mask=there if volume.mask is None else there * volume.mask)


def _apart(pair: CoarsePair, ends: np.ndarray, back: Chain) -> tuple[float, float]:
    """Round-trip error of points mapped by the result and back by another map, in units: 50th and 90th percentile."""
    index = pair.moving.grid.to_voxel(ends)
    shape = np.array(pair.moving.grid.shape)
    seen = (((index > -1) & (index < shape)) | (shape == 1)).all(axis=1)
    if not seen.any():
        return float("inf"), float("inf")
    distance = np.linalg.norm(back.map_points(ends[seen]) - pair.content[seen], axis=1) / pair.unit
    return float(np.median(distance)), float(np.percentile(distance, 90))
