"""Settings that fit an image of any size and spacing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from maxca.engine.settings import COARSEST, EFFORT, refining, settings_for
from maxca.geometry import Grid
from maxca.options import EFFORTS, EffortName

GRIDS = {
    "brain": ((160, 192, 150), (1.0, 1.0, 1.0)),
    "microscopic": ((600, 600, 500), (0.3, 0.3, 0.3)),
    "heart": ((216, 256, 9), (1.5, 1.5, 8.0)),
    "hippocampus": ((35, 51, 35), (1.0, 1.0, 1.0)),
    "slice": ((256, 200, 1), (0.8, 0.8, 5.0)),
    "tiny": ((4, 4, 4), (2.0, 2.0, 2.0)),
}


def grid(name: str) -> Grid:
    shape, spacing = GRIDS[name]
    return Grid(shape, np.diag([*spacing, 1.0]))


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("name", GRIDS)
def test_levels_go_from_coarse_to_fine_within_the_budget(name: str, effort: EffortName) -> None:
    levels = settings_for(grid(name), effort).levels
    factors = [level.factor for level in levels]
    assert factors == sorted(factors, reverse=True)
    assert all(a == 2 * b for a, b in pairwise(factors))
    assert levels[-1].voxels(grid(name)) <= EFFORT[effort].voxels
    assert all(level.steps > 0 for level in levels)


@pytest.mark.parametrize("name", GRIDS)
def test_the_first_level_is_small(name: str) -> None:
    first = settings_for(grid(name), "balanced").levels[0]
    shape = np.array(grid(name).shape) / first.factor
    assert shape.max() <= COARSEST + 1


@pytest.mark.parametrize("name", GRIDS)
def test_more_effort_means_no_coarser_a_result(name: str) -> None:
    finest = [settings_for(grid(name), effort).levels[-1].voxels(grid(name)) for effort in EFFORTS]
    assert finest == sorted(finest)


@pytest.mark.parametrize("name", GRIDS)
def test_no_effort_takes_more_work_than_accurate(name: str) -> None:
    work = {
        effort: sum(level.steps * level.voxels(grid(name)) for level in settings_for(grid(name), effort).levels)
        for effort in EFFORTS
    }
    assert work["fast"] <= work["balanced"] <= work["accurate"]


def test_accurate_reaches_the_voxels_of_a_brain_scan() -> None:
    assert settings_for(grid("brain"), "accurate").levels[-1].factor == 1


def test_smoothness_follows_the_spacing_unless_given() -> None:
    ours = {name: settings_for(grid(name), "balanced").smoothness for name in GRIDS}
    assert ours["heart"] / ours["brain"] == pytest.approx(1.5)
    assert ours["slice"] / ours["brain"] == pytest.approx(0.8 * 1.5), (
        "a slice is smoother; its thickness does not count"
    )
    assert settings_for(grid("brain"), "fast", smoothness=7.5).smoothness == 7.5


def test_what_is_left_to_do_for_a_network_is_at_the_finest_levels() -> None:
    settings = settings_for(grid("brain"), "balanced")
    assert refining(settings).levels == settings.levels[-2:]
    assert [level.steps for level in refining(settings, 3).levels] == [3]
    assert refining(settings, 10_000).levels == settings.levels[-1:]
    assert refining(settings, 0).levels == ()


def test_the_similarity_is_passed_on() -> None:
    assert settings_for(grid("brain"), "fast").similarity == "lncc"
    assert settings_for(grid("brain"), "fast", "mi").similarity == "mi"
