"""Trials on coarse levels increase the smoothness where local NCC fits what mutual information does not confirm."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sections import SHAPE, Sections

from maxca.engine.deformable import maximise, optimise
from maxca.engine.settings import Settings, settings_for
from maxca.engine.support import LARGEST, Support, coarse_levels, fitted, image_term, supported
from maxca.engine.volume import Volume
from maxca.geometry import Affine, Grid

STILL = Affine.identity()


def trials(pair: Sections) -> tuple[Settings, Support]:
    """The default settings, and the trials."""
    settings = settings_for(pair.fixed.grid, "fast")
    return settings, supported(pair.fixed, pair.moving, STILL, settings)


@pytest.mark.parametrize("seed", [0, 1])
def test_another_stain_is_registered_more_smoothly_and_ends_nearer_to_the_truth(seed: int) -> None:
    pair = Sections(stained=True, seed=seed)
    settings, found = trials(pair)
    assert found.smoother and found.smoothness > settings.smoothness
    assert found.gains[0] < found.gains[1]
    usual, chosen = (optimise(pair.fixed, pair.moving, STILL, each)[0] for each in (settings, fitted(settings, found)))
    assert pair.error(chosen) < 0.7 * pair.error(usual) < pair.error()


def test_one_contrast_keeps_the_default() -> None:
    settings, found = trials(Sections(stained=False, seed=0))
    assert not found.smoother and found.smoothness == settings.smoothness
    assert len(found.gains) == 2 and found.gains[0] > found.gains[1]
    assert fitted(replace(settings, combine="smoother"), found) == replace(settings, combine="smoother")


def test_images_without_content_keep_the_default() -> None:
    empty = Volume(torch.zeros(SHAPE), Grid(SHAPE, np.eye(4)))
    assert not supported(empty, empty, STILL, settings_for(empty.grid, "fast")).smoother


def test_both_measures_are_nearer_to_the_truth_than_local_correlation_between_stains() -> None:
    pair = Sections(stained=True, seed=1)
    settings = settings_for(pair.fixed.grid, "fast")
    both = fitted(replace(settings, combine="always"), None)
    assert both.similarity == "lncc+mi"
    alone, together = (
        maximise(pair.fixed, image_term(pair.fixed, pair.moving, STILL, each), each)[0] for each in (settings, both)
    )
    assert pair.error(together) < 0.8 * pair.error(alone)


def test_a_measure_that_the_user_chose_is_maximised_alone() -> None:
    settings = replace(settings_for(Grid(SHAPE, np.eye(4)), "fast", "mse"), combine="always")
    assert fitted(settings, None) == settings


@pytest.mark.parametrize("shape", [(160, 200, 160), (232, 256, 10), (582, 393, 1), (35, 49, 33)])
def test_trials_are_cheap(shape: tuple[int, int, int]) -> None:
    fixed = Volume(torch.zeros(shape), Grid(shape, np.eye(4)))
    settings = settings_for(fixed.grid, "balanced")
    levels = coarse_levels(fixed, settings).levels
    assert levels == settings.levels[: len(levels)]
    assert len(levels) < len(settings.levels) or len(levels) == 1
    assert all(level.voxels(fixed.grid) <= LARGEST for level in levels)
