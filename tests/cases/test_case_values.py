"""Whole numbers keep their values on the way from a file to a result, or are refused."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from maxca.errors import MaxcaError
from maxca.geometry import Chain, Grid
from maxca.io.images import Image, read, write
from maxca.io.voxels import plain
from maxca.metrics import common_labels, dice, hd95
from maxca.registration.resampling import apply
from maxca.report.planes import SIDES, Plane, sampled

ALLEN = [0, 312782546, 312782550, 312782554, 312782558]
PATTERN = np.arange(6 * 7 * 8).reshape(6, 7, 8) // 70


def saved(path: Path, data: np.ndarray, slope: float = 1, inter: float = 0) -> Path:
    nifti = nib.Nifti1Image(data, np.eye(4), dtype=data.dtype)
    nifti.header.set_slope_inter(slope, inter)
    nib.save(nifti, path)
    return path


def stored(path: Path) -> np.ndarray:
    nifti: Any = nib.load(path)
    return np.asanyarray(nifti.dataobj)


@pytest.mark.parametrize("kind", [np.float64, np.int64, np.uint64, np.uint32, np.int32])
@pytest.mark.parametrize("how", ["nearest", "labels", "auto"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_labels_of_a_file_come_out_as_they_were(tmp_path: Path, kind: type, how: str, suffix: str) -> None:
    labels = np.array(ALLEN, dtype=kind)[PATTERN % 5]
    path = saved(tmp_path / f"a{suffix}", labels)
    warped = apply(path, path, [Chain()], how)  # type: ignore[arg-type]
    write(warped.data, warped.grid, tmp_path / f"b{suffix}", form=warped.form)
    for found in (read(path).data, warped.data, stored(tmp_path / f"b{suffix}")):
        np.testing.assert_array_equal(found.astype(np.int64), labels.astype(np.int64))


@pytest.mark.parametrize("slope, inter", [(1, 312782500), (2, 2**25 + 1), (1, -(2**26))])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_scaled_whole_numbers_are_not_merged(tmp_path: Path, kind: type, slope: int, inter: int) -> None:
    data: np.ndarray = (PATTERN * 9).astype(kind)
    path = saved(tmp_path / "a.nii", data, slope, inter)
    np.testing.assert_array_equal(read(path).data, data.astype(float) * slope + float(np.float32(inter)))


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int16])
def test_intensities_stay_float32(tmp_path: Path, kind: type) -> None:
    image = read(saved(tmp_path / "a.nii.gz", (PATTERN * 9).astype(kind), 0.37, 2))
    assert image.dtype == np.float32
    np.testing.assert_allclose(image.data, PATTERN * 9 * 0.37 + 2, rtol=1e-6)


def test_what_no_float_can_hold_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", PATTERN.astype(np.int64) + 2**60, 3, 1)
    with pytest.raises(MaxcaError, match=r"a\.nii: scaled integers"):
        read(path)
    with pytest.raises(MaxcaError, match=r"b\.nii: values up to .*e\+300"):
        read(saved(tmp_path / "b.nii", PATTERN * 1e300 / 4))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(200, 90, 80), (1, 1, 1500000), (1200, 1100, 1), (120, 110, 100, 1)])
def test_values_are_converted_in_pieces_as_in_one(shape: tuple[int, ...], order: str) -> None:
    data: np.ndarray = np.asarray(np.random.default_rng(0).normal(size=shape), order=order)  # type: ignore[call-overload]
    data.flat[0], data.flat[-1] = np.nan, np.inf
    np.testing.assert_array_equal(plain(data), data.astype(np.float32))
    whole = np.asarray(np.rint(data * 3e8), order=order)  # type: ignore[call-overload]
    np.testing.assert_array_equal(plain(whole), whole)


@pytest.mark.parametrize("first", [np.int64, np.uint64, np.float64, np.uint16])
@pytest.mark.parametrize("second", [np.int64, np.uint64, np.int16])
def test_metrics_tell_large_labels_of_any_type_apart(first: type, second: type) -> None:
    top = 2**62 if first in (np.int64, np.uint64) and second in (np.int64, np.uint64) else 500
    a = np.array([0, top + 1, top + 2, top + 3, 9], dtype=np.int64)[PATTERN % 5].astype(first)
    b = np.array([0, top + 1, top + 2, top + 3, 9], dtype=np.int64)[PATTERN % 5].astype(second)
    names = [9, top + 1, top + 2, top + 3]
    assert sorted(common_labels(a, b)) == names
    assert dice(a, b) == dict.fromkeys(names, 1.0)
    assert hd95(a, b, (1, 1, 1)) == dict.fromkeys(names, 0.0)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
@pytest.mark.parametrize("how", ["linear", "bspline"])
def test_no_value_wraps_between_two_voxels(kind: type, how: str) -> None:
    grid = Grid(PATTERN.shape, np.eye(4))
    half = Grid(PATTERN.shape, np.array([[1, 0, 0, 0.5], [0, 1, 0, 0.3], [0, 0, 1, 0.2], [0, 0, 0, 1]]))
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    for value in (low, high):
        data: np.ndarray = np.full(grid.shape, value, dtype=kind)
        data[0, 0, 0] = 1
        found = apply(Image(data, grid), Image(data, half), [Chain()], how).data[2:-2, 2:-2, 2:-2]  # type: ignore[arg-type]
        assert found.dtype == kind
        np.testing.assert_allclose(found.astype(float), float(value), rtol=0.02 if how == "bspline" else 1e-6)


@pytest.mark.parametrize("kind", [np.float64, np.int64, np.uint32, np.uint64])
def test_large_labels_stay_apart_in_the_pictures_of_a_report(kind: type) -> None:
    labels = (np.array([0, 1, 2**32 + 1, 2**33])[PATTERN % 4] % (2**32 if kind is np.uint32 else 2**62)).astype(kind)
    grid = Grid(PATTERN.shape, np.eye(4))
    plane = Plane("axial", 2, grid, SIDES["axial"])
    np.testing.assert_array_equal(sampled(labels, grid, Chain(), plane, "nearest"), labels.astype(np.int64))
