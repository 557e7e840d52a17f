"""X5: what nitransforms writes is read, and what is written it reads; anything else is refused within its limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
import torch
from foreign import AFFINE, DIRECTIONS, bend, grids, images, inner_points, mapped, nodes

from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io.transforms import read_transform, write_transform

kinds = pytest.mark.parametrize("kind", DIRECTIONS)


def field(grid: Grid) -> np.ndarray:
    """Displacements (I, J, K, 3) of ``bend``."""
    return (bend(nodes(grid)) - nodes(grid)).astype(np.float32)


def dense(grid: Grid) -> DenseField:
    return DenseField(torch.from_numpy(np.ascontiguousarray(np.moveaxis(field(grid), -1, 0))), grid)


@kinds
def test_what_nitransforms_writes_is_read(kind: str, tmp_path: Path) -> None:
    linear, nonlinear = (pytest.importorskip(f"nitransforms.{name}") for name in ("linear", "nonlinear"))
    manip, x5 = (pytest.importorskip(f"nitransforms.{name}") for name in ("manip", "io.x5"))
    fixed, _ = images(tmp_path, kind)
    grid = grids(kind)[0]
    at = inner_points(grid)
    affine = linear.Affine(AFFINE, reference=fixed)
    affine.to_filename(tmp_path / "affine.x5", fmt="X5")
    np.testing.assert_allclose(read_transform(tmp_path / "affine.x5").map_points(at), mapped(AFFINE, at), atol=1e-6)
    for name, values, deltas in (("d", field(grid), True), ("p", bend(nodes(grid)), False)):
        warp = nonlinear.DenseFieldTransform(nib.Nifti1Image(values, grid.affine), is_deltas=deltas)
        x5.to_filename(tmp_path / f"{name}.x5", [warp.to_x5()])
        np.testing.assert_allclose(read_transform(tmp_path / f"{name}.x5").map_points(at), bend(at), atol=1e-3)
    manip.TransformChain([warp, affine]).to_filename(tmp_path / "chain.x5", fmt="X5")
    chain = read_transform(tmp_path / "chain.x5")
    np.testing.assert_allclose(chain.map_points(at), mapped(AFFINE, bend(at)), atol=1e-3)


@pytest.mark.parametrize("suffix", [".x5", ".h5"])
@kinds
def test_what_is_written_nitransforms_reads(kind: str, suffix: str, tmp_path: Path) -> None:
    x5 = pytest.importorskip("nitransforms.io.x5")
    grid = grids(kind)[0]
    path = tmp_path / f"chain{suffix}"
    chain = Chain((dense(grid), Affine(AFFINE)))
    write_transform(chain, path, tool="x5")
    warp, affine = x5.from_filename(path)
    assert (warp.type, warp.representation, affine.type) == ("nonlinear", "displacements", "linear")
    np.testing.assert_allclose(warp.transform, field(grid), atol=1e-5)
    np.testing.assert_allclose(warp.domain.mapping, grid.affine)
    np.testing.assert_allclose(affine.transform, AFFINE)
    at = inner_points(grid)
    np.testing.assert_allclose(read_transform(path).map_points(at), mapped(AFFINE, bend(at)), atol=1e-3)


def written(path: Path, change: Any) -> Path:
    """A file of one field as X5 defines it, without a checksum, changed."""
    grid = grids("LPS")[0]
    with h5py.File(path, "w") as file:
        file.attrs["Format"] = "X5"
        group = file.create_group("TransformGroup/0")
        group.attrs["Type"], group.attrs["Representation"] = "nonlinear", "displacements"
        group["Transform"] = field(grid)
        group["Domain/Size"], group["Domain/Mapping"] = np.array(grid.shape), grid.affine
        change(file)
    return path


def put(name: str, value: Any) -> Any:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = value

    return change


def elsewhere(file: h5py.File) -> None:
    del file["TransformGroup/0/Transform"]
    file["TransformGroup/0/Transform"] = h5py.ExternalLink("secret.h5", "/data")


def sparse(file: h5py.File) -> None:
    del file["TransformGroup/0/Transform"]
    file["TransformGroup/0"].create_dataset("Transform", (20000, 20000, 2000, 3), "f8", chunks=(100, 100, 100, 3))


def spline(file: h5py.File) -> None:
    file["TransformGroup/0"].attrs["Representation"] = "coefficients"


def two(file: h5py.File) -> None:
    file.copy("TransformGroup/0", file["TransformGroup"], "1")


def chained(file: h5py.File) -> None:
    file["TransformChain/0"] = "0/7"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (elsewhere, "is a link, which is not followed"),
        (sparse, "missing|claims"),
        (spline, "'coefficients' of X5, which is not supported"),
        (two, "2 transforms without a chain"),
        (chained, "names transforms that it does not hold"),
        (put("TransformGroup/0/Domain/Size", np.array([2, 2, 2])), "numbers on a grid of"),
        (put("TransformGroup/0/Domain/Size", np.array([2.5, 2, 2])), "not three integers"),
        (put("TransformGroup/0/Domain/Size", np.array([1 << 40, 1 << 40, 1 << 40])), "numbers on a grid of"),
        (put("TransformGroup/0/Domain/Mapping", np.zeros((4, 4))), "singular"),
        (put("TransformGroup/0/Transform", np.zeros((4, 4))), r"parameters of shape \(4, 4\)"),
        (put("TransformGroup/0/Transform", np.full((17, 15, 13, 3), np.nan)), "NaN"),
    ],
)
def test_another_content_is_refused(change: Any, reason: str, tmp_path: Path) -> None:
    path = written(tmp_path / "t.x5", change)
    with pytest.raises(MaxcaError, match=rf"t\.x5: .*({reason})") as caught:
        read_transform(path)
    assert "\n" not in str(caught.value)


def test_an_unchanged_file_without_a_checksum_is_read(tmp_path: Path) -> None:
    at = inner_points(grids("LPS")[0])
    path = written(tmp_path / "t.x5", lambda file: None)
    np.testing.assert_allclose(read_transform(path).map_points(at), bend(at), atol=1e-3)
