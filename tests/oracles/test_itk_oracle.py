"""What we write, SimpleITK and ANTs apply as we do; what they write, we apply as they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io.images import write
from maxca.io.itk import to_sitk
from maxca.io.transforms import read_transform, write_transform

FLIP = np.array([-1.0, -1.0, 1.0])
TURNED = Rotation.from_euler("xyz", (20, -15, 35), degrees=True).as_matrix()
DIRECTIONS = {
    "RAS": np.eye(3),
    "LAS": np.diag([-1.0, 1, 1]),
    "LPS": np.diag([-1.0, -1, 1]),
    "oblique": TURNED,
    "oblique, flipped": TURNED @ np.diag([1.0, -1, 1]),
    "permuted": np.array([[0, 0, 1.0], [-1, 0, 0], [0, 1, 0]]),
}
KINDS = [*DIRECTIONS]


def grid(kind: str, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Grid:
    """A grid whose middle is at (4, -3, 7) mm."""
    affine = np.eye(4)
    affine[:3, :3] = DIRECTIONS[kind] * spacing
    affine[:3, 3] = np.array([4, -3, 7]) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def fixed_grid(kind: str) -> Grid:
    return grid(kind, (22, 18, 12), (1.5, 2.0, 3.5))


def moving_grid(kind: str) -> Grid:
    """Of another orientation, shape and spacing than the fixed one."""
    return grid(KINDS[KINDS.index(kind) - 1], (30, 26, 28), (1.6, 1.8, 1.7))


def smooth(shape: tuple[int, ...], seed: int, sigma: float = 2.5) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return (noise / noise.std()).astype(np.float32)


def chain_on(fixed: Grid) -> Chain:
    """A field of a few mm, then an affine."""
    displacement = np.stack([1.5 * smooth(fixed.shape, seed) for seed in range(3)])
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", (3, -5, 4), degrees=True).as_matrix() * (1.04, 0.97, 1.02)
    matrix[0, 2] += 0.03
    matrix[:3, 3] = 1.5, -2.0, 1.0
    return Chain((DenseField(torch.from_numpy(displacement), fixed), Affine(matrix)))


def points_inside(fixed: Grid) -> np.ndarray:
    return fixed.to_world(np.random.default_rng(9).uniform(0.5, np.array(fixed.shape) - 1.5, (200, 3)))


def itk_points(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    return np.array([transform.TransformPoint(point.tolist()) for point in points * FLIP]) * FLIP


def ants_points(files: list[str], points: np.ndarray) -> np.ndarray:
    """Where ANTs puts points: it takes LPS, and the list that resamples moving onto fixed maps fixed to moving."""
    ants = pytest.importorskip("ants")
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(points * FLIP, columns=["x", "y", "z"])
    moved = ants.apply_transforms_to_points(3, table, files, whichtoinvert=[False] * len(files))
    return moved[["x", "y", "z"]].to_numpy() * FLIP


def assert_same_image(theirs: np.ndarray, ours: np.ndarray, away: np.ndarray) -> None:
    assert away.mean() > 0.3
    assert np.abs(theirs - ours)[away].max() <= 1e-3 * np.ptp(ours)


def away_from_border(chain: Chain, fixed: Grid, moving: Grid) -> np.ndarray:
    """Voxels of the fixed grid that the chain brings well into the moving one, and that are inside the fixed one."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in fixed.shape), indexing="ij"), axis=-1)
    there = moving.to_voxel(chain.map_points(fixed.to_world(index)))
    inside = (there > 1).all(axis=-1) & (there < np.array(moving.shape) - 2).all(axis=-1)
    return inside & (index > 0).all(axis=-1) & (index < np.array(fixed.shape) - 1).all(axis=-1)


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest) -> tuple[Grid, Grid, Chain]:
    fixed = fixed_grid(request.param)
    return fixed, moving_grid(request.param), chain_on(fixed)


