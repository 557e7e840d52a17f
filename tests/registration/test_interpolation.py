"""Label maps are told from images, and each image knows what lies outside it."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import maxca
from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, Grid
from maxca.io.images import Image, read
from maxca.registration.interpolation import background, choose
from maxca.registration.resampling import apply, resample

GRID = Grid((20, 22, 18), np.eye(4))
RANDOM = np.random.default_rng(3)
SMOOTH = gaussian_filter(RANDOM.normal(size=GRID.shape), 3)
SEEDS = RANDOM.uniform(0, 20, (12, 3))
PLACES = np.stack(np.meshgrid(*map(np.arange, GRID.shape), indexing="ij"), axis=-1)
REGIONS = np.linalg.norm(PLACES[..., None, :] - SEEDS, axis=-1).argmin(axis=-1)
SCAN = np.clip(400 * (SMOOTH - SMOOTH.min()) + RANDOM.normal(0, 20, GRID.shape), 0, None)


def moved(mm: float) -> Chain:
    matrix = np.eye(4)
    matrix[0, 3] = mm
    return Chain((Affine(matrix),))


@pytest.mark.parametrize(
    "data",
    [
        REGIONS.astype(np.uint8),
        (REGIONS * 1000).astype(np.int32),
        (REGIONS > 4).astype(np.uint8),
        (REGIONS * 312782546).astype(np.float64),
        REGIONS.astype(np.float32),
    ],
    ids=["uint8", "int32", "mask", "Allen", "float32"],
)
def test_a_label_map_is_recognised(data: np.ndarray) -> None:
    assert choose(Image(data, GRID)).interpolation == "labels"


@pytest.mark.parametrize(
    "data",
    [
        np.rint(SCAN).astype(np.int16),
        np.rint(SCAN / SCAN.max() * 255).astype(np.uint8),
        (SCAN - 1024).round().astype(np.int16),
        np.where(REGIONS > 4, 40, -1024).astype(np.int16),
        SCAN.astype(np.float32),
        np.clip(SMOOTH, 0, 1).astype(np.float32),
    ],
    ids=["MR", "8 bits", "CT", "two Hounsfield units", "float", "probabilities"],
)
def test_an_image_is_not_taken_for_labels(data: np.ndarray) -> None:
    assert choose(Image(data, GRID)).interpolation == "linear"


@pytest.mark.parametrize("levels", [16, 20, 32, 64, 128])
@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0])
def test_a_smooth_image_of_few_grey_values_is_not_taken_for_labels(levels: int, sigma: float) -> None:
    smooth = gaussian_filter(RANDOM.normal(size=(40, 44, 36)), sigma)
    grey = (levels - 1) * (smooth - smooth.min()) / np.ptp(smooth)
    image = Image(np.rint(grey).astype(np.uint8), Grid(smooth.shape, np.eye(4)))
    assert choose(image).interpolation == "linear"


@pytest.mark.parametrize("thickness", [4, 6])
@pytest.mark.parametrize("every", [1, 2])
def test_vertebrae_in_order_are_labels(thickness: int, every: int) -> None:
    i, j, k = np.indices((40, 40, 20 * thickness))
    spine = np.where(np.hypot(i - 20, j - 20) < 11, 1 + k // thickness, 0)[::every, ::every, ::every]
    assert choose(Image(spine.astype(np.uint8), Grid(spine.shape, np.eye(4)))).interpolation == "labels"


@pytest.mark.parametrize(("name", "chosen"), [("sub-1_dseg", "labels"), ("sub-1_probseg", "linear"), ("T1w", "linear")])
def test_a_name_of_bids_decides_for_whole_numbers(tmp_path: Path, name: str, chosen: str) -> None:
    data = RANDOM.integers(0, 30, GRID.shape).astype(np.int16)  # alone it looks like noise
    nib.save(nib.Nifti1Image(data, GRID.affine), tmp_path / f"{name}.nii.gz")
    assert choose(read(tmp_path / f"{name}.nii.gz")).interpolation == chosen


def test_the_intent_of_a_header_decides_and_is_kept(tmp_path: Path) -> None:
    nifti = nib.Nifti1Image(RANDOM.integers(0, 30, GRID.shape).astype(np.int16), GRID.affine)
    nifti.header.set_intent("label")
    nib.save(nifti, tmp_path / "a.nii.gz")
    image = read(tmp_path / "a.nii.gz")
    assert choose(image).interpolation == "labels"
    assert apply(image, image, [Chain()]).intent == 1002


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64, np.uint64, np.int64])
def test_labels_survive_any_motion(dtype: type) -> None:
    top = {np.uint64: 2**64 - 13, np.int64: 2**62 + 1, np.float64: 2**40 + 1, np.int32: 2**31 - 13}.get(dtype, 200)
    data = (np.array([0, *(top + n for n in range(12))][:12]).astype(dtype))[REGIONS]
    for how in ("labels", "nearest"):
        found = resample(Image(data, GRID), GRID, moved(2.3), how).data  # type: ignore[arg-type]
        assert found.dtype == data.dtype
        assert set(np.unique(found).tolist()) <= set(np.unique(data).tolist())
        np.testing.assert_array_equal(resample(Image(data, GRID), GRID, moved(2.0), how).data[:-3], data[2:-1])  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_integers_at_their_top_value_do_not_wrap(dtype: type) -> None:
    data = np.where(REGIONS > 5, np.iinfo(dtype).max, 0).astype(dtype)
    found = resample(Image(data, GRID), GRID, Chain()).data
    np.testing.assert_allclose(found.astype(float), data.astype(float), atol=1e-5 * np.iinfo(dtype).max)


def test_a_ct_image_is_surrounded_by_air() -> None:
    data = np.full(GRID.shape, -1024, np.int16)
    data[5:15, 5:15, 5:15] = 40
    image = Image(data, GRID)
    assert background(image) == -1024
    warped = resample(image, GRID, moved(6.5)).data
    assert set(np.unique(warped[15:])) == {-1024}
    assert (resample(image, GRID, moved(6.5), fill=-3024).data[15:] == -3024).all()


def test_an_mr_image_is_surrounded_by_zero() -> None:
    assert background(Image(np.rint(SCAN + 7).astype(np.int16), GRID)) == 0


def test_labels_that_fill_the_view_are_surrounded_by_zero() -> None:
    labels = np.full(GRID.shape, 44, np.uint8)
    labels[5:9, 5:9, 5:9] = 3
    for how in ("labels", "nearest"):
        assert (resample(Image(labels, GRID), GRID, moved(6.5), how).data[15:] == 0).all()  # type: ignore[arg-type]


def test_a_fill_value_that_the_type_cannot_hold_is_refused() -> None:
    with pytest.raises(MaxcaError, match="fill -1024"):
        apply(Image(np.rint(SCAN / 10).astype(np.uint8), GRID), Image(SCAN, GRID), [moved(3)], "linear", fill=-1024)


def test_register_says_how_it_warped_further_images() -> None:
    scan = Image(SCAN.astype(np.float32), GRID)
    others = [Image(REGIONS.astype(np.uint8), GRID), (Image(REGIONS.astype(np.uint8), GRID), "linear")]
    result = maxca.register(scan, scan, transform="rigid", apply=others, effort="fast", threads=1)
    said = result.record.applied
    assert [said[name].interpolation for name in ("0.nii.gz", "1.nii.gz")] == ["labels", "linear"]
    assert set(np.unique(result.applied["0.nii.gz"].data)) <= set(range(12))
