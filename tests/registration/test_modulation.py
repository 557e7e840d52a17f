"""Modulated images keep their integral: a distortion along one axis whose Jacobian is known in closed form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
import torch

import maxca
from maxca.cli.main import main
from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io.images import Image
from maxca.io.transforms import write_transform

AMPLITUDE, RATE = 4.0, 0.15  # mm, radians per mm: lengths change by a factor from 0.4 to 1.6
WHERE = phantoms.grid((2.0, 2.0, 2.0), extent=70.0, flips="j")


def head(points: np.ndarray) -> np.ndarray:
    """A smooth blob, 0 at the border."""
    return 1000 * np.exp(-(((points - [2, -3, 1]) / [10, 9, 8]) ** 2).sum(-1) / 2)


def distortion(grid: Grid) -> DenseField:
    shift = np.zeros((3, *grid.shape))
    shift[1] = AMPLITUDE * np.sin(RATE * phantoms.nodes(grid)[..., 1])
    return DenseField(torch.from_numpy(shift).float(), grid)


def image(values: np.ndarray, grid: Grid = WHERE) -> Image:
    return Image(values.astype(np.float32), grid)


def test_it_is_the_image_times_the_change_of_length() -> None:
    nodes = phantoms.nodes(WHERE)
    moved = nodes.copy()
    moved[..., 1] += AMPLITUDE * np.sin(RATE * nodes[..., 1])
    expected = head(moved) * (1 + AMPLITUDE * RATE * np.cos(RATE * nodes[..., 1]))
    source, chain = image(head(nodes)), Chain((distortion(WHERE),))
    found = maxca.apply(source, source, chain, interpolation="bspline", modulate=True).data
    assert np.abs(found - expected).max() < 0.015 * expected.max()
    plain = maxca.apply(source, source, chain, interpolation="bspline").data
    assert np.abs(plain - expected).max() > 0.3 * expected.max()
    assert abs(found.sum() / source.data.sum() - 1) < 5e-3 < 0.01 < abs(plain.sum() / source.data.sum() - 1)


def test_the_determinant_is_that_of_itk() -> None:
    """On anisotropic voxels along the axes of LPS (ITK's filter ignores directions), with an affine that scales."""
    matrix = np.array([[0.9, -0.1, 0, 3], [0.1, 1.1, 0, -2], [0, 0.05, 1.2, 1], [0, 0, 0, 1]])
    grid = phantoms.grid((2.0, 2.5, 3.0), flips="ij")
    chain = Chain((distortion(grid), Affine(matrix)))
    flat = image(np.ones((60, 60, 60)), phantoms.grid((5.0, 5.0, 5.0), extent=300.0))
    found = maxca.apply(flat, image(np.zeros(grid.shape), grid), chain, "linear", modulate=True).data
    field = chain.field_on(grid).displacement.numpy() * np.array([-1, -1, 1]).reshape(3, 1, 1, 1)  # LPS
    picture = sitk.GetImageFromArray(field.transpose(3, 2, 1, 0).astype(np.float64), isVector=True)
    picture.SetSpacing(grid.spacing.tolist())
    theirs = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(picture)).transpose(2, 1, 0)
    inner = (slice(1, -1),) * 3
    np.testing.assert_allclose(found[inner], theirs[inner], rtol=2e-3)


def test_the_command_modulates_files_and_series(tmp_path: Path) -> None:
    nodes = phantoms.nodes(WHERE)
    source = image(head(nodes))
    source.save(tmp_path / "epi.nii.gz")
    series = np.stack([source.data, 2 * source.data], axis=-1)
    nib.save(nib.Nifti1Image(series, WHERE.affine), tmp_path / "bold.nii.gz")
    write_transform(Chain((distortion(WHERE),)), tmp_path / "warp.h5")
    expected = maxca.apply(source, source, tmp_path / "warp.h5", modulate=True).data
    for name in ("epi", "bold"):
        words = ["-i", f"{name}.nii.gz", "-r", "epi.nii.gz", "-t", "warp.h5", "-o", f"{name}_out.nii.gz"]
        files = [str(tmp_path / word) if "." in word else word for word in words]
        assert main(["apply", *files, "--modulate", "-q"]) == 0
    np.testing.assert_allclose(nib.load(tmp_path / "epi_out.nii.gz").get_fdata(), expected, atol=1e-3)
    both = nib.load(tmp_path / "bold_out.nii.gz").get_fdata()
    np.testing.assert_allclose(both, np.stack([expected, 2 * expected], axis=-1), atol=1e-2)


def test_labels_are_not_modulated() -> None:
    labels = phantoms.image(WHERE, what=phantoms.regions)
    with pytest.raises(MaxcaError, match="only intensities are modulated"):
        maxca.apply(replace(labels, path=None), labels, Chain((distortion(WHERE),)), modulate=True)
