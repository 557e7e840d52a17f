"""A verdict is right about registrations whose worth is known."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import phantoms
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

import maxca
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io.images import Image
from maxca.registration.inputs import Side
from maxca.registration.record import ByLabel, Distances
from maxca.report.verdict.check import Check, Verdict, graded, state_of
from maxca.report.verdict.coarse import coarse_pair
from maxca.report.verdict.evidence import Evidence, gather
from maxca.report.verdict.given import of_labels, of_points
from maxca.report.verdict.judge import judge, judged, together
from maxca.report.verdict.scale import scaled_chain, scaled_side

WHERE = phantoms.grid((3.0, 3.0, 3.0))
FIXED = phantoms.image(WHERE, phantoms.bend)
MOVING = phantoms.image(WHERE)


@dataclass(frozen=True, eq=False)
class Registered:
    """What there is to judge."""

    fixed: Side
    moving: Side
    chain: Chain
    inverse: Chain
    record: dict[str, Any]


def registered(fixed: Image, moving: Image, **options: Any) -> Registered:
    result = maxca.register(fixed, moving, model="none", effort="fast", threads=1, **options)
    return Registered(Side(fixed), Side(moving), result.chain, result.inverse, result.record)


@cache
def good() -> Registered:
    return registered(FIXED, MOVING)


def then(of: Registered, step: Any) -> Registered:
    """The result, and then another map of the fixed world."""
    back = Chain((step,)).inverse()[0]
    return replace(of, chain=of.chain @ Chain((step,)), inverse=back @ of.inverse)


def turned(degrees: float, axis: int) -> Image:
    turn = Rotation.from_rotvec(np.radians(degrees) * np.eye(3)[axis]).as_matrix()
    return phantoms.image(WHERE, lambda points: points @ turn.T)


def mirrored() -> Image:
    """With noise of a hundredth of the range: without it, rounding decides between two equal rotations."""
    noise = np.random.default_rng(0).normal(scale=5.0, size=WHERE.shape)
    return replace(MOVING, data=np.where(MOVING.data > 0, MOVING.data + noise, 0)[::-1].astype(np.float32))


def noise() -> Image:
    return Image(np.random.default_rng(0).integers(0, 500, WHERE.shape).astype(np.int16), WHERE)


def half() -> Image:
    shape = WHERE.shape
    return Image(MOVING.data[:, :, : shape[2] // 2 + 1], WHERE.box([0, 0, 0], [*shape[:2], shape[2] // 2 + 1]))


def shift() -> Affine:
    matrix = np.eye(4)
    matrix[:3, 3] = [12.0, 0, 0]
    return Affine(matrix)


def fold() -> DenseField:
    distance = np.linalg.norm(phantoms.nodes(WHERE) - np.array([10.0, 0, 0]), axis=-1)
    motion = torch.zeros(3, *WHERE.shape)
    motion[0] = torch.as_tensor(-2.0 * (phantoms.nodes(WHERE)[..., 0] - 10) * np.exp(-((distance / 14) ** 2)))
    return DenseField(motion, WHERE)


def swirl() -> DenseField:
    random = np.random.default_rng(3).normal(size=(3, *WHERE.shape))
    motion = ndimage.gaussian_filter(random, (0, 3, 3, 3))
    return DenseField(torch.as_tensor(motion / np.sqrt((motion**2).sum(0).mean()) * 12).float(), WHERE)


RIGHT: dict[str, Callable[[], Registered]] = {
    "found": good,
    "itself": lambda: registered(MOVING, MOVING),
    "half a field of view": lambda: registered(FIXED, half()),
    "half, fixed": lambda: registered(half(), FIXED),
    "turned by 30 degrees and found": lambda: registered(FIXED, turned(30, 2)),
    "back to front and found": lambda: registered(FIXED, turned(180, 2)),
    "affine alone": lambda: registered(MOVING, turned(20, 1), transform="affine"),
    "rigid alone": lambda: registered(MOVING, turned(20, 0), transform="rigid"),
}
WRONG: dict[str, tuple[Callable[[], Registered], str]] = {
    "shifted": (lambda: then(good(), shift()), "agreement"),
    "swirled": (lambda: then(good(), swirl()), "deformation"),
    "folded": (lambda: then(good(), fold()), "change of volume"),
    "noise": (lambda: registered(FIXED, noise()), "orientation"),
    "back to front": (lambda: registered(FIXED, turned(180, 2), search="off"), "orientation"),
    "upside down": (lambda: registered(FIXED, turned(180, 1), search="off"), "orientation"),
    "mirrored": (lambda: registered(FIXED, mirrored()), "mirroring"),
}


@cache
def with_verdict(make: Callable[[], Registered]) -> tuple[Registered, Verdict]:
    """A registration and its verdict, for several tests."""
    plain = make()
    return plain, judge(plain)


@cache
def evidence() -> Evidence:
    """What is measured of a good registration."""
    return gather(good())


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_is_aligned(name: str) -> None:
    _, verdict = with_verdict(RIGHT[name])
    assert verdict.state == "aligned", verdict.reasons
    assert not verdict.reasons


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_failed_and_says_why(name: str) -> None:
    make, reason = WRONG[name]
    _, verdict = with_verdict(make)
    assert verdict.state == "failed"
    assert {check.name: check.state for check in verdict.checks}[reason] != "aligned", verdict.reasons
    assert all(len(said) < 500 for said in verdict.reasons)


@pytest.mark.parametrize("factor", [1e-4, 5e-3, 1e3])
@pytest.mark.parametrize("make", [good, WRONG["shifted"][0]])
def test_the_size_of_voxels_in_mm_changes_no_verdict(factor: float, make: Callable[[], Registered]) -> None:
    plain, first = with_verdict(make)
    error = plain.record.metrics.inverse_consistency_mm
    metrics = replace(plain.record.metrics, inverse_consistency_mm=Distances(error.mean * factor))
    scaled = Registered(
        scaled_side(plain.fixed, factor),
        scaled_side(plain.moving, factor),
        scaled_chain(plain.chain, factor),
        scaled_chain(plain.inverse, factor),
        replace(plain.record, metrics=metrics),
    )
    second = judge(scaled)
    assert [(check.name, check.state) for check in first.checks] == [
        (check.name, check.state) for check in second.checks
    ]


def test_images_of_two_dimensions_are_judged_in_their_plane() -> None:
    flat = Grid((*WHERE.shape[:2], 1), WHERE.box([0, 0, 12], [*WHERE.shape[:2], 13]).affine)

    def wave(points: np.ndarray) -> np.ndarray:
        return points + 2 * np.stack([np.sin(points[..., 1] / 9), np.cos(points[..., 0] / 9), 0 * points[..., 2]], -1)

    fixed, moving = phantoms.image(flat, wave), phantoms.image(flat)
    found = registered(fixed, moving)
    assert judge(found).state == "aligned", judge(found).reasons
    assert judge(then(found, shift())).state == "failed"
    assert judge(registered(fixed, replace(moving, data=moving.data[::-1].copy()))).state == "failed"


@pytest.mark.parametrize(
    ("after", "sizes", "state"),
    [
        ({"1": 0.8, "2": 0.7}, (20, 20), "aligned"),
        ({"1": 0.8, "2": 0.005}, (20, 9), "failed"),
        ({"1": 0.8, "2": 0.0}, (20, 3), "check"),
        ({"1": 0.8, "2": 0.0}, (20, 1), "aligned"),
        ({"1": 0.01, "2": 0.0}, (20, 1), "failed"),
        ({"1": 0.3, "2": 0.3}, (20, 20), "failed"),
    ],
)
def test_labels_count_where_they_are_given(after: dict[str, float], sizes: tuple[int, int], state: str) -> None:
    labels = np.zeros(WHERE.shape, dtype=np.uint8)
    labels[: sizes[0], : sizes[0], : sizes[0]] = 1
    labels[: sizes[1], : sizes[1], -sizes[1] :] = 2
    plain = good()
    scores = ByLabel(float(np.mean(list(after.values()))), dict(after))
    before = ByLabel(0.35, dict.fromkeys(after, 0.35))
    metrics = replace(plain.record.metrics, dice_before=before, dice_after=scores)
    case = replace(
        plain,
        fixed=replace(plain.fixed, labels=labels),
        moving=replace(plain.moving, labels=labels),
        record=replace(plain.record, metrics=metrics),
    )
    assert Verdict(tuple(of_labels(case))).state == state


@pytest.mark.parametrize(
    ("before", "after", "state"),
    [(5.0, 1.0, "aligned"), (0.1, 0.4, "aligned"), (3.0, 4.0, "check"), (3.0, 9.0, "failed")],
)
def test_landmarks_count_where_they_are_given(before: float, after: float, state: str) -> None:
    plain = good()
    metrics = replace(plain.record.metrics, tre_mm_before=Distances(before), tre_mm_after=Distances(after))
    (check,) = of_points(replace(plain, record=replace(plain.record, metrics=metrics)))
    assert check.state == state, check


def test_the_worst_check_decides() -> None:
    checks = [Check("a", "aligned", ""), Check("b", "check", "why"), Check("c", "aligned", "")]
    assert Verdict(tuple(checks)).state == "check"
    assert Verdict((*checks, Check("d", "failed", "so"))).state == "failed"
    assert Verdict(tuple(checks)).reasons == ["b: why"]


@pytest.mark.parametrize(
    ("volume", "swallowed", "state", "cause"),
    [
        (0.5, (0.2, 0.0), "failed", "fixed image alone: skull-strip both or neither, or use a mask"),
        (0.7, (0.2, 0.0), "check", "enlarged to cover a skull"),
        (2.0, (0.0, 0.2), "failed", "moving image alone: skull-strip"),
        (0.9, (0.2, 0.0), "aligned", ""),
        (2.0, (0.2, 0.0), "aligned", ""),  # it is the moving image that would have something more
        (0.5, (0.0, 0.0), "aligned", ""),  # a child, say
    ],
)
def test_an_image_that_was_stretched_over_a_skull_failed(
    volume: float, swallowed: tuple[float, float], state: str, cause: str
) -> None:
    plain = evidence()
    assert plain.swallowed == (0.0, 0.0)
    found = replace(plain, swallowed=swallowed, motion=replace(plain.motion, volume=volume))
    (check,) = [check for check in judged(found) if check.name == "size"]
    assert check.state == state, check
    assert cause in check.finding


def test_two_maps_are_compared_where_both_see_the_moving_image() -> None:
    pair = coarse_pair(Side(FIXED), Side(MOVING))
    here, apart = Chain(), Chain((shift(),))
    assert pair.compared(here, here) == pytest.approx(1.0)
    assert pair.compared(here, apart) == pytest.approx(1 / pair.compared(apart, here))
    assert pair.compared(here, apart) < 0.9
    away = Affine(np.array([[1.0, 0, 0, 1e4], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    assert pair.compared(here, Chain((away,))) == 0.0


def test_the_page_has_every_check_with_its_thresholds() -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "read-a-report.md").read_text(encoding="utf-8")
    found = evidence()
    stretched = replace(found, swallowed=(0.2, 0.0), motion=replace(found.motion, volume=0.5))
    compared = 0
    for check in judged(stretched):
        (row,) = [line.split("|") for line in page.splitlines() if line.startswith(f"| {check.name} |")]
        limits = re.search(r"at (?:least|most) ([\d.]+) is acceptable, (?:up to|from) ([\d.]+)", check.finding)
        for cell, limit in zip(row[3:5], limits.groups() if limits else (), strict=False):
            assert re.search(rf"(?<![\d.]){re.escape(limit)}(?![\d.])", cell), (row, limit)
            compared += 1
    assert compared >= 2 * 9


@pytest.mark.parametrize(("doubts", "state"), [(0, "aligned"), (1, "aligned"), (2, "failed"), (4, "failed")])
def test_several_doubts_are_a_failure(doubts: int, state: str) -> None:
    checks = [Check(f"check {n}", "check" if n < doubts else "aligned", "") for n in range(6)]
    found = together(checks)
    assert found.state == state
    assert (doubts < 2) or f"check {doubts - 1}" in found.finding


def test_thresholds_work_both_ways() -> None:
    assert [state_of(value, 2.0, 4.0) for value in (2.0, 3.0, 4.0)] == ["aligned", "check", "failed"]
    assert [state_of(value, 0.8, 0.5) for value in (0.8, 0.6, 0.5)] == ["aligned", "check", "failed"]
    assert state_of(float("nan"), 2.0, 4.0) == "check"
    assert "Do this" in graded("a", 3.0, 2.0, 4.0, "found", "Do this").finding
    assert "Do this" not in graded("a", 1.0, 2.0, 4.0, "found", "Do this").finding