def ours_warped(volume: np.ndarray, chain: Chain, moving: Grid, fixed: Grid) -> np.ndarray:
    return chain.resample(torch.from_numpy(volume)[None], moving, fixed)[0].numpy()


# What we write


def test_simpleitk_maps_points_as_we_do(case: tuple[Grid, Grid, Chain], tmp_path: Path) -> None:
    fixed, _, chain = case
    points = points_inside(fixed)
    write_transform(chain, tmp_path / "t.h5")
    theirs = itk_points(sitk.ReadTransform(str(tmp_path / "t.h5")), points)
    assert np.abs(theirs - chain.map_points(points)).max() <= 0.01
    assert np.abs(theirs - points).max() > 3
    write_transform(chain, tmp_path / "t.nii.gz")
    image = sitk.ReadImage(str(tmp_path / "t.nii.gz"), sitk.sitkVectorFloat64)
    flat = itk_points(sitk.DisplacementFieldTransform(image), points)
    assert np.abs(flat - chain.map_points(points)).max() <= 0.01


def test_simpleitk_resamples_as_we_do(case: tuple[Grid, Grid, Chain], tmp_path: Path) -> None:
    fixed, moving, chain = case
    volume = smooth(moving.shape, seed=5)
    write_transform(chain, tmp_path / "t.h5")
    transform = sitk.ReadTransform(str(tmp_path / "t.h5"))
    reference = to_sitk(np.zeros(fixed.shape, np.float32), fixed)
    theirs = sitk.GetArrayFromImage(sitk.Resample(to_sitk(volume, moving), reference, transform, sitk.sitkLinear)).T
    assert_same_image(theirs, ours_warped(volume, chain, moving, fixed), away_from_border(chain, fixed, moving))


@pytest.mark.parametrize("name", ["t.h5", "t.nii.gz"])
def test_ants_maps_points_as_we_do(case: tuple[Grid, Grid, Chain], tmp_path: Path, name: str) -> None:
    fixed, _, chain = case
    points = points_inside(fixed)
    write_transform(chain, tmp_path / name)
    theirs = ants_points([str(tmp_path / name)], points)
    assert np.abs(theirs - chain.map_points(points)).max() <= 0.01


@pytest.mark.parametrize("name", ["t.h5", "t.nii.gz"])
def test_ants_resamples_as_we_do(case: tuple[Grid, Grid, Chain], tmp_path: Path, name: str) -> None:
    ants = pytest.importorskip("ants")
    fixed, moving, chain = case
    volume = smooth(moving.shape, seed=5)
    write(volume, moving, tmp_path / "moving.nii.gz")
    write(np.zeros(fixed.shape, np.float32), fixed, tmp_path / "fixed.nii.gz")
    write_transform(chain, tmp_path / name)
    images = [ants.image_read(str(tmp_path / f"{which}.nii.gz")) for which in ("fixed", "moving")]
    theirs = ants.apply_transforms(*images, transformlist=[str(tmp_path / name)]).numpy()
    assert_same_image(theirs, ours_warped(volume, chain, moving, fixed), away_from_border(chain, fixed, moving))


def test_ants_reads_our_mat_and_txt(tmp_path: Path) -> None:
    affine = Chain(chain_on(fixed_grid("oblique")).steps[1:])
    points = points_inside(fixed_grid("oblique"))
    for name in ("t.mat", "t.txt", "t.tfm"):
        write_transform(affine, tmp_path / name)
        assert np.abs(ants_points([str(tmp_path / name)], points) - affine.map_points(points)).max() <= 0.001


# What they write


