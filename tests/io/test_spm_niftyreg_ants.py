"""Fields of SPM, NiftyReg and ANTs: made from the definition of each, read, and written as it defines them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from foreign import AFFINE, DIRECTIONS, bend, grids, images, inner_points, mapped, nodes, resampled, volume

from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io.transforms import read_transform, write_transform
from maxca.options import TransformTool
from maxca.registration.resampling import apply

kinds = pytest.mark.parametrize("kind", DIRECTIONS)
TOOLS: tuple[TransformTool, ...] = ("spm", "niftyreg")
FLAT = Grid((20, 18, 1), np.array([[-1.5, 0, 0, 14], [0, -2.0, 0, 17], [0, 0, 1, 0], [0, 0, 0, 1]]))


def stored(path: Path, vectors: np.ndarray, grid: Grid, **header: Any) -> Path:
    image = nib.Nifti1Image(vectors[:, :, :, None].astype(np.float32), grid.affine)
    image.set_sform(grid.affine, 1)
    image.set_qform(grid.affine, 1)
    image.header["intent_code"] = 1007
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def spm(path: Path, grid: Grid) -> Path:
    """``y_*.nii``: for each voxel of the fixed image the position in the moving one, RAS mm."""
    return stored(path, bend(nodes(grid)), grid, intent_name=b"Mapping", descrip=b"Deformation")


def niftyreg(path: Path, grid: Grid, displacements: bool = True) -> Path:
    """reg_f3d's field: RAS mm, displacements (p1 1) or positions (p1 0)."""
    vectors = bend(nodes(grid)) - nodes(grid) if displacements else bend(nodes(grid))
    return stored(path, vectors, grid, intent_name=b"NREG_TRANS", intent_p1=float(displacements))


def chain_on(grid: Grid) -> Chain:
    displacement = np.moveaxis(bend(nodes(grid)) - nodes(grid), -1, 0)
    return Chain((DenseField(torch.from_numpy(np.ascontiguousarray(displacement, np.float32)), grid),))


@pytest.mark.parametrize("made", [spm, niftyreg, lambda path, grid: niftyreg(path, grid, False)])
@kinds
def test_a_field_maps_points_and_images(kind: str, made: Any, tmp_path: Path) -> None:
    fixed, moving = grids(kind, "LAS")
    path = made(tmp_path / "field.nii.gz", fixed)
    at = inner_points(fixed)
    np.testing.assert_allclose(read_transform(path).map_points(at), bend(at), atol=1e-3)
    files = images(tmp_path, kind, "LAS")
    warped = apply(files[1], files[0], path, "linear", fill=0.0).data
    expected = resampled(volume(moving), moving, bend(nodes(fixed)))
    inside = np.isfinite(expected)
    np.testing.assert_allclose(warped[inside], expected[inside], atol=1e-3)


@pytest.mark.parametrize("tool", TOOLS)
@kinds
def test_a_field_is_written_as_the_tool_stores_it(kind: str, tool: TransformTool, tmp_path: Path) -> None:
    fixed, _ = grids(kind)
    theirs = nib.load((spm if tool == "spm" else niftyreg)(tmp_path / "theirs.nii.gz", fixed))
    write_transform(chain_on(fixed), tmp_path / "ours.nii.gz", tool=tool)
    ours = nib.load(tmp_path / "ours.nii.gz")
    np.testing.assert_allclose(ours.get_fdata(), theirs.get_fdata(), atol=1e-3)
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-5)
    for name in ("intent_code", "intent_name", "intent_p1"):
        assert ours.header[name] == theirs.header[name]


def test_an_affine_and_a_field_are_written_as_one_field(tmp_path: Path) -> None:
    fixed, _ = grids("oblique")
    chain = Chain((*chain_on(fixed).steps, Affine(AFFINE)))
    at = inner_points(fixed)
    for tool in TOOLS:
        write_transform(chain, tmp_path / f"{tool}.nii", tool=tool)
        np.testing.assert_allclose(
            read_transform(tmp_path / f"{tool}.nii").map_points(at), mapped(AFFINE, bend(at)), atol=1e-3
        )


def test_an_affine_of_niftyreg_is_a_matrix_in_ras(tmp_path: Path) -> None:
    write_transform(Chain((Affine(AFFINE),)), tmp_path / "affine.txt", tool="niftyreg")
    np.testing.assert_allclose(np.loadtxt(tmp_path / "affine.txt"), AFFINE, atol=1e-9)
    np.testing.assert_allclose(read_transform(tmp_path / "affine.txt", "ras").as_affine().matrix, AFFINE, atol=1e-9)


def test_a_field_of_niftyreg_in_the_plane_has_two_components(tmp_path: Path) -> None:
    vectors = np.zeros((3, *FLAT.shape), np.float32)
    vectors[:2] = np.random.default_rng(0).normal(size=(2, *FLAT.shape))
    chain = Chain((DenseField(torch.from_numpy(vectors), FLAT),), 2)
    write_transform(chain, tmp_path / "flat.nii.gz", tool="niftyreg")
    image = nib.load(tmp_path / "flat.nii.gz")
    assert image.shape == (*FLAT.shape, 1, 2)
    np.testing.assert_allclose(image.get_fdata()[:, :, 0, 0], np.moveaxis(vectors[:2, :, :, 0], 0, -1), atol=1e-6)
    back = read_transform(tmp_path / "flat.nii.gz")
    assert back.dimension == 2
    at = nodes(FLAT)[1:-1, 1:-1].reshape(-1, 3)
    np.testing.assert_allclose(back.map_points(at), chain.map_points(at), atol=1e-4)


