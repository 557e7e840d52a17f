"""Rigid and affine registration.

SimpleITK is not used because its multi-threaded metrics sum in the order in which threads finish: two runs differ from
the fifth digit on, but an identical command must give identical files. This implementation is also several times
faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

from maxca.engine.affine_problem import (
    BENT,
    AffineProblem,
    JointProblem,
    LocalProblem,
    Problem,
    best_of,
    spacing_of,
)
from maxca.engine.channels import Channel
from maxca.engine.rotations import Searched, search_rotations
from maxca.engine.volume import Volume, center_of_mass
from maxca.geometry import Affine
from maxca.losses.similarity import SIMILARITIES
from maxca.options import SearchName

AffineKind = Literal["rigid", "affine", "initial"]
Start = Literal["auto", "header", "center"]

SCALES = (8_000, 64_000, 400_000)  # samples of the fixed image at each level: 8, 4 and 2 mm apart in a head
LOCAL = 64_000  # samples of local NCC
ANGLES = (25.0, 50.0)  # degrees around each axis of additional initialisations; the capture range is about half as wide


@dataclass(frozen=True)
class Alignment:
    """An affine and the reason for it.

    Args:
        affine: fixed world points to moving world points.
        chosen: ``"affine"``, ``"rigid"`` or ``"header"``.
        reason: one sentence for the log.
        similarity: that of each candidate: mutual information in nats, or local NCC.
        same_contrast: whether a straight line predicts the intensities of one image from those of the other about as
            well as any curve; false for T1 and T2, or T1 and FLAIR. Of several channels, that of most of the weight.
        contrasts: the same of each channel whose weight is not 0, in order.
        searched: what a search over all rotations found, or why there was none, for the log.
        turned: whether that search replaced the initialisations nearby.
    """

    affine: Affine
    chosen: str
    reason: str
    similarity: dict[str, float]
    same_contrast: bool
    contrasts: tuple[bool, ...]
    searched: str | None = None
    turned: bool = False


@dataclass(frozen=True)
class AffineSettings:
    """How to search for an affine.

    Args:
        kind: ``"rigid"`` stops at six parameters, ``"initial"`` keeps the initial affine, by default the headers.
        similarity: what the registration as a whole maximises.
        start: ``"header"`` begins with the positions in the files, ``"center"`` with the centres of mass on each other,
            ``"auto"`` tries both.
        search: over all rotations: ``"on"``, ``"off"``, or ``"auto"``, if no initialisation nearby fits.
        thorough: search from rotations of up to 50° rather than 25°, and end at a finer scale.
        seed: of the choice of samples where there are too many.
    """

    kind: AffineKind = "affine"
    similarity: str = "lncc"
    start: Start = "auto"
    search: SearchName = "auto"
    thorough: bool = True
    seed: int = 0


def align(
    fixed: Volume,
    moving: Volume,
    settings: AffineSettings | None = None,
    *,
    initial: Affine | None = None,
    channels: Sequence[Channel] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> Alignment:
    """Estimate the affine between two images.

    Mutual information, rigid first, from several initialisations, then affine, each from coarse to fine. If none of the
    initialisations near the headers fits, all rotations are searched (unless the user chose the initialisation). If the
    deformation will maximise local NCC, and the contrast of the images is the same, the affine ends with local NCC too.
    If the images are more similar before registration (or under ``initial``), that transform is returned. Of several
    channels, the weighted mean of their similarities is maximised.

    Args:
        fixed: the fixed image.
        moving: the moving image.
        settings: of the search.
        initial: initial affine, fixed to moving world points, in place of a search.
        channels: of the pair, if there are several; the first images define the initialisations.
        progress: called with a message at each stage.

    Returns:
        The affine, fixed world points → moving world points, and the reason for it.
    """
    settings = settings or AffineSettings()
    kind = settings.kind
    header = initial or _header(fixed, moving)
    used = [channel for channel in channels if channel.weight > 0] or [Channel(fixed, moving, settings.similarity)]
    if kind == "initial":
        kept = _problem(used, SCALES[1], settings.seed)
        reason, scores = "the initial transform is kept", {"header": kept.similarity(header)}
        return Alignment(header, "header", reason, scores, *_contrasts(kept, header, used))
    scales, angles = (SCALES, ANGLES) if settings.thorough else (SCALES[:-1], ANGLES[:1])
    problems = [_problem(used, count, settings.seed) for count in scales]
    first, *finer = {problem.scale: problem for problem in problems}.values()  # those of a small image are equal
    progress("searching an initialisation")
    found = best_of(first, _starts(fixed, moving, initial, settings.start, angles))
    unknown = initial is None and settings.start != "header"
    searched = Searched(found)
    if settings.search == "on" or (settings.search == "auto" and unknown):
        progress("searching all rotations")
        searched = search_rotations(first.frame, found, header, always=settings.search == "on")
        found = searched.affine
    for problem in finer:
        progress(f"rigid at {problem.mm:.2g} mm")
        found = problem.maximise(found, rigid=True)
    for problem in (finer or [first]) if kind == "affine" else []:
        progress(f"affine at {problem.mm:.2g} mm")
        found = problem.maximise(found, rigid=False)
    judge, name = problems[-1], "mutual information"
    same = _contrasts(problems[1], found, used)
    if all(same[1]) and all(SIMILARITIES[channel.similarity].refines_affine for channel in used):
        progress("refining the affine")
        judge, name = _problem(used, LOCAL, 0, LocalProblem), "local correlation"
        found = judge.maximise(found, rigid=kind == "rigid")
    scores = {"header": judge.similarity(header), kind: judge.similarity(found)}
    if scores[kind] > scores["header"]:
        reason, turned = f"the {kind} transform has the higher {name}", searched.replaced
        return Alignment(found, kind, reason, scores, *same, searched.reason, turned)
    reason = f"the {kind} search did not raise the {name}"
    return Alignment(header, "header", reason, scores, *same, searched.reason)


def _problem(channels: Sequence[Channel], count: int, seed: int, of: type[AffineProblem] = AffineProblem) -> Problem:
    """The problem of one or several channels with about ``count`` samples."""
    fixed, moving = channels[0].fixed, channels[0].moving
    mm = spacing_of(fixed.grid, count)
    return of(fixed, moving, mm, seed) if len(channels) == 1 else JointProblem(channels, of, mm, seed)


def _contrasts(problem: Problem, affine: Affine, channels: Sequence[Channel]) -> tuple[bool, tuple[bool, ...]]:
    """Whether both images have one contrast: in channels of at least half of the weight, and in each channel."""
    same = tuple(bend < BENT for bend in problem.bends(affine))
    weights = [channel.weight for channel in channels]
    return 2 * sum(weight for weight, each in zip(weights, same, strict=True) if each) >= sum(weights), same


def _header(fixed: Volume, moving: Volume) -> Affine:
    """The alignment by the headers; a 2-D image is moved into the plane of the other."""
    matrix = np.eye(4)
    for axis in fixed.grid.thin_axes:
        normal = fixed.grid.direction[:, axis]
        matrix[:3, 3] += normal * (normal @ (moving.grid.origin - fixed.grid.origin))
    return Affine(matrix)


def _starts(
    fixed: Volume, moving: Volume, initial: Affine | None, start: Start, angles: Sequence[float]
) -> list[Affine]:
    """The initialisations: translations, each also rotated by each of ``angles`` around every axis."""
    if initial is not None:
        return [initial]
    center = center_of_mass(fixed)
    header = _header(fixed, moving).matrix[:3, 3]
    shifts = []
    if start != "center":
        shifts.append(header)
    if start != "header":
        shifts.append(center_of_mass(moving) - center)
    axes = np.eye(3) if not fixed.grid.thin_axes else fixed.grid.direction[:, list(fixed.grid.thin_axes)].T
    turns = [np.zeros(3), *(angle * axis for axis in axes for size in angles for angle in (size, -size))]
    starts = []
    for shift in shifts:
        for turn in turns:
            matrix = np.eye(4)
            matrix[:3, :3] = Rotation.from_rotvec(turn, degrees=True).as_matrix()
            matrix[:3, 3] = center + shift - matrix[:3, :3] @ center
            starts.append(Affine(matrix))
    return starts
