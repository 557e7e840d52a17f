"""``register`` follows the trials, records them and says so, and leaves alone what the user sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sections import Sections

import maxca
from maxca import Result
from maxca.io.images import Image
from maxca.report.html import _facts

QUICK: dict[str, Any] = {"effort": "fast", "model": "none", "threads": 1}


STAINS, BLURRED, SHARP = Sections(True, 1), Sections(False, 1), Sections(False, 0)


def registered(pair: Sections, **options: Any) -> Result:
    """The registration of sections, more quickly than by default."""
    volumes = pair.fixed, pair.moving
    images = [Image((1000 * each.values.numpy()).round().astype(np.int16), each.grid) for each in volumes]
    return maxca.register(*images, **QUICK, **options)


@pytest.fixture(scope="module")
def stains() -> Result:
    """Two stains with the defaults."""
    return registered(STAINS)


@pytest.fixture(scope="module")
def smoother() -> Result:
    """One stain, whose trials increase the smoothness."""
    return registered(BLURRED)


def test_two_stains_end_nearer_to_the_truth_than_by_local_correlation(stains: Result) -> None:
    assert stains.record.optimisation is not None and stains.record.optimisation["similarity"] == "lncc+mi"
    assert stains.record.smoothness is not None
    alone = registered(STAINS, similarity="lncc", smoothness=stains.record.smoothness.default_mm)
    assert STAINS.error(stains.chain) < 0.7 * STAINS.error(alone.chain)


def test_a_smoother_deformation_ends_nearer_to_the_truth(smoother: Result) -> None:
    assert smoother.record.smoothness is not None
    usual = registered(BLURRED, smoothness=smoother.record.smoothness.default_mm)
    assert BLURRED.error(smoother.chain) < 0.7 * BLURRED.error(usual.chain)


def test_trials_are_recorded_and_told(smoother: Result) -> None:
    record = smoother.record
    told = record.smoothness
    assert told is not None and told.chosen_mm > told.default_mm and len(told.gains) == 3
    assert record.optimisation is not None and record.optimisation["smoothness"] == told.chosen_mm
    assert record.optimisation["similarity"] == "lncc+mi" and record.settings.similarity == "auto"
    assert record.metrics.similarity.name == "lncc"
    (warning,) = [each for each in record.warnings if "smoothness" in each]
    assert f"{told.default_mm:.3g} mm" in warning and f"{told.chosen_mm:.3g} mm" in warning
    assert dict(_facts(record))["choice of the smoothness"] == told.reason


def test_otherwise_the_result_is_that_of_local_correlation_at_the_default_to_the_bit() -> None:
    usual = registered(SHARP)
    told = usual.record.smoothness
    assert told is not None and told.chosen_mm == told.default_mm
    assert not [each for each in usual.warnings if "smoothness" in each]
    given = registered(SHARP, similarity="lncc", smoothness=told.default_mm)
    assert np.array_equal(usual.warped.data, given.warped.data)
    assert given.record.smoothness is None


def test_a_smoothness_and_a_measure_that_are_given_are_kept() -> None:
    result = registered(BLURRED, similarity="lncc", smoothness=7.5)
    assert result.record.smoothness is None and result.record.optimisation is not None
    assert result.record.optimisation["smoothness"] == 7.5 and result.record.optimisation["similarity"] == "lncc"
    assert registered(BLURRED, similarity="mind").record.smoothness is None


def test_one_subject_over_time_has_no_trials() -> None:
    assert registered(BLURRED, preset="longitudinal").record.smoothness is None
