"""Whether a registration worked, and why one may say so: aligned, check or failed.

Each check compares one number with thresholds, and the worst decides. None needs labels; where labels or landmarks are
there, they count too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from maxca.data.preprocess import Volume, at_scale, normalise
from maxca.geometry.fit import fitted_affine
from maxca.losses.similarity import MutualInformation
from maxca.optimise import similarity_of
from maxca.report.case import Case

State = Literal["aligned", "check", "failed"]
ORDER: tuple[State, ...] = ("aligned", "check", "failed")
NODES = 60_000  # of the lattice on which positions are tried
SHIFTED = (2, 4)  # nodes of that lattice
BETTER = 0.02  # of the mutual information: more than noise
POINTS = 100_000
# Local NCC inside the fixed image after a registration: 0.84 of a heart, 0.29 of the demo's pair (smooth tissue with
# noise of 2 %), 0.08 of what does not belong together.
LIKE, UNLIKE = 0.25, 0.15


@dataclass(frozen=True)
class Check:
    """One look at a registration.

    Args:
        name: what was looked at.
        state: what it says.
        finding: the number, and the thresholds it was compared with.
    """

    name: str
    state: State
    finding: str


@dataclass(frozen=True)
class Verdict:
    """What all checks together say."""

    checks: tuple[Check, ...]

    @property
    def state(self) -> State:
        """That of the worst check."""
        return max((check.state for check in self.checks), key=ORDER.index)

    @property
    def reasons(self) -> list[str]:
        """The findings that decided; all is well where there are none."""
        return [f"{c.name}: {c.finding}" for c in self.checks if c.state != "aligned"]


def judge(case: Case) -> Verdict:
    """Look at a registration from all sides."""
    metrics = case.record["metrics"]
    return Verdict(tuple(_checks(case, metrics)))


def _checks(case: Case, metrics: dict[str, Any]) -> Iterator[Check]:
    score = metrics["similarity"]
    gained = score["after"] >= score["before"]
    yield Check(
        "similarity",
        "aligned" if gained else "failed",
        f"{score['name']} went from {score['before']:.3f} to {score['after']:.3f}; it must not fall",
    )
    if score["name"] == "lncc":
        yield _high("likeness", likeness(case), LIKE, UNLIKE, "local correlation inside the fixed image is {:.2f}")
    yield position(case)
    yield _low("folding", metrics["folding"]["ndv_percent"], 0.1, 1.0, "{:.3g} % of the volume is turned inside out")
    voxel = float(case.fixed.image.grid.largest_spacing)
    round_trip = metrics["inverse_consistency_mm"]["mean"]
    yield _low("way back", round_trip / voxel, 0.5, 2.0, f"the inverse misses by {round_trip:.2g} mm, {{:.2g}} voxels")
    yield _high(
        "field of view",
        covered(case),
        0.8,
        0.5,
        "a share of {:.2f} of the fixed image's content has a place in the moving one",
    )
    pulled = border_motion(case)
    if pulled is not None:
        yield _low(
            "border",
            pulled / voxel,
            2.0,
            np.inf,
            f"where the image is cut off it is bent by {pulled:.1f} mm, {{:.2g}} voxels",
        )
    if metrics.get("dice_after", {}).get("mean") is not None:
        before, after = metrics["dice_before"]["mean"] or 0.0, metrics["dice_after"]["mean"]
        yield _grown("labels", after - before, 0.02, f"mean Dice went from {before:.3f} to {after:.3f}")
    if "tre_mm_after" in metrics:
        before, after = metrics["tre_mm_before"]["mean"], metrics["tre_mm_after"]["mean"]
        yield _grown("landmarks", before - after, voxel, f"the mean error went from {before:.2f} to {after:.2f} mm")
    for warning in case.record["warnings"]:
        yield Check("warning", "check", warning)


def likeness(case: Case) -> float:
    """Local NCC of the fixed and the warped image within the content of the fixed one: around it is only noise."""
    fixed, moving = (side.image for side in (case.fixed, case.moving))
    values, others = (normalise(torch.as_tensor(image.data.astype(np.float32))) for image in (fixed, moving))
    content = torch.zeros(fixed.grid.shape)
    content[tuple(case.content.T)] = 1
    inside = Volume(values, fixed.grid, content)
    return similarity_of(inside, Volume(others, moving.grid), "lncc", {"found": case.chain})["found"]


def position(case: Case) -> Check:
    """Whether the images would agree better if the result were shifted: mutual information decides."""
    fixed = case.fixed.image
    volume = Volume(normalise(torch.as_tensor(fixed.data.astype(np.float32))), fixed.grid)
    extent = np.array([n * s for n, s in zip(fixed.grid.shape, fixed.grid.spacing, strict=True) if n > 1])
    mm = float((extent.prod() / NODES) ** (1 / len(extent)))
    lattice = at_scale(volume, mm)
    moving = torch.as_tensor(case.moving.image.data.astype(np.float32))
    warped = case.chain.resample(normalise(moving)[None], case.moving.image.grid, lattice.grid)[0]
    measure = MutualInformation(lattice.values.flatten())
    weight = torch.ones(lattice.values.numel())

    def alike(shift: Sequence[int]) -> float:
        return float(measure(_shifted(warped, shift).flatten(), weight).value)

    here = alike((0, 0, 0))
    axes = [axis for axis, n in enumerate(lattice.grid.shape) if n > 8]
    tried = [
        [sign * step if a == axis else 0 for a in range(3)] for axis, step, sign in product(axes, SHIFTED, (-1, 1))
    ]
    found = max(((alike(shift), shift) for shift in tried), default=(here, [0, 0, 0]))
    gain = found[0] / max(here, 1e-9) - 1
    way = float(np.linalg.norm(np.array(found[1]) * lattice.grid.spacing))
    if gain > BETTER:
        return Check("position", "failed", f"{way:.0f} mm away the images would agree better, by {gain:.0%}")
    return Check(
        "position", "aligned", f"no shift of {2 * mm:.0f} to {4 * mm:.0f} mm would make the images agree better"
    )


def covered(case: Case) -> float:
    """The share of the fixed image's content that is mapped into the field of view of the moving image."""
    moved = case.chain.map_points(case.fixed.image.grid.to_world(_some(case.content)))
    index = case.moving.image.grid.to_voxel(moved)
    shape = np.array(case.moving.image.grid.shape)
    thick = shape > 1
    return float((((index > -1) & (index < shape)) | ~thick).all(axis=1).mean())


