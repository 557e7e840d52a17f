"""AFNI's .1D matrices and 3dQwarp fields: LPS mm, base to source, between images whose obliquity is dropped."""

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

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
pairs = pytest.mark.parametrize(("kind", "other"), [(kind, None) for kind in DIRECTIONS] + [("RAS", "oblique LAS")])


def dropped(grid: Grid) -> np.ndarray:
    """World to AFNI's coordinates: the first voxel stays, and each axis turns to the nearest one of the patient."""
    axes = np.zeros((3, 3))
    for axis, column in enumerate(grid.affine[:3, :3].T):
        nearest = np.argmax(np.abs(column))
        axes[nearest, axis] = np.sign(column[nearest]) * np.linalg.norm(column)
    card = grid.affine.copy()
    card[:3, :3] = axes
    return LPS @ card @ np.linalg.inv(grid.affine)


@pairs
def test_a_matrix_maps_points_as_afni_defines(kind: str, other: str | None, tmp_path: Path) -> None:
    fixed, moving = grids(kind, other)
    numbers = (dropped(moving) @ AFFINE @ np.linalg.inv(dropped(fixed)))[:3]
    one = " ".join(f"{number:.9f}" for number in numbers.ravel())
    (tmp_path / "a.aff12.1D").write_text(f"# 3dAllineate matrices (DICOM-to-DICOM, row-by-row):\n   {one}\n")
    np.savetxt(tmp_path / "b.1D", numbers, fmt="%.9f")
    for name in ("a.aff12.1D", "b.1D"):
        chain = read_transform(tmp_path / name, images=(fixed, moving))
        np.testing.assert_allclose(chain.map_points(nodes(fixed)), mapped(AFFINE, nodes(fixed)), atol=1e-5)


@pairs
def test_what_nitransforms_writes_is_read_and_written(kind: str, other: str | None, tmp_path: Path) -> None:
    linear = pytest.importorskip("nitransforms.linear")
    fixed, moving = images(tmp_path, kind, other)
    linear.Affine(AFFINE, reference=fixed).to_filename(tmp_path / "theirs.1D", fmt="afni", moving=moving)
    known = grids_of(fixed, moving)
    at = inner_points(known[0])
    theirs = read_transform(tmp_path / "theirs.1D", images=known)
    np.testing.assert_allclose(theirs.map_points(at), mapped(AFFINE, at), atol=5e-3)  # it writes six digits
    write_transform(Chain((Affine(AFFINE),)), tmp_path / "ours.aff12.1D", images=known)
    numbers = np.loadtxt(tmp_path / "ours.aff12.1D")
    np.testing.assert_allclose(numbers, np.loadtxt(tmp_path / "theirs.1D"), atol=1e-4)


def qwarp(path: Path, fixed: Grid, moving: Grid) -> Path:
    """A field of the map ``bend`` as 3dQwarp stores it, with AFNI's extension."""
    vectors = mapped(dropped(moving), bend(nodes(fixed))) - mapped(dropped(fixed), nodes(fixed))
    image = nib.Nifti1Image(vectors[:, :, :, None].astype(np.float32), fixed.affine)
    image.set_sform(fixed.affine, 1)
    image.set_qform(fixed.affine, 1)
    image.header.extensions.append(nib.nifti1.Nifti1Extension(4, b"<?xml version='1.0' ?><AFNI_attributes/>"))
    nib.save(image, path)
    return path


@pairs
def test_a_warp_maps_points_and_images(kind: str, other: str | None, tmp_path: Path) -> None:
    fixed, moving = grids(kind, other)
    path = qwarp(tmp_path / "a_WARP.nii.gz", fixed, moving)
    at = inner_points(fixed)
    np.testing.assert_allclose(read_transform(path, images=(fixed, moving)).map_points(at), bend(at), atol=1e-3)
    files = images(tmp_path, kind, other)
    warped = apply(files[1], files[0], path, "linear", fill=0.0).data
    expected = resampled(volume(moving), moving, bend(nodes(fixed)))
    inside = np.isfinite(expected)
    np.testing.assert_allclose(warped[inside], expected[inside], atol=1e-3)


@pairs
def test_a_warp_written_for_afni_is_the_one_it_would_store(kind: str, other: str | None, tmp_path: Path) -> None:
    fixed, moving = grids(kind, other)
    chain = read_transform(qwarp(tmp_path / "theirs.nii.gz", fixed, moving), images=(fixed, moving))
    write_transform(chain, tmp_path / "ours.nii.gz", tool="afni", images=(fixed, moving))
    theirs, ours = (nib.load(tmp_path / f"{name}.nii.gz") for name in ("theirs", "ours"))
    np.testing.assert_allclose(ours.get_fdata(), theirs.get_fdata(), atol=1e-3)
    assert [extension.get_code() for extension in ours.header.extensions] == [4]


def test_a_warp_between_plumb_images_needs_none_of_them(tmp_path: Path) -> None:
    fixed, moving = grids("LPS")
    at = inner_points(fixed)
    path = qwarp(tmp_path / "a_WARP.nii.gz", fixed, moving)
    np.testing.assert_allclose(read_transform(path).map_points(at), bend(at), atol=1e-3)
    oblique = qwarp(tmp_path / "b_WARP.nii.gz", *grids("oblique"))
    with pytest.raises(MaxcaError, match=r"b_WARP\.nii\.gz: an oblique warp.*--fixed FIXED --moving MOVING"):
        read_transform(oblique)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("1 0 0 0 0 1 0 0 0 0 1 0\n" * 3, r"3 matrices of AFNI.*THIS_FILE\{0\}"),
        ("1 0 0 0 0 1 0 0 0 0 1\n", "truncated"),
        ("1 0 0 0\n0 1 0 0\n", "truncated"),
        ("", "truncated"),
        ("1 0 0 x 0 1 0 0 0 0 1 0", "not a number"),
        ("0 0 0 0 0 1 0 0 0 0 1 0", "singular"),
        ("1 0 0 nan 0 1 0 0 0 0 1 0", "finite"),
    ],
)
def test_another_file_is_refused(content: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.1D").write_text(f"{content}\n")
    with pytest.raises(MaxcaError, match=rf"a\.1D: .*{reason}"):
        read_transform(tmp_path / "a.1D", images=grids("LPS"))


def test_a_matrix_without_its_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.1D").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n")
    with pytest.raises(MaxcaError, match=r"a\.1D: .*--fixed FIXED --moving MOVING"):
        read_transform(tmp_path / "a.1D")


def test_one_matrix_of_a_series_is_selected_as_in_afni(tmp_path: Path) -> None:
    rows = [f"1 0 0 {-number} 0 1 0 {number} 0 0 1 2" for number in range(4)]
    (tmp_path / "a.aff12.1D").write_text("\n".join(["# 3dvolreg matrices (DICOM-to-DICOM, row-by-row):", *rows, ""]))
    pair = grids("LPS")
    for number in range(4):
        chain = read_transform(f"{tmp_path}/a.aff12.1D{{{number}}}", images=pair)
        np.testing.assert_allclose(chain.map_points(np.zeros(3)), [number, -number, 2], atol=1e-9)
    with pytest.raises(MaxcaError, match=r"a\.aff12\.1D\{4\}: it has 4 matrices"):
        read_transform(f"{tmp_path}/a.aff12.1D{{4}}", images=pair)
