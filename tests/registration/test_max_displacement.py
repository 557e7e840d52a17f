"""No point moves farther from where the affine puts it than the largest displacement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import phantoms
import pytest

import maxca
from maxca import Result
from maxca.cli.main import main
from maxca.fields import OptionError
from maxca.geometry import Affine, Chain
from maxca.options import RegistrationOptions

QUICK: dict[str, Any] = {"effort": "fast", "model": "none", "threads": 1}
WHERE = phantoms.grid((2.5, 3.0, 2.0), flips="ij")
FIXED, MOVING = phantoms.image(WHERE, phantoms.bend), phantoms.image(WHERE)


def displacement(result: Result) -> np.ndarray:
    """Distances in mm from where the affine puts random points, between the nodes too."""
    points = np.random.default_rng(0).uniform(-30, 30, (20_000, 3))
    assert result.record.affine is not None
    affine = Affine(np.array(result.record.affine.affine))
    return np.linalg.norm(result.chain.map_points(points) - affine.map_points(points), axis=1)


@pytest.mark.parametrize("mm", [1.0, 2.0])
def test_displacements_end_at_the_limit(mm: float) -> None:
    scaled = phantoms.image(WHERE, lambda points: 1.2 * phantoms.bend(points))  # the affine scales
    result = maxca.register(scaled, MOVING, **QUICK, max_displacement=mm)
    found = displacement(result)
    assert 0.95 * mm < found.max() <= mm
    assert result.metrics.folding.ndv_percent == 0
    assert displacement(maxca.register(scaled, MOVING, **QUICK)).max() > 2.5


def test_a_limit_that_is_not_reached_changes_nothing() -> None:
    free, limited = (maxca.register(FIXED, MOVING, **QUICK, **given) for given in ({}, {"max_displacement": 100.0}))
    points = np.random.default_rng(0).uniform(-25, 25, (1000, 3))
    assert np.abs(free.chain.map_points(points) - limited.chain.map_points(points)).max() < 1e-3


def test_it_holds_along_the_axis_of_a_restriction() -> None:
    start = Chain((Affine.identity(),))
    result = maxca.register(FIXED, MOVING, **QUICK, initial_transform=start, restrict="0x1x0", max_displacement=1.5)
    field = result.chain.field_on(WHERE).displacement
    assert not field[[0, 2]].any() and 1.4 < float(field[1].abs().max()) <= 1.5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_displacement": 0}, "positive"),
        ({"max_displacement": 2, "transform": "affine"}, "limits a free deformation, not affine"),
        ({"max_displacement": 2, "exclude_as": "rigid"}, "limits a free deformation, not exclude_as=rigid"),
    ],
)
def test_other_limits_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        RegistrationOptions(**given)


def test_rigid_bodies_are_not_limited() -> None:
    body = maxca.Image((np.linalg.norm(phantoms.nodes(WHERE), axis=-1) < 9).astype(np.uint8), WHERE)
    with pytest.raises(OptionError, match="cannot be combined with max_displacement=2"):
        maxca.register(FIXED, MOVING, **QUICK, rigid=body, max_displacement=2)


def test_the_command_line_takes_it(tmp_path: Path) -> None:
    words = [
        word
        for name, image in (("fixed", FIXED), ("moving", MOVING))
        for word in (f"--{name}", str(phantoms.save(tmp_path / f"{name}.nii.gz", image)))
    ]
    quick = ["--effort", "fast", "--model", "none", "--threads", "1", "--max-displacement", "1.5"]
    assert main(["register", *words, "-o", str(tmp_path / "out"), *quick]) == 0
    result = Result.load(tmp_path / "out")
    assert result.record.settings.max_displacement == 1.5 and displacement(result).max() <= 1.5 + 1e-5