# ANTs: a pair of files


@kinds
@pytest.mark.parametrize("affine_first", [False, True])
def test_a_pair_of_ants_resamples_as_ants_does(kind: str, affine_first: bool, tmp_path: Path) -> None:
    ants = pytest.importorskip("ants")
    fixed, _ = grids(kind, "LAS")
    field, affine = chain_on(fixed).steps[0], Affine(AFFINE)
    chain = Chain((affine, field) if affine_first else (field, affine))
    write_transform(chain, tmp_path / "sub-1_", grid=fixed, tool="ants")
    pair = [str(tmp_path / f"sub-1_{name}") for name in ("1Warp.nii.gz", "0GenericAffine.mat")]
    files = images(tmp_path, kind, "LAS")
    theirs = ants.apply_transforms(
        *(ants.image_read(str(path)) for path in files), pair, interpolator="linear", defaultvalue=-9
    ).numpy()
    ours = apply(files[1], files[0], [Path(path) for path in pair], "linear", fill=-9.0).data
    whole = apply(files[1], files[0], chain, "linear", fill=-9.0).data
    inside = (theirs >= 0) & (ours >= 0) & (whole >= 0)
    assert inside.mean() > 0.3
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=1e-3)
    at = nodes(fixed)[3:-3, 3:-3, 3:-3].reshape(-1, 3)
    mapped_by_pair = Chain(tuple(step for path in pair for step in read_transform(path).steps)).map_points(at)
    np.testing.assert_allclose(mapped_by_pair, chain.map_points(at), atol=1e-3)


def test_an_affine_alone_is_written_for_ants_without_a_field(tmp_path: Path) -> None:
    write_transform(Chain((Affine(AFFINE),)), tmp_path / "sub-1_", tool="ants")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sub-1_0GenericAffine.mat"]
    backwards = read_transform(f"[{tmp_path}/sub-1_0GenericAffine.mat,1]")
    np.testing.assert_allclose(backwards.as_affine().matrix, np.linalg.inv(AFFINE), atol=1e-9)


def test_a_pair_of_ants_in_the_plane_is_read_by_ants(tmp_path: Path) -> None:
    ants = pytest.importorskip("ants")
    vectors = np.zeros((3, *FLAT.shape), np.float32)
    x, y, _ = np.moveaxis(nodes(FLAT), -1, 0)
    vectors[0], vectors[1] = np.sin(y / 5), np.cos(x / 6)
    turn = np.eye(4)
    turn[:2, :2], turn[:2, 3] = [[0.96, -0.1], [0.1, 0.98]], (1.5, -2)
    chain = Chain((DenseField(torch.from_numpy(vectors), FLAT), Affine(turn)), 2)
    write_transform(chain, tmp_path / "flat_", tool="ants")
    image = ants.from_numpy(volume(FLAT)[:, :, 0], origin=(-14.0, -17.0), spacing=(1.5, 2.0))
    pair = [str(tmp_path / f"flat_{name}") for name in ("1Warp.nii.gz", "0GenericAffine.mat")]
    theirs = ants.apply_transforms(image, image, pair, interpolator="linear", defaultvalue=-9).numpy()
    moved = mapped(turn, nodes(FLAT) + np.moveaxis(vectors, 0, -1))
    expected = resampled(volume(FLAT), FLAT, moved * [1, 1, 0])[:, :, 0]
    inside = (theirs >= 0) & np.isfinite(expected)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(theirs[inside], expected[inside], atol=1e-3)


# What cannot be written


@pytest.mark.parametrize(
    ("name", "tool", "reason"),
    [
        ("a.mat", "spm", r"a transform of spm ends in one of \.nii, \.nii\.gz"),
        ("a.lta", None, r"this format of freesurfer stores an affine transform only"),
        ("a.mat", "fsl", r"stores an affine transform only; write the file as \.nii, \.nii\.gz to keep the field"),
        ("a.nii.gz", "fsl", "depends on both images; pass fixed=FILE and moving=FILE"),
        ("a.nii.gz", "afni", "depends on both images; pass fixed=FILE and moving=FILE"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_by_name(
    name: str, tool: TransformTool | None, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(MaxcaError, match=rf"{name}: .*{reason}"):
        write_transform(chain_on(grids("RAS")[0]), tmp_path / name, tool=tool)
    assert not list(tmp_path.iterdir())


def test_an_affine_without_a_grid_is_no_field(tmp_path: Path) -> None:
    with pytest.raises(MaxcaError, match=r"y_a\.nii: an affine has no grid.*reference=FILE"):
        write_transform(Chain((Affine(AFFINE),)), tmp_path / "y_a.nii", tool="spm")
