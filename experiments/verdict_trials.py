"""The pairs for the calibration of the verdict: one half of the subjects to choose thresholds, the other to test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tables
from verdict_cases import (
    Scan,
    Trial,
    bent,
    blurred,
    cut,
    headed,
    inverted,
    mirrored,
    noisy,
    nothing,
    padded,
    scaled,
    scan,
    slab,
    thick,
    turned,
    with_lesion,
)

from maxca.geometry import Affine, Chain, Grid
from maxca.io.images import Image
from maxca.io.transforms import read_transform

AXES = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
HALVES = ("development", "reported")
SETS = {"hippocampus": ("hippocampus", 0.0), "heart": ("acdc", 2.8), "brain": ("oasis", 3.0)}  # folder, mm of voxels
HEAD_MM = 2.0
COUNT = {"development": 4, "reported": 6}  # pairs of a set
Pair = tuple[Scan, Scan]


def trials(root: Path, half: str) -> Iterator[Trial]:
    """All trials of one half; the halves share no subject.

    Args:
        root: the folder with ``oasis``, ``acdc``, ``hippocampus``, ``ms`` and ``organs``; a missing
            set is skipped.
        half: one of ``HALVES``.
    """
    later = half != HALVES[0]
    sets: dict[str, list[Pair]] = {}
    for name, (folder, mm) in SETS.items():
        if (root / folder).is_dir():
            sets[name] = [_read(root / folder, row, mm) for row in _rows(root / folder, later)]
    for name, pairs in sets.items():
        for number, pair in enumerate(pairs):
            # Random maps and positions differ between the halves.
            for kind, trial in _of_pair(name, number, number + (100 if later else 0), *pair):
                yield replace(trial, name=f"{name}/{kind}/{number}")
    if (root / "ms").is_dir():
        yield from _heads(root / "ms" / "patient01", 2 if later else 1)
    if (root / "organs").is_dir():
        if not later:
            yield from _organs(root / "organs")
        yield from _strangers(sets, _lung(root / "organs")[1], later)


def _rows(folder: Path, later: bool) -> list[dict[str, str]]:
    """Pairs of the validation list for development; pairs of other subjects for the other half."""
    listed = tables.read(folder / "pairs_val.csv")
    step, first = (2, 16) if folder.name == "acdc" else (1, 10)  # inspected before
    if not later:
        return listed[::step][: COUNT[HALVES[0]]]
    if folder.name == "oasis":  # all subjects of the list were inspected before; those of the training set were not
        people = json.loads((folder / "split.json").read_text())["train"]
        return [_brain(a, b) for a, b in pairwise(people[: COUNT[HALVES[1]] + 1])]
    seen = {_person(row[side]) for row in listed[:first] for side in ("fixed", "moving")}
    others = [row for row in listed[first::step] if not {_person(row["fixed"]), _person(row["moving"])} & seen]
    return others[: COUNT[HALVES[1]]]


def _brain(fixed: str, moving: str) -> dict[str, str]:
    named = {"fixed": fixed, "moving": moving}
    row = {side: f"sub-{who}/anat/sub-{who}_T1w.nii.gz" for side, who in named.items()}
    labels = "derivatives/neuromorphometrics/sub-{0}/anat/sub-{0}_dseg.nii.gz"
    return row | {f"{side}_labels": labels.format(who) for side, who in named.items()}


def _person(path: str) -> str:
    name = Path(path).name.removesuffix(".nii.gz")
    return name if name.startswith("hippocampus") else name.split("_")[0]


def _read(folder: Path, row: dict[str, str], mm: float) -> Pair:
    fixed, moving = (
        scan(folder / row[side], folder / row[f"{side}_labels"], mm, _person(row[side])) for side in ("fixed", "moving")
    )
    return fixed, moving


def _of_pair(name: str, number: int, seed: int, fixed: Scan, moving: Scan) -> Iterator[tuple[str, Trial]]:
    """The manipulations of one pair: each kind for every fourth pair, a few for all."""
    amount = 2.5 if name == "brain" else 3.0
    other = noisy(bent(fixed, amount, seed), 0.03, seed)
    last = name == "heart"
    yield of_labels("pair", fixed, moving)
    kind = number % 4
    yield of_map("bent", fixed, other)
    if kind == 0:
        yield of_map("itself", fixed, fixed)
        yield of_map("mirrored", fixed, mirrored(other, 0))
        yield of_map("inverted", fixed, inverted(other))
        yield of_map("turned 30", fixed, turned(other, 30, AXES[2]))
        yield of_map("turned 90", fixed, turned(other, 90, AXES[2]))
        yield of_map("swirled", fixed, other, then=_swirl(fixed.image.grid, 6, seed))
    elif kind == 1:
        yield of_map("half", fixed, cut(other, 0 if last else 2, 0.5, bool(number % 8 < 4)))
        yield of_map("blurred", fixed, blurred(other, 2))
        yield of_map("upside down", fixed, turned(other, 180, AXES[1]))
        yield of_map("turned 60", fixed, turned(other, 60, AXES[2 if last else 0]))
        yield of_map("scaled", fixed, scaled(other, 3))
        yield of_map("shifted", fixed, other, then=Chain((Affine(_shift(fixed.image.grid, 6, seed)),)))
        yield (
            of_labels("mirrored other", fixed, mirrored(moving, 0))
            if name == "brain"
            else of_map("mirrored front to back", fixed, mirrored(other, 1))
        )
    elif kind == 2:
        yield of_map("noisy", fixed, noisy(other, 0.15, seed))
        yield of_map("back to front", fixed, turned(other, 180, AXES[2]))
        yield of_map("slab", fixed, slab(other, 0.2, seed))
        yield of_map("mirrored", fixed, mirrored(other, 0))
        yield of_map("half", cut(fixed, 1, 0.5, True), other)
        yield of_map("swirled", fixed, other, then=_swirl(fixed.image.grid, 8, seed))
        yield "noise", Trial("", fixed, nothing(fixed, seed, 0), "none")
    else:
        yield of_map("turned 60", fixed, turned(other, 60, AXES[1 if not last else 2]))
        yield of_map("turned 180", fixed, turned(other, 180, AXES[0]))
        if not last:
            yield of_map("thick", fixed, thick(other, 3))
        yield of_map("inverted", fixed, inverted(other))
        yield "smooth noise", Trial("", fixed, nothing(fixed, seed, 2.5), "none")
        yield of_map("shifted", fixed, other, then=Chain((Affine(_shift(fixed.image.grid, 10, seed)),)))
    if name == "brain":
        yield from _of_brain(number, seed, fixed, moving)


def of_labels(kind: str, fixed: Scan, moving: Scan) -> tuple[str, Trial]:
    """A trial whose truth is the overlap of labels."""
    return kind, Trial("", fixed, moving, "labels")


def of_map(kind: str, fixed: Scan, moving: Scan, **more: Any) -> tuple[str, Trial]:
    """A trial of two versions of one scan, so that the map between them is known."""
    return kind, Trial("", fixed, moving, "map", **more)


def _of_brain(number: int, seed: int, fixed: Scan, moving: Scan) -> Iterator[tuple[str, Trial]]:
    """Manipulations of brains: skulls and lesions."""
    if number % 2 == 0:
        wide = padded(moving, 8)
        yield of_labels("skull on one side", fixed, headed(wide, seed))
        yield of_labels("skull on one side, fixed", headed(padded(fixed, 8), seed), moving)
    other = bent(fixed, 1.5, 50 + seed)
    if number % 2 == 1:
        grown, ball, place = with_lesion(other, 0.12, seed)
        yield of_map("lesion", fixed, grown, around=_around(grown, place, 0.12))
        yield of_map("lesion, masked", fixed, grown, moving_mask=~ball, around=_around(grown, place, 0.12))
        before, ball, place = with_lesion(fixed, 0.12, seed)
        yield of_map("lesion, fixed", before, other, around=_around(before, place, 0.12))


def _around(grown: Scan, middle: np.ndarray, radius: float) -> np.ndarray:
    """World points of the source around a lesion, up to a third of its radius away."""
    grid = grown.image.grid
    extent = max(n * s for n, s in zip(grid.shape, grid.spacing, strict=True))
    directions = np.random.default_rng(0).normal(size=(400, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    ball = middle + directions * extent * radius * np.linspace(1, 1.33, 400)[:, None]
    return grown.source.map_points(ball)


def _swirl(grid: Grid, voxels: float, seed: int) -> Chain:
    like = Scan(Image(np.zeros(grid.shape, dtype=np.float32), grid), None, Chain(), "")
    return bent(like, voxels, 900 + seed, reach=0.08).source


def _shift(grid: Grid, voxels: float, seed: int) -> np.ndarray:
    way = np.random.default_rng(seed).normal(size=3)
    way[list(grid.thin_axes)] = 0
    matrix = np.eye(4)
    matrix[:3, 3] = grid.direction @ (way / np.linalg.norm(way)) * voxels * grid.smallest_spacing
    return matrix


def _heads(folder: Path, visit: int) -> Iterator[Trial]:
    """T1w, T2w and FLAIR of one subject at two visits, with skull; the second is deformed by a known map."""
    scans = {}
    to_flair = {"FLAIR": Chain()}
    for contrast in ("T1W", "T2W", "FLAIR"):
        scans[contrast] = scan(folder / f"study{visit}_{contrast}.nii.gz", None, HEAD_MM, f"visit {visit}")
        if contrast != "FLAIR":
            to_flair[contrast] = read_transform(folder / f"study{visit}_{contrast}_intrastudy_to_FLAIR.txt").inverse()[
                0
            ]
    # All in the world space of FLAIR, by the transforms of the data set.
    scans = {name: replace(one, source=to_flair[name]) for name, one in scans.items()}
    for number, (a, b) in enumerate(
        (("T1W", "T2W"), ("T1W", "FLAIR"), ("T2W", "FLAIR"), ("T2W", "T1W"), ("FLAIR", "T1W"))
    ):
        other = bent(scans[b], 4.0, 10 * visit + number)
        yield Trial(f"head/contrast {a} {b}/{visit}", scans[a], other, "map")
    one, two = scans["T1W"], bent(scans["T2W"], 3.0, visit)
    yield Trial(f"head/contrast, mi/{visit}", one, two, "map", options={"similarity": "mi"})
    yield Trial(f"head/contrast, upside down/{visit}", one, turned(two, 180, AXES[1]), "map")
    yield Trial(f"head/contrast, back to front/{visit}", one, turned(two, 180, AXES[2]), "map")
    yield Trial(f"head/contrast, mirrored/{visit}", one, mirrored(two, 0), "map")
    yield Trial(
        f"head/contrast, shifted/{visit}", one, two, "map", then=Chain((Affine(_shift(one.image.grid, 8, visit)),))
    )
    same = noisy(bent(one, 3.0, 30 + visit), 0.03, visit)
    yield Trial(f"head/bent/{visit}", one, same, "map")
    yield Trial(f"head/half/{visit}", one, cut(same, 2, 0.5, visit == 1), "map")
    yield Trial(f"head/mirrored/{visit}", one, mirrored(same, 0), "map")
    yield Trial(f"head/itself/{visit}", one, one, "map")


def _lung(folder: Path) -> Pair:
    """Chest CT, and a follow-up with a known breathing motion."""
    fixed = scan(folder / "lung" / "fixed.nii.gz", subject="lung")
    moving = scan(folder / "lung" / "moving.nii.gz", subject="lung", mm=5.0)
    return replace(fixed, source=read_transform(folder / "lung" / "truth_displacement.nii.gz")), moving


def _organs(folder: Path) -> Iterator[Trial]:
    fixed, moving = _lung(folder)
    own = replace(moving, source=Chain())
    yield Trial("organ/lung/0", fixed, own, "map")
    yield Trial("organ/lung, upside down/0", own, turned(noisy(bent(own, 2, 1), 0.03, 1), 180, AXES[1]), "map")
    yield Trial("organ/lung, mirrored/0", own, mirrored(noisy(bent(own, 2, 2), 0.03, 2), 0), "map")
    yield Trial("organ/lung, bent/0", own, noisy(bent(own, 3, 3), 0.03, 3), "map")
    yield Trial("organ/lung, half/0", own, cut(noisy(bent(own, 2, 4), 0.03, 4), 2, 0.5, True), "map")
    echo = [
        scan(folder / "echo" / f"{side}.nii.gz", folder / "echo" / f"{side}_labels.nii.gz")
        for side in ("fixed", "moving")
    ]
    yield Trial("organ/echo/0", echo[0], echo[1], "labels")
    yield Trial("organ/echo, bent/0", echo[0], noisy(bent(echo[0], 3, 5), 0.03, 5), "map")
    kidney = [scan(folder / "kidney" / f"{side}.nii.gz", mm=6.0) for side in ("fixed", "moving")]
    yield Trial("organ/kidney, bent/0", kidney[0], noisy(bent(kidney[0], 3, 6), 0.03, 6), "map")
    yield Trial(
        "organ/kidney, back to front/0", kidney[0], turned(noisy(bent(kidney[0], 3, 7), 0.03, 7), 180, AXES[2]), "map"
    )
    yield Trial("organ/kidney, mirrored/0", kidney[0], mirrored(noisy(bent(kidney[0], 3, 8), 0.03, 8), 0), "map")


def _strangers(sets: dict[str, list[Pair]], lung: Scan, later: bool) -> Iterator[Trial]:
    """Images of different organs with aligned centres."""
    organs = {name: [pair[0] for pair in pairs] for name, pairs in sets.items()} | {"lung": [lung] * COUNT[HALVES[1]]}
    names = list(organs)
    for number in range(7, 14) if later else range(7):
        a, b = names[number % len(names)], names[(number + 1 + number // len(names) % (len(names) - 1)) % len(names)]
        fixed, moving = organs[a][number % len(organs[a])], organs[b][(number + 3) % len(organs[b])]
        apart = np.eye(4)
        apart[:3, 3] = moving.image.grid.center - fixed.image.grid.center
        grid = Grid(moving.image.grid.shape, np.linalg.inv(apart) @ moving.image.grid.affine)
        there = replace(moving, image=replace(moving.image, grid=grid))
        yield Trial(f"strangers/{a} {b}/{number}", fixed, there, "none")
