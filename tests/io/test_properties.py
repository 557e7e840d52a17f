"""Whatever the grid or the transform, a file brings it back."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io.images import read, write
from maxca.io.transforms import read_transform, write_transform

quick = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**31)
angles = st.tuples(*[st.floats(-180, 180)] * 3)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Oblique, flipped and anisotropic, anywhere within a metre."""
    shape = draw(st.tuples(*[st.integers(2, 7)] * 3))
    spacing = np.array(draw(st.tuples(*[st.floats(0.2, 10)] * 3)))
    flips = np.array(draw(st.tuples(*[st.sampled_from([-1, 1])] * 3)))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", draw(angles), degrees=True).as_matrix() * spacing * flips
    affine[:3, 3] = draw(st.tuples(*[st.floats(-1000, 1000)] * 3))
    return Grid(shape, affine)


@st.composite
def affines(draw: st.DrawFn) -> Affine:
    matrix = np.eye(4)
    scales = np.array(draw(st.tuples(*[st.floats(0.5, 2)] * 3)))
    matrix[:3, :3] = Rotation.from_euler("xyz", draw(angles), degrees=True).as_matrix() * scales
    matrix[0, 1] += draw(st.floats(-0.2, 0.2))
    matrix[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    return Affine(matrix)


@st.composite
def fields(draw: st.DrawFn) -> DenseField:
    grid = draw(grids())
    generator = torch.Generator().manual_seed(draw(seeds))
    return DenseField(5 * torch.randn(3, *grid.shape, generator=generator), grid)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
@quick
@given(grid=grids(), dtype=st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32]), seed=seeds)
def test_an_image_keeps_voxels_type_and_place(suffix: str, grid: Grid, dtype: type, seed: int) -> None:
    data = np.random.default_rng(seed).uniform(0, 255, grid.shape).astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        write(data, grid, Path(folder) / f"image{suffix}")
        back = read(Path(folder) / f"image{suffix}")
    np.testing.assert_array_equal(back.data, data)
    assert back.dtype == dtype and not back.warnings
    assert back.grid.same_as(grid, tolerance=2e-3)


@pytest.mark.parametrize("suffix", [".h5", ".tfm", ".mat", ".txt"])
@quick
@given(affine=affines())
def test_an_affine_maps_points_as_before(suffix: str, affine: Affine) -> None:
    points = np.random.default_rng(0).uniform(-300, 300, (20, 3))
    np.testing.assert_allclose(
        through_file(Chain((affine,)), suffix).map_points(points), affine.map_points(points), atol=1e-6
    )


@pytest.mark.parametrize("suffix", [".h5", ".nii.gz"])
@quick
@given(field=fields())
def test_a_field_keeps_its_vectors_and_its_place(suffix: str, field: DenseField) -> None:
    (back,) = through_file(Chain((field,)), suffix).steps
    assert isinstance(back, DenseField)
    torch.testing.assert_close(back.displacement, field.displacement)
    assert back.grid.same_as(field.grid, tolerance=2e-3)


@quick
@given(steps=st.lists(st.one_of(affines(), fields()), max_size=4))
def test_a_composite_keeps_its_steps_in_order(steps: list[Affine | DenseField]) -> None:
    chain = Chain(tuple(steps))
    back = through_file(chain, ".h5")
    points = np.random.default_rng(0).uniform(-30, 30, (20, 3))
    if steps:
        assert [type(step) for step in back.steps] == [type(step) for step in steps]
    for ours, theirs in zip(steps, back.steps, strict=False):
        if isinstance(ours, Affine):
            np.testing.assert_allclose(theirs.map_points(points), ours.map_points(points), atol=1e-6)
        else:
            assert isinstance(theirs, DenseField)
            torch.testing.assert_close(theirs.displacement, ours.displacement)
            assert theirs.grid.same_as(ours.grid)


def through_file(chain: Chain, suffix: str) -> Chain:
    with tempfile.TemporaryDirectory() as folder:
        write_transform(chain, Path(folder) / f"transform{suffix}")
        return read_transform(Path(folder) / f"transform{suffix}")
