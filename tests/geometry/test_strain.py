"""Green-Lagrange strain against maps of known strain, and its volume against SimpleITK."""

from __future__ import annotations

import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation

from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.geometry.strain import green_lagrange


@pytest.mark.parametrize("flips", ["", "i", "jk"])
def test_the_strain_of_a_stretch_does_not_depend_on_the_grid(flips: str) -> None:
    stretch = np.array([[1.2, 0.1, 0.0], [0.0, 0.9, 0.05], [0.0, 0.0, 1.1]])
    turn = Rotation.from_euler("xyz", [20, -30, 40], degrees=True).as_matrix()
    where = phantoms.grid((4, 4, 8), extent=48, flips=flips)
    oblique = np.eye(4)
    oblique[:3, :3] = Rotation.from_euler("z", 25, degrees=True).as_matrix()
    for grid in (where, Grid(where.shape, oblique @ where.affine)):
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = turn @ stretch, (5, -3, 2)
        found = green_lagrange(Chain((Affine(matrix),)), grid)
        expected = (stretch.T @ stretch - np.eye(3)) / 2
        np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=2e-5)


def test_a_rotation_has_no_strain_and_a_slice_none_across() -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("z", 30, degrees=True).as_matrix()
    assert float(green_lagrange(Chain((Affine(matrix),)), phantoms.grid((4, 4, 8))).abs().max()) < 2e-5
    matrix[:3, :3] = np.diag([1.5, 1.0, 3.0])
    slice_ = phantoms.grid((4, 4, 66))
    found = green_lagrange(Chain((Affine(matrix),)), slice_)
    np.testing.assert_allclose(found[4, 4, 0], np.diag([(1.5**2 - 1) / 2, 0, 0]), atol=1e-5)


def test_its_volume_is_the_determinant_of_itk() -> None:
    where = phantoms.grid((3, 3, 5), extent=60)
    moved = phantoms.bend(phantoms.nodes(where)) - phantoms.nodes(where)
    chain = Chain((DenseField(torch.as_tensor(np.moveaxis(moved, -1, 0), dtype=torch.float32), where),))
    strain = green_lagrange(chain, where).numpy()
    volume = np.sqrt(np.linalg.det(2 * strain + np.eye(3)))
    # ITK's filter takes the axes of the grid as those of the world, and so they are here.
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.swapaxes(moved, 0, 2)), isVector=True)
    image.SetSpacing(where.spacing.tolist())
    theirs = np.swapaxes(sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image)), 0, 2)
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(volume[inner], theirs[inner], rtol=1e-3)
