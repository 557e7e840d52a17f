"""What a user of the Python package meets first: names, representations, results, images of other libraries."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
import torch

import maxca
from maxca import Affine, Chain, DenseField, Image, MaxcaError, Result
from maxca.models.zoo import find_model

COARSE = phantoms.grid((5.0, 5.0, 6.0))
QUICK = {"model": "none", "effort": "fast", "threads": 1}


@pytest.fixture(scope="module")
def result() -> Result:
    images = phantoms.image(COARSE, phantoms.bend), phantoms.image(COARSE)
    labels = [phantoms.image(COARSE, through, phantoms.regions) for through in (phantoms.bend, lambda x: x)]
    extra = (np.asarray(images[1].data), COARSE.affine)
    return maxca.register(*images, fixed_labels=labels[0], moving_labels=labels[1], apply=[extra], **QUICK)


def test_only_public_names_are_listed() -> None:
    assert sorted(dir(maxca)) == sorted([*maxca.__all__, "__version__"])
    assert all(hasattr(maxca, name) for name in dir(maxca))


def test_representations_fit_three_lines(result: Result) -> None:
    grid, model = result.fixed_grid, maxca.load_model(find_model("hippocampus"))
    shown = [result, grid, result.warped, result.chain, *result.chain.steps, Affine.identity(), model]
    for each in shown:
        text = repr(each)
        assert type(each).__name__ in text
        assert text.count("\n") < 3 and len(text) < 3 * 120, text


def test_a_saved_result_is_loaded_as_it_was(result: Result, tmp_path: Path) -> None:
    folder = result.save(tmp_path / "out")
    loaded = Result.load(folder)
    assert loaded.record == result.record
    points = phantoms.nodes(phantoms.grid((9.0, 9.0, 9.0))).reshape(-1, 3)
    np.testing.assert_allclose(loaded.chain.map_points(points), result.chain.map_points(points), atol=1e-4)
    np.testing.assert_allclose(loaded.inverse.map_points(points), result.inverse.map_points(points), atol=1e-4)
    np.testing.assert_array_equal(loaded.warped.data, result.warped.data)
    assert loaded.warped_labels is not None and result.warped_labels is not None
    np.testing.assert_array_equal(loaded.warped_labels.data, result.warped_labels.data)
    assert loaded.applied.keys() == result.applied.keys()
    again = loaded.save(tmp_path / "again")
    assert (again / "result.json").read_bytes() == (folder / "result.json").read_bytes()


def test_a_record_cannot_lead_out_of_its_folder(result: Result, tmp_path: Path) -> None:
    folder = result.save(tmp_path / "out")
    path = folder / "result.json"
    path.write_text(path.read_text().replace('"0.nii.gz"', '"/../../secret.nii.gz"'))
    with pytest.raises(MaxcaError, match=r"result\.json: warped_/\.\./\.\./secret\.nii\.gz is not the name of a file"):
        Result.load(folder)


@pytest.mark.parametrize("flips", ["", "i", "jk"])
def test_images_go_to_nibabel_and_simpleitk_and_back(flips: str) -> None:
    image = phantoms.image(phantoms.grid((2.0, 3.0, 4.0), flips=flips))
    for other in (image.to_nibabel(), image.to_sitk(), (image.data, image.grid.affine)):
        back = maxca.read_image(other)
        np.testing.assert_array_equal(back.data, image.data)
        np.testing.assert_allclose(back.grid.affine, image.grid.affine, atol=1e-5)
        assert back.dtype == image.dtype
    assert isinstance(image.to_nibabel(), nib.Nifti1Image)
    assert image.to_sitk().GetSize() == image.grid.shape


def test_an_array_of_two_dimensions_is_a_2d_image() -> None:
    image = maxca.read_image((np.ones((5, 4), dtype=np.int64), np.diag([2.0, 2.0, 1.0, 1.0])))
    assert (image.dimension, image.grid.shape, image.dtype) == (2, (5, 4, 1), np.dtype(np.int64))
    assert image.to_nibabel().shape == (5, 4)
    assert image.to_sitk().GetDimension() == 2


@pytest.mark.parametrize(
    "bad", [(np.ones((2, 2, 2, 2)), np.eye(4)), (np.ones((2, 2, 2)), np.eye(3)), (np.ones((0, 2, 2)), np.eye(4))]
)
def test_an_array_that_is_no_image_is_refused(bad: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(MaxcaError, match="array"):
        maxca.read_image(bad)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_images_are_saved_in_every_format(suffix: str, tmp_path: Path) -> None:
    image = phantoms.image(COARSE)
    image.save(tmp_path / f"image{suffix}")
    np.testing.assert_array_equal(maxca.read_image(tmp_path / f"image{suffix}").data, image.data)
    if suffix != ".nii.gz":
        assert sitk.ReadImage(str(tmp_path / f"image{suffix}")).GetSize() == COARSE.shape


def test_apply_takes_a_chain_or_a_transform() -> None:
    image = phantoms.image(COARSE)
    shift = np.eye(4)
    shift[0, 3] = 4.0
    affine = Affine(shift)
    field = DenseField(torch.zeros(3, *COARSE.shape) + torch.tensor([4.0, 0, 0]).view(3, 1, 1, 1), COARSE)
    expected = maxca.apply(image, image, [Chain((affine,))]).data
    for given in (affine, [affine], Chain((affine,)), field):
        np.testing.assert_allclose(maxca.apply(image, image, given).data.astype(float), expected, atol=1)


def test_a_model_object_is_used_as_it_is() -> None:
    images = phantoms.image(COARSE, phantoms.bend), phantoms.image(COARSE)
    model = maxca.load_model(find_model("synth"))
    loaded = maxca.register(*images, model=model, effort="fast", threads=1)
    named = maxca.register(*images, model="synth", effort="fast", threads=1)
    np.testing.assert_array_equal(loaded.warped.data, named.warped.data)
    assert loaded.record.settings.model == "synth"
    assert loaded.record.inputs["model"] == named.record.inputs["model"]


def test_an_image_says_what_it_is() -> None:
    assert "5 x 5 x 6 mm" in repr(Image(np.zeros(COARSE.shape, np.int16), COARSE))
