"""FLIRT's matrices and FNIRT's fields, made from FSL's definition of its coordinates."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from foreign import AFFINE, DIRECTIONS, bend, grids, images, inner_points, mapped, nodes, resampled, volume

from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, Grid
from maxca.io.transforms import read_transform, write_transform
from maxca.registration.resampling import apply, grids_of

PAIRS = [(kind, None) for kind in DIRECTIONS] + [("RAS", "LAS"), ("oblique LAS", "RAS"), ("LAS", "LPS"), ("PIR", "RAS")]
pairs = pytest.mark.parametrize(("kind", "other"), PAIRS)


def to_fsl(grid: Grid) -> np.ndarray:
    """World to FSL's coordinates: voxels times spacing, the first axis counted backwards in neurological order."""
    voxel = np.linalg.inv(grid.affine)
    scale = np.diag([*np.linalg.norm(grid.affine[:3, :3], axis=0), 1.0])
    if np.linalg.det(grid.affine[:3, :3]) > 0:
        flip = np.diag([-1.0, 1, 1, 1])
        flip[0, 3] = grid.shape[0] - 1
        voxel = flip @ voxel
    return scale @ voxel


def fnirt(path: Path, fixed: Grid, moving: Grid, absolute: bool, intent: int = 2006) -> Path:
    """A field of the map ``bend`` as FNIRT's --fout or convertwarp --absout."""
    there = mapped(to_fsl(moving), bend(nodes(fixed)))
    vectors = there if absolute else there - mapped(to_fsl(fixed), nodes(fixed))
    image = nib.Nifti1Image(vectors.astype(np.float32), fixed.affine)
    image.set_sform(fixed.affine, 1)
    image.header["intent_code"] = intent
    nib.save(image, path)
    return path


@pairs
def test_a_matrix_of_flirt_maps_points_as_fsl_defines(kind: str, other: str | None, tmp_path: Path) -> None:
    fixed, moving = grids(kind, other)
    backward = to_fsl(fixed) @ np.linalg.inv(AFFINE) @ np.linalg.inv(to_fsl(moving))
    np.savetxt(tmp_path / "flirt.mat", backward, fmt="%.10f")
    chain = read_transform(tmp_path / "flirt.mat", "fsl", (fixed, moving))
    np.testing.assert_allclose(chain.map_points(nodes(fixed)), mapped(AFFINE, nodes(fixed)), atol=1e-5)


@pairs
def test_a_matrix_for_flirt_is_the_one_that_nitransforms_writes(kind: str, other: str | None, tmp_path: Path) -> None:
    linear = pytest.importorskip("nitransforms.linear")
    fixed, moving = images(tmp_path, kind, other)
    linear.Affine(AFFINE, reference=fixed).to_filename(tmp_path / "theirs.mat", fmt="fsl", moving=moving)
    known = grids_of(fixed, moving)
    write_transform(Chain((Affine(AFFINE),)), tmp_path / "ours.mat", tool="fsl", images=known)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "ours.mat"), np.loadtxt(tmp_path / "theirs.mat"), atol=1e-5)
    chain = read_transform(tmp_path / "theirs.mat", "fsl", known)
    at = inner_points(grids(kind)[0])
    np.testing.assert_allclose(chain.map_points(at), mapped(AFFINE, at), atol=1e-3)


@pytest.mark.parametrize("absolute", [False, True])
@pairs
def test_a_field_of_fnirt_maps_points_and_images(kind: str, other: str | None, absolute: bool, tmp_path: Path) -> None:
    fixed, moving = grids(kind, other)
    path = fnirt(tmp_path / "field.nii.gz", fixed, moving, absolute)
    chain = read_transform(path, images=(fixed, moving))
    at = inner_points(fixed)
    np.testing.assert_allclose(chain.map_points(at), bend(at), atol=1e-3)
    files = images(tmp_path, kind, other)
    warped = apply(files[1], files[0], path, "linear", fill=0.0).data
    expected = resampled(volume(moving), moving, bend(nodes(fixed)))
    inside = np.isfinite(expected)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(warped[inside], expected[inside], atol=1e-3)


@pairs
def test_a_field_written_for_fsl_holds_relative_displacements(kind: str, other: str | None, tmp_path: Path) -> None:
    fixed, moving = grids(kind, other)
    chain = read_transform(fnirt(tmp_path / "theirs.nii.gz", fixed, moving, False), images=(fixed, moving))
    write_transform(chain, tmp_path / "ours.nii.gz", tool="fsl", images=(fixed, moving))
    theirs, ours = (nib.load(tmp_path / f"{name}.nii.gz") for name in ("theirs", "ours"))
    assert ours.header["intent_code"] == 2006 and ours.shape == theirs.shape
    np.testing.assert_allclose(ours.get_fdata(), theirs.get_fdata(), atol=1e-3)


@pytest.mark.parametrize("intent", [2007, 2008, 2009, 2016, 2018])
def test_coefficients_of_fnirt_are_refused(intent: int, tmp_path: Path) -> None:
    pair = grids("LAS")
    path = fnirt(tmp_path / "coefficients.nii.gz", *pair, False, intent)
    with pytest.raises(MaxcaError, match=r"coefficients\.nii\.gz: coefficients of FNIRT.*fnirtfileutils"):
        read_transform(path, images=pair)


def test_a_field_without_its_images_is_refused(tmp_path: Path) -> None:
    path = fnirt(tmp_path / "field.nii.gz", *grids("LAS"), False)
    with pytest.raises(MaxcaError, match=r"field\.nii\.gz: .*maxca transform convert"):
        read_transform(path)


def test_a_field_that_may_be_relative_or_absolute_is_refused(tmp_path: Path) -> None:
    fixed, moving = grids("LAS")
    half = mapped(to_fsl(fixed), nodes(fixed)) / 2  # as a displacement or as a position, it differs as much
    image = nib.Nifti1Image(half.astype(np.float32), fixed.affine)
    image.header["intent_code"] = 2006
    nib.save(image, tmp_path / "field.nii.gz")
    with pytest.raises(MaxcaError, match=r"field\.nii\.gz: whether .* relative or absolute"):
        read_transform(tmp_path / "field.nii.gz", images=(fixed, moving))