@pytest.mark.parametrize("kind", KINDS)
def test_we_map_points_as_simpleitk_does(kind: str, tmp_path: Path) -> None:
    fixed = fixed_grid(kind)
    points = points_inside(fixed)
    vectors = np.stack([smooth(fixed.shape[::-1], seed) for seed in range(3)], axis=-1).astype(np.float64)
    image = sitk.GetImageFromArray(vectors, isVector=True)
    image.CopyInformation(to_sitk(np.zeros(fixed.shape), fixed))
    sitk.WriteImage(sitk.Cast(image, sitk.sitkVectorFloat32), str(tmp_path / "field.nii.gz"))
    field = sitk.DisplacementFieldTransform(sitk.Image(image))
    euler = sitk.Euler3DTransform((10.0, -20.0, 30.0), 0.1, -0.2, 0.15, (1.0, 2.0, 3.0))
    composite = sitk.CompositeTransform([euler, field])
    sitk.WriteTransform(composite, str(tmp_path / "composite.h5"))
    sitk.WriteTransform(euler, str(tmp_path / "euler.tfm"))
    for name, theirs in (("field.nii.gz", field), ("composite.h5", composite), ("euler.tfm", euler)):
        ours = read_transform(tmp_path / name).map_points(points)
        assert np.abs(ours - itk_points(theirs, points)).max() <= 0.01, name


@pytest.fixture(scope="module")
def ants_pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A tiny pair on different oblique grids, registered by ANTs."""
    ants = pytest.importorskip("ants")
    folder = tmp_path_factory.mktemp("ants")
    fixed, moving = grid("oblique", (32, 30, 28), (1.5, 1.5, 1.8)), grid("LAS", (34, 32, 34), (1.5, 1.6, 1.5))
    for name, where, shift in (("fixed", fixed, 0.0), ("moving", moving, 2.0)):
        index = np.stack(np.meshgrid(*(np.arange(n) for n in where.shape), indexing="ij"), axis=-1)
        x, y, z = np.moveaxis(where.to_world(index) - (4 + shift, -3, 7), -1, 0)
        blob = np.exp(-((x / 12) ** 2 + (y / (10 + shift)) ** 2 + (z / 9) ** 2))
        # Waves within the blob only: with waves all over, ANTs, whose samples differ from run to run, ended elsewhere
        # each time, and one time in four with too little overlap to compare.
        blob *= 1 + 0.3 * np.sin(x / 5) * np.cos(y / 6)
        write(blob.astype(np.float32), where, folder / f"{name}.nii.gz")
    images = {name: ants.image_read(str(folder / f"{name}.nii.gz")) for name in ("fixed", "moving")}
    found = ants.registration(
        **images, type_of_transform="SyN", outprefix=str(folder / "out"), aff_iterations=(50, 20),
        aff_shrink_factors=(2, 1), aff_smoothing_sigmas=(1, 0), reg_iterations=(10, 5), random_seed=1,
    )  # fmt: skip
    named = {f"{name}_image": image for name, image in images.items()}
    return {"files": found["fwdtransforms"], "fixed": fixed, "moving": moving, **named}


def test_we_read_what_an_ants_registration_writes(ants_pair: dict[str, Any]) -> None:
    warp, affine = ants_pair["files"]
    assert warp.endswith("1Warp.nii.gz") and affine.endswith("0GenericAffine.mat")
    # ANTs lists the transforms in the order of its command line: the last one is meant to be the outermost.
    ours = read_transform(affine) @ read_transform(warp)
    points = points_inside(ants_pair["fixed"])
    theirs = ants_points([warp, affine], points)
    assert np.abs(theirs - points).max() > 0.5
    assert np.abs(ours.map_points(points) - theirs).max() <= 0.01


def test_we_resample_with_ants_transforms_as_ants_does(ants_pair: dict[str, Any]) -> None:
    ants = pytest.importorskip("ants")
    warp, affine = ants_pair["files"]
    chain = read_transform(affine) @ read_transform(warp)
    theirs = ants.apply_transforms(ants_pair["fixed_image"], ants_pair["moving_image"], [warp, affine]).numpy()
    fixed, moving = ants_pair["fixed"], ants_pair["moving"]
    ours = ours_warped(ants_pair["moving_image"].numpy(), chain, moving, fixed)
    assert_same_image(theirs, ours, away_from_border(chain, fixed, moving))
