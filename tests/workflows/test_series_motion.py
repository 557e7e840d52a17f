"""Motion parameters against SimpleITK, framewise displacement, means of motions, and gradient directions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
from movingseries import motions, rigid
from scipy.spatial.transform import Rotation

from maxca.errors import MaxcaError
from maxca.geometry import Affine, Grid
from maxca.workflows.series.gradients import read_gradients, turned, write_gradients
from maxca.workflows.series.motion import framewise_displacement, mean_of, motion_table, outliers

LPS = np.array([-1.0, -1.0, 1.0])


def test_the_parameters_are_those_of_an_euler_transform_of_itk() -> None:
    center = np.array([12.0, -30.0, 45.0])
    found = motions(4)
    table = motion_table(found, center, 50)
    for affine, shift, turn in zip(found, table.translations, table.rotations, strict=True):
        itk = sitk.Euler3DTransform()
        itk.SetComputeZYX(True)
        itk.SetCenter((LPS * center).tolist())
        itk.SetRotation(*(LPS * turn).tolist())
        itk.SetTranslation((LPS * shift).tolist())
        for point in ([0.0, 0, 0], [30.0, -20, 10], [-5.0, 80, 60]):
            there = LPS * itk.TransformPoint((LPS * point).tolist())
            np.testing.assert_allclose(there, affine.map_points(np.array(point)), atol=1e-9)
    np.testing.assert_allclose(table.scale, 1)


def test_the_sign_is_that_of_the_anatomy() -> None:
    """A head that moved up by 2 mm and nodded has a positive z; the reference is found at T(x) in the frame."""
    table = motion_table([rigid((0, 0, 2), (3, 0, 0))], np.zeros(3), 50)
    np.testing.assert_allclose(table.translations[0], [0, 0, 2], atol=1e-12)
    np.testing.assert_allclose(table.rotations[0], [np.radians(3), 0, 0], atol=1e-12)


def test_framewise_displacement_is_that_of_power_2012() -> None:
    shift = np.array([[0, 0, 0], [1, 0, 0], [1, -0.5, 0.25]])
    turn = np.array([[0, 0, 0], [0, 0.01, 0], [0, 0.01, -0.02]])
    found = framewise_displacement(shift, turn, 50)
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], [1 + 0.5, 0.5 + 0.25 + 1.0])
    assert outliers(found, None, (1.6, 1.5)).tolist() == [False, False, True]
    assert outliers(found, np.array([np.nan, 2, 1]), (9, 1.5)).tolist() == [False, True, False]


def test_the_mean_motion_leaves_as_much_in_every_direction() -> None:
    center = np.array([100.0, 0, -50])
    found = [rigid(row[:3], row[3:], center) for row in np.random.default_rng(4).uniform(-8, 8, (9, 6))]
    middle = mean_of(found, center)
    assert np.linalg.det(middle.matrix[:3, :3]) == pytest.approx(1)
    left = [Rotation.from_matrix((each @ middle.inverse()[0]).matrix[:3, :3]).as_rotvec() for each in found]
    np.testing.assert_allclose(np.mean(left, axis=0), 0, atol=1e-9)
    one = [rigid((0, 0, 0), (0, 0, angle), center) for angle in (0, 10, 20)]
    np.testing.assert_allclose(mean_of(one, center).matrix, rigid((0, 0, 0), (0, 0, 10), center).matrix, atol=1e-9)


@pytest.mark.parametrize("flips", ["", "i", "jk"])
def test_gradient_directions_stay_with_the_anatomy(flips: str) -> None:
    """A direction of the anatomy, measured in a turned frame, is the same in the reference."""
    where = phantoms.grid(flips=flips)
    where = Grid(where.shape, rigid((0, 0, 0), (10, 20, -15)).matrix @ where.affine)
    axes = np.array(where.direction)
    if np.linalg.det(axes) > 0:  # FSL's images are seen as left-handed
        axes[:, 0] *= -1
    anatomy = np.array([0.6, 0.64, -0.48])
    moved = motions(5)
    seen = [np.linalg.solve(axes, affine.matrix[:3, :3] @ anatomy) for affine in moved]
    found = turned(np.array(seen), moved, where, where)
    np.testing.assert_allclose(found, np.tile(np.linalg.solve(axes, anatomy), (5, 1)), atol=1e-12)


def test_gradient_files_of_either_layout_are_read(tmp_path: Path) -> None:
    directions = np.array([[0, 0, 0], [1, 0, 0], [0, 0.6, -0.8], [0, 0, 1]])
    write_gradients(directions, tmp_path / "rows.bvec")
    np.savetxt(tmp_path / "columns.bvec", directions)
    for name in ("rows", "columns"):
        np.testing.assert_allclose(read_gradients(tmp_path / f"{name}.bvec", 4), directions)
    assert len((tmp_path / "rows.bvec").read_text().splitlines()) == 3
    still = turned(directions, [Affine.identity()] * 4, phantoms.grid(), phantoms.grid())
    np.testing.assert_allclose(still, directions, atol=1e-15)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 0\n0 1\n0 0\n", "3 x 2 numbers, but 4 frames need 3 x 4"),
        ("1 0 0 x\n0 1 0 0\n0 0 1 1\n", "not a table of numbers"),
        ("9 0 0 0\n0 1 0 0\n0 0 1 1\n", "directions longer than 1"),
        ("1 0 0\n1 0\n", "not a table of numbers"),
    ],
)
def test_other_gradient_files_are_rejected(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.bvec").write_text(text)
    with pytest.raises(MaxcaError, match=said):
        read_gradients(tmp_path / "a.bvec", 4)