def border_motion(case: Case) -> float | None:
    """Mean motion in mm, beyond an affine, of content at the faces of the fixed image; None where there is none."""
    grid = case.fixed.image.grid
    last = np.array(grid.shape) - 1
    at_face = (((case.content == 0) | (case.content == last)) & (last > 1)).any(axis=1)
    if not at_face.any():
        return None
    start = grid.to_world(_some(case.content))
    affine = fitted_affine(start, case.chain.map_points(start))
    ends = grid.to_world(_some(case.content[at_face]))
    return float(np.linalg.norm(case.chain.map_points(ends) - affine.map_points(ends), axis=1).mean())


def _some(voxels: np.ndarray) -> np.ndarray:
    return voxels[:: max(1, len(voxels) // POINTS)]


def _low(name: str, value: float, check: float, failed: float, text: str) -> Check:
    state: State = "aligned" if value <= check else "check" if value <= failed else "failed"
    worst = f", more than {failed:g} is not" if np.isfinite(failed) else ""
    return Check(name, state, f"{text.format(value)}; at most {check:g} is well{worst}")


def _high(name: str, value: float, check: float, failed: float, text: str) -> Check:
    state: State = "aligned" if value >= check else "check" if value >= failed else "failed"
    return Check(name, state, f"{text.format(value)}; at least {check:g} is well, less than {failed:g} is not")


def _grown(name: str, gain: float, spare: float, text: str) -> Check:
    state: State = "aligned" if gain >= 0 else "check" if gain >= -spare else "failed"
    return Check(name, state, f"{text}; it must not get worse")


def _shifted(volume: torch.Tensor, shift: Sequence[int]) -> torch.Tensor:
    """The volume so many nodes further along each axis; the border goes on."""
    pads = [(max(s, 0), max(-s, 0)) for s in shift]
    wide = F.pad(volume[None, None], [p for pad in reversed(pads) for p in pad], mode="replicate")[0, 0]
    i, j, k = (slice(after, after + n) for (_, after), n in zip(pads, volume.shape, strict=True))
    return wide[i, j, k]
