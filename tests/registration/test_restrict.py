"""A restricted deformation moves points along the chosen axes of the fixed grid, and along no other, exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import phantoms
import pytest
from scipy.spatial.transform import Rotation

import maxca
from maxca import MaxcaError, Result
from maxca.cli.main import main
from maxca.fields import OptionError
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io.images import Image
from maxca.options import RegistrationOptions

QUICK: dict[str, Any] = {"effort": "fast", "model": "none", "threads": 1}
START = Chain((Affine.identity(),))
WHERE = phantoms.grid((2.5, 3.0, 2.0), flips="ij")


def distorted(points: np.ndarray) -> np.ndarray:
    """Fixed to moving world points: waves of up to 4 mm along y, as of an EPI."""
    x, y, z = np.moveaxis(points, -1, 0)
    return points + np.stack([0 * x, 4 * np.sin(x / 12 + y / 17) * np.cos(z / 13), 0 * z], axis=-1)


@pytest.fixture(scope="module")
def found() -> Result:
    images = phantoms.image(WHERE, distorted), phantoms.image(WHERE)
    return maxca.register(*images, **QUICK, restrict="0x1x0")


def field(chain: Chain) -> DenseField:
    (step,) = (step for step in chain.steps if isinstance(step, DenseField))
    return step


def test_other_components_are_exactly_0_in_the_field_and_its_inverse(found: Result) -> None:
    for chain in (found.chain, found.inverse):
        displacement = field(chain).displacement
        assert not displacement[[0, 2]].any() and displacement[1].abs().max() > 2


def test_a_distortion_along_one_axis_is_found_better_than_without_the_restriction(found: Result) -> None:
    images = phantoms.image(WHERE, distorted), phantoms.image(WHERE)
    free = maxca.register(*images, **QUICK, initial_transform=START)
    errors = [phantoms.error(chain, distorted) for chain in (Chain(), found.chain, free.chain)]
    assert errors[1] < 0.5 * errors[0] and errors[1] < errors[2]


def test_the_initial_transform_is_kept(found: Result) -> None:
    assert found.record.affine is not None and found.record.settings.restrict == "0x1x0"
    assert found.record.affine.affine == np.eye(4).tolist() and "is kept" in found.record.affine.reason
    shift = np.eye(4)
    shift[0, 3] = 1.5
    images = phantoms.image(WHERE, distorted), phantoms.image(WHERE)
    shifted = maxca.register(*images, **QUICK, initial_transform=Chain((Affine(shift),)), restrict="0x1x0")
    assert shifted.record.affine is not None and shifted.record.affine.affine == shift.tolist()


def test_centres_are_not_aligned() -> None:
    far = phantoms.image(WHERE)
    moved = WHERE.affine.copy()
    moved[:3, 3] += 500
    for fixed, word in ((phantoms.image(WHERE), "center"), (Image(far.data, Grid(WHERE.shape, moved)), None)):
        with pytest.raises(MaxcaError, match=r"keeps the initial transform and does not align centres"):
            maxca.register(fixed, far, **QUICK, initial_transform=word, restrict="0x1x0")


def test_what_folds_is_repaired_along_the_axis() -> None:
    """Two balls that swap places along y cannot, and the repair of the field stays on the axis."""
    where = phantoms.grid((3.0, 3.0, 3.0))

    def ball(y: float) -> phantoms.Map:
        return lambda points: np.where(np.linalg.norm(points - [0, y, 0], axis=-1) < 9, 400 + 40 * y, 0)

    images = (
        phantoms.image(where, what=lambda points, s=s: ball(14 * s)(points) + ball(-14 * s)(points)) for s in (1, -1)
    )
    swapped = maxca.register(*images, **QUICK, restrict="0x1x0", smoothness=3.0)
    assert not field(swapped.chain).displacement[[0, 2]].any()
    assert not field(swapped.inverse).displacement[[0, 2]].any()
    assert swapped.metrics.folding.ndv_percent == 0


def test_axes_are_those_of_the_fixed_grid_however_it_lies() -> None:
    """An oblique grid: the motion is along its second axis to the precision of files, 1/4000 of a voxel."""
    turn = Rotation.from_rotvec([20, -35, 50], degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn * 2.5
    affine[:3, 3] = -affine[:3, :3] @ np.full(3, 12.5)
    where = Grid((26, 26, 26), affine)
    images = phantoms.image(where, distorted), phantoms.image(phantoms.grid())
    found = maxca.register(*images, **QUICK, restrict="0x1x0")
    along = np.einsum("ca,cijk->aijk", turn, field(found.chain).displacement.numpy())
    assert np.abs(along[[0, 2]]).max() < 2.5 / 4000 and np.abs(along[1]).max() > 1


def test_two_axes_may_move() -> None:
    images = phantoms.image(WHERE, phantoms.bend), phantoms.image(WHERE)
    found = maxca.register(*images, **QUICK, restrict="1x1x0")
    displacement = field(found.chain).displacement
    assert not displacement[2].any() and all(displacement[axis].abs().max() > 1 for axis in (0, 1))


def test_guides_pull_along_the_axis_only() -> None:
    places = np.random.default_rng(1).uniform(-15, 15, (8, 3))
    images = phantoms.image(WHERE, distorted), phantoms.image(WHERE)
    points = {"fixed_points": places, "moving_points": distorted(places) + np.array([2.0, 0, 0]), "guide": ["points"]}
    found = maxca.register(*images, **points, **QUICK, restrict="0x1x0")
    assert not field(found.chain).displacement[[0, 2]].any()


@pytest.mark.parametrize("text", ["0x0x0", "1x1", "0x2x0", "j", "0,1,0", "1x1x1x0", "", 1.0])
def test_other_restrictions_are_refused(text: Any) -> None:
    with pytest.raises(OptionError, match="give 0 or 1 for each axis"):
        RegistrationOptions(restrict=text)


def test_an_affine_is_not_restricted() -> None:
    with pytest.raises(OptionError, match="restricts a deformation, not transform=affine"):
        RegistrationOptions(restrict="0x1x0", transform="affine")


def test_a_slice_cannot_move_across_itself() -> None:
    slice_ = phantoms.image(Grid((40, 40, 1), np.diag([1.5, 1.5, 5.0, 1.0])))
    with pytest.raises(MaxcaError, match=r"nothing could move in .*40x40x1 voxels"):
        maxca.register(slice_, slice_, **QUICK, restrict="0x0x1")


def test_sheared_axes_are_refused() -> None:
    affine = WHERE.affine.copy()
    affine[0, 1] += 0.8
    sheared = phantoms.image(Grid(WHERE.shape, affine))
    with pytest.raises(MaxcaError, match="are not orthogonal"):
        maxca.register(sheared, phantoms.image(WHERE), **QUICK, restrict="0x1x0")


def test_the_written_field_and_the_report_say_so(tmp_path: Path) -> None:
    words = []
    for side, through in (("fixed", distorted), ("moving", lambda points: points)):
        words += [f"--{side}", str(phantoms.save(tmp_path / f"{side}.nii.gz", phantoms.image(WHERE, through)))]
    out = ["-o", str(tmp_path / "out"), "--effort", "fast", "--model", "none", "--threads", "1", "--save-field"]
    assert main(["register", *words, *out, "--restrict", "0x1x0", "--report"]) == 0
    result = Result.load(tmp_path / "out")
    assert not field(result.chain).displacement[[0, 2]].any()
    assert result.record.command is not None and "--restrict 0x1x0" in result.record.command
    assert "0x1x0" in (tmp_path / "out" / "report.html").read_text()
    assert nib.load(tmp_path / "out" / "displacement.nii.gz").shape == (*WHERE.shape, 1, 3)
