"""Inputs that used to fail late, cryptically, or for no good reason: they are named at once, or simply done."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import maxca
from maxca.errors import MaxcaError
from maxca.io.images import read
from maxca.registration.interpolation import choose

RANDOM = np.random.default_rng(11)
SHAPE = (24, 26, 22)
SCAN = gaussian_filter(RANDOM.normal(size=SHAPE), 2)
SCAN = (900 * (SCAN - SCAN.min())).astype(np.float32)
QUICK = {"effort": "fast", "threads": 1, "model": "none"}


def saved(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return saved(tmp_path / "scan.nii.gz", SCAN)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_mask_of_a_few_voxels_is_named(tmp_path: Path, scan: Path, size: int) -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[10 : 10 + size, 10, 10] = 1
    path = saved(tmp_path / "few.nii.gz", mask)
    with pytest.raises(MaxcaError, match=r"few\.nii\.gz: the fixed mask covers"):
        maxca.register(scan, scan, fixed_mask=path, **QUICK)


def test_a_negative_label_is_named(tmp_path: Path, scan: Path) -> None:
    labels = np.ones(SHAPE, np.int16)
    labels[0, 0, 0] = -1
    path = saved(tmp_path / "negative.nii.gz", labels)
    with pytest.raises(MaxcaError, match=r"negative\.nii\.gz: contains the label -1"):
        maxca.register(scan, scan, fixed_labels=path, moving_labels=path, **QUICK)


def test_a_list_without_points_is_named(tmp_path: Path, scan: Path) -> None:
    (tmp_path / "none.csv").write_text("x,y,z\n")
    with pytest.raises(MaxcaError, match=r"none\.csv"):
        maxca.register(scan, scan, fixed_points=tmp_path / "none.csv", moving_points=tmp_path / "none.csv", **QUICK)


def test_result_json_is_json_whatever_was_measured(tmp_path: Path, scan: Path) -> None:
    result = maxca.register(scan, scan, transform="rigid", **QUICK)
    odd = {"shallow": [float("nan")], "deeper": {"deepest": float("inf")}}
    replace(result, record=replace(result.record, optimisation=odd)).save(tmp_path / "out")
    text = (tmp_path / "out" / "result.json").read_text()
    assert json.loads(text)["optimisation"] == {"shallow": [None], "deeper": {"deepest": None}}
    assert "NaN" not in text and "Infinity" not in text


def test_images_apart_are_aligned_by_their_centres(tmp_path: Path) -> None:
    body = np.zeros(SHAPE, np.float32)
    body[5:19, 6:20, 4:18] = SCAN[5:19, 6:20, 4:18]
    away = np.eye(4)
    away[:3, 3] = 500, -300, 40
    fixed, moving = saved(tmp_path / "a.nii.gz", body), saved(tmp_path / "b.nii.gz", body, away)
    result = maxca.register(fixed, moving, transform="rigid", **QUICK)
    assert any("do not overlap" in warning for warning in result.warnings)
    np.testing.assert_allclose(result.chain.map_points(np.array([[12.0, 13, 11]])), [[512, -287, 51]], atol=0.3)
    with pytest.raises(MaxcaError, match="do not overlap"):
        maxca.register(fixed, moving, initial_transform="header", **QUICK)


def test_the_command_that_an_error_suggests_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scan = saved(Path("scan.nii.gz"), SCAN)
    apart = np.eye(4)
    apart[:3, 3] = 6
    moved = saved(Path("moved mask.nii.gz"), np.ones(SHAPE, np.uint8), apart)
    with pytest.raises(MaxcaError) as caught:
        maxca.register(scan, scan, fixed_mask=moved, **QUICK)
    found = re.search(r"maxca (apply .*)$", str(caught.value))
    assert found is not None
    done = subprocess.run([sys.executable, "-m", "maxca", *shlex.split(found[1])], check=False)
    assert done.returncode == 0
    assert read(tmp_path / "regridded.nii.gz").grid.same_as(read(scan).grid)
    maxca.register(scan, scan, fixed_mask=tmp_path / "regridded.nii.gz", transform="rigid", **QUICK)


@pytest.mark.parametrize("padding", [-1000, -2000, -3024])
def test_a_ct_image_in_a_round_field_of_view_is_no_label_map(tmp_path: Path, padding: int) -> None:
    across = np.hypot(*np.meshgrid(np.arange(40) - 19.5, np.arange(40) - 19.5))[:, :, None]
    tissue = np.where(across < 10, RANDOM.normal(40, 10, (40, 40, 12)), -1000)
    image = np.rint(np.where(across > 19, padding, tissue)).astype(np.int16)
    assert choose(read(saved(tmp_path / "ct.nii.gz", image))).interpolation == "linear"
