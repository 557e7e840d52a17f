"""The demo finds the deformation that it knows, and leaves everything that it promises."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from maxca import Chain, MaxcaError, read_image
from maxca.demo.case import DemoCase, make_case, true_error
from maxca.demo.run import DemoOutcome, run_demo
from maxca.io.transforms import read_transform
from maxca.metrics import folding

COARSE = 4  # mm: seconds instead of half a minute
FILES = {
    "demo.png",
    "true_error_mm.json",
    "fixed.nii.gz",
    "inverse_transform.h5",
    "moving.nii.gz",
    "result.json",
    "transform.h5",
    "warped.nii.gz",
}


@pytest.fixture(scope="module")
def case() -> DemoCase:
    return make_case(seed=0, resolution=COARSE)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> DemoOutcome:
    return run_demo(tmp_path_factory.mktemp("demo") / "out", resolution=COARSE)


def test_the_true_error_falls_by_four_fifths(outcome: DemoOutcome) -> None:
    assert outcome.error_before_mm > 6
    assert outcome.error_before_mm > outcome.error_affine_mm > outcome.error_after_mm
    assert outcome.fall >= 0.8


def test_the_folder_holds_all_that_was_promised(outcome: DemoOutcome) -> None:
    assert {file.name for file in outcome.folder.iterdir()} == FILES
    errors = json.loads((outcome.folder / "true_error_mm.json").read_text())
    assert errors["before"]["mean"] == pytest.approx(outcome.error_before_mm, abs=1e-3)
    assert errors["after"]["mean"] == pytest.approx(outcome.error_after_mm, abs=1e-3)


def test_the_error_can_be_measured_again_from_the_files(outcome: DemoOutcome, case: DemoCase) -> None:
    found = read_transform(outcome.folder / "transform.h5")
    error = true_error(case, found)[case.brain].mean()
    assert error == pytest.approx(outcome.error_after_mm, abs=1e-3)
    np.testing.assert_array_equal(read_image(outcome.folder / "fixed.nii.gz").data, case.fixed.data)


def test_the_picture_is_fit_for_a_readme(outcome: DemoOutcome) -> None:
    assert outcome.figure.stat().st_size <= 400_000
    pixels = matplotlib.image.imread(outcome.figure)
    assert pixels.shape[0] > 700 and pixels.shape[1] > 900 and pixels.std() > 0.1


def test_an_earlier_output_is_kept_unless_told_otherwise(outcome: DemoOutcome) -> None:
    with pytest.raises(MaxcaError, match="overwrite=True"):
        run_demo(outcome.folder, resolution=COARSE)


def test_the_known_map_is_a_diffeomorphism_of_several_millimetres(case: DemoCase) -> None:
    warp = case.truth.steps[0]
    assert folding(Chain((warp,)), warp.grid) == pytest.approx((0, 0, 0.13, 0.03), abs=0.05)
    motion = np.linalg.norm(warp.displacement.numpy(), axis=0)
    assert 7 < motion.max() < 10


def test_the_copy_lies_on_a_grid_of_its_own_and_looks_different(case: DemoCase) -> None:
    fixed, moving = case.fixed.grid, case.moving.grid
    assert np.linalg.det(fixed.direction) * np.linalg.det(moving.direction) < 0
    assert np.ptp(fixed.spacing) > 0.5
    # Same tissue, other intensity: the copy is the template through the known map only up to bias, contrast and noise.
    inside = case.truth.map_points(fixed.to_world(np.argwhere(case.brain)))
    index = np.rint(moving.to_voxel(inside)).astype(int)
    template = case.moving.data[tuple(index.T)]
    correlation = np.corrcoef(template, case.fixed.data[case.brain])[0, 1]
    assert 0.6 < correlation < 0.97


def test_the_seed_decides_the_pair(case: DemoCase) -> None:
    again, other = make_case(seed=0, resolution=COARSE), make_case(seed=1, resolution=COARSE)
    np.testing.assert_array_equal(again.fixed.data, case.fixed.data)
    assert np.abs(other.fixed.data.astype(int) - case.fixed.data).mean() > 10


@pytest.mark.parametrize("package", ["nilearn", "matplotlib"])
def test_a_missing_extra_says_how_to_get_it(package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MaxcaError, match=r"pip install 'maxca\[demo\]'"):
        run_demo(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_resolution_below_the_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MaxcaError, match="at least 1"):
        run_demo(tmp_path / "out", resolution=0)
