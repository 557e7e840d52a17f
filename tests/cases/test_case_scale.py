"""A result does not depend on the unit of the headers: scaled or moved together, two images give the same in voxels."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

import maxca
from maxca.cli.main import main
from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io.form import Form
from maxca.io.images import Image
from maxca.report.case import read_case
from maxca.report.verdict.judge import judge

SHAPE = (26, 24, 22)
FACTORS = (1e-4, 2.0**-7, 0.3, 7.0, 1e3)
SPACINGS = {"isotropic": (1.0, 1.0, 1.0), "anisotropic": (1.0, 1.3, 2.5)}
SAME = 1e-3  # voxels, and of everything that has no unit
START = Chain((Affine.identity(),))  # no search for a start, which takes most of the time
QUICK: dict[str, Any] = {"effort": "fast", "threads": 1, "initial_transform": START}


@cache
def pair() -> tuple[np.ndarray, np.ndarray]:
    """A textured ball, and the same one bent by up to three voxels."""
    random = np.random.default_rng(7)
    texture = gaussian_filter(random.normal(size=SHAPE), 2)
    texture = (texture - texture.min()) / np.ptp(texture)
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    fixed = (texture * 900 + 100) * gaussian_filter((sum(x**2 for x in axes) < 0.7) * 1.0, 0.8)
    moved = [i + gaussian_filter(random.normal(size=SHAPE), 4) * 30 for i in np.indices(SHAPE)]
    return fixed.astype(np.float32), map_coordinates(fixed, moved, order=1).astype(np.float32)


def header(kind: str, factor: float, offset: float = 0.0) -> np.ndarray:
    """The matrix of a grid: oblique, its spacing times ``factor``, its origin ``offset`` voxels away."""
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", (0, 0, 0) if kind == "plane" else (10, -15, 20), degrees=True).as_matrix()
    affine[:3, :3] = turn * SPACINGS.get(kind, (1.0, 1.0, 1.0))
    affine[:3, 3] = np.array([-12.3, 7.1, 0.0 if kind == "plane" else 4.4]) + offset
    affine[:3] *= factor
    return affine


@dataclass(frozen=True)
class Counted:
    """What came out, in voxels and without unit."""

    motion: np.ndarray
    numbers: np.ndarray
    warped: np.ndarray
    warnings: list[str]


def register(kind: str, factor: float, offset: float = 0.0, **options: Any) -> Counted:
    affine = header(kind, factor, offset)
    plane = kind == "plane"
    arrays = [a[:, :, 11:12] if plane else a for a in pair()]
    grid = Grid(arrays[0].shape, affine)
    form = Form(dimension=2) if plane else Form()
    images = [Image(a, grid, form=form) for a in arrays]
    labels = [Image(((a > 300) + (a > 550)).astype(np.uint8), grid, form=form) for a in arrays]
    index = np.random.default_rng(1).uniform(8, 16, (6, 3)) * (1, 1, not plane)
    points = grid.to_world(index)
    result = maxca.register(
        images[0],
        images[1],
        fixed_labels=labels[0],
        moving_labels=labels[1],
        fixed_points=points,
        moving_points=points,
        **{"model": "none", **QUICK, **options},
    )
    metrics = result.metrics
    voxels = np.linalg.inv(affine[:3, :3])
    inside = tuple(slice(4, n - 4) if n > 1 else slice(None) for n in grid.shape)
    motion = result.chain.field_on(grid).displacement.double().numpy()[(slice(None), *inside)]
    smallest = grid.smallest_spacing
    numbers = [
        *(metrics.similarity.before, metrics.similarity.after),
        *(getattr(metrics, f"dice_{when}").mean for when in ("before", "after")),
        *(getattr(metrics, f"hd95_mm_{when}").mean / smallest for when in ("before", "after")),
        *(np.array(getattr(metrics, f"tre_mm_{when}").by_point) / smallest for when in ("before", "after")),
        metrics.folding.ndv_percent,
        metrics.inverse_consistency_mm.mean / smallest,
        metrics.inverse_residual_mm.mean / smallest,
    ]
    return Counted(
        np.einsum("ab,bijk->aijk", voxels, motion),
        np.concatenate([np.atleast_1d(n) for n in numbers]),
        result.warped.data,
        result.warnings,
    )


@cache
def once(kind: str, factor: float) -> Counted:
    return register(kind, factor)


def without_lengths(warnings: Sequence[str]) -> list[str]:
    """Warnings without their lengths in mm, which follow the scale."""
    return [re.sub(r"[-+.e\d]+ mm", "… mm", warning) for warning in warnings]


def check_same(one: Counted, other: Counted) -> None:
    np.testing.assert_allclose(other.motion, one.motion, atol=SAME)
    np.testing.assert_allclose(other.numbers, one.numbers, atol=SAME, rtol=SAME)
    assert np.abs(other.warped - one.warped).max() <= SAME * np.ptp(one.warped)
    assert without_lengths(other.warnings) == without_lengths(one.warnings)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("kind", ["anisotropic", "plane"])
def test_scaled_headers_change_nothing_that_is_counted_in_voxels(kind: str, factor: float) -> None:
    check_same(once(kind, 1.0), register(kind, factor))


@pytest.mark.parametrize(
    "options, factor",
    [
        ({"transform": "affine", "initial_transform": None}, 7.0),
        ({"transform": "rigid", "initial_transform": "center"}, 1e-4),
        ({"similarity": "mi"}, 0.3),
        ({"similarity": "mse"}, 7.0),
        ({"effort": "balanced"}, 1e-4),
    ],
    ids=lambda value: next(iter(value.values())) if isinstance(value, dict) else f"{value:g}",
)
def test_nor_does_any_setting(options: dict[str, Any], factor: float) -> None:
    check_same(register("isotropic", 1.0, **options), register("isotropic", factor, **options))


@pytest.mark.parametrize("offset", [300.0, -1e5])
def test_nor_does_the_origin_of_the_world(offset: float) -> None:
    check_same(once("anisotropic", 1.0), register("anisotropic", 1.0, offset))


def test_scaled_by_a_power_of_two_the_bits_are_the_same() -> None:
    one, other = once("anisotropic", 1.0), register("anisotropic", 2.0**-10)
    np.testing.assert_array_equal(other.motion, one.motion)
    np.testing.assert_array_equal(other.numbers, one.numbers)


@pytest.mark.parametrize("mm", [1.0, 0.005, 1e3])
def test_the_inverse_of_a_field_is_as_good_in_voxels(mm: float) -> None:
    random = np.random.default_rng(2)
    voxels = np.stack([gaussian_filter(random.normal(size=SHAPE), 4) * 30 for _ in range(3)]).astype(np.float32)
    field = DenseField(torch.as_tensor(voxels * np.float32(mm)), Grid(SHAPE, np.diag([mm, mm, mm, 1.0]))).faded()
    inverse, residual = field.inverse()
    points = random.uniform(7, 15, (300, 3)) * mm
    left = np.linalg.norm(field.map_points(inverse.map_points(points)) - points, axis=1) / mm
    assert left.mean() < 0.02 < 0.5 < np.abs(voxels).max()
    assert residual.mean <= 0.02 * mm


def test_an_inverse_written_for_itk_is_as_good_in_voxels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(2)
    voxels = np.stack([gaussian_filter(random.normal(size=SHAPE), 4) * 30 for _ in range(3)], axis=-1)
    for mm in (1.0, 0.005):

        def field(mm: float = mm) -> sitk.DisplacementFieldTransform:
            image = sitk.GetImageFromArray(voxels * mm, isVector=True)
            image.SetSpacing((mm,) * 3)
            return sitk.DisplacementFieldTransform(image)

        sitk.WriteTransform(field(), str(tmp_path / "f.h5"))
        words = ["transform", "invert", "-i", tmp_path / "f.h5", "-o", tmp_path / "b.h5", "--overwrite"]
        assert main([str(word) for word in words]) == 0
        back = sitk.ReadTransform(str(tmp_path / "b.h5"))
        points = random.uniform(7, 15, (100, 3)) * mm
        left = [np.subtract(field().TransformPoint(back.TransformPoint(p.tolist())), p) for p in points]
        assert np.linalg.norm(left, axis=1).mean() / mm < 0.02


def test_the_verdict_is_the_same_at_five_micrometres(tmp_path: Path) -> None:
    states, scores = [], []
    for mm in (1.0, 0.005):
        paths = []
        for name, array in zip(("f", "m"), pair(), strict=True):
            paths.append(tmp_path / f"{name}.nii.gz")
            nib.save(nib.Nifti1Image(array, np.diag([mm, mm, mm, 1.0])), paths[-1])
        out = tmp_path / f"out{mm}"
        words = ["register", "-f", paths[0], "-m", paths[1], "-o", out, "--effort", "fast", "--threads", 1, "-q"]
        assert main([str(word) for word in [*words, "--model", "none", "--report"]]) == 0
        record = json.loads((out / "result.json").read_text())
        scores.append([record["metrics"]["similarity"][when] for when in ("before", "after")])
        states.append(judge(read_case(out)).state)
    assert states[0] == states[1]
    np.testing.assert_allclose(scores[1], scores[0], atol=SAME)


@pytest.mark.parametrize("mm", [1e-4, 1.0, 1e3])
def test_a_mask_two_voxels_off_is_refused(mm: float) -> None:
    grid = Grid(SHAPE, np.diag([mm, mm, mm, 1.0]))
    affine = grid.affine.copy()
    affine[0, 3] = 2 * mm
    image, mask = Image(pair()[0], grid), Image(np.ones(SHAPE, np.uint8), Grid(SHAPE, affine))
    with pytest.raises(MaxcaError, match="grid"):
        maxca.register(image, image, fixed_mask=mask, threads=1)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_an_affine_between_units_is_no_singular_one(scale: float) -> None:
    back = Affine(np.diag([scale, scale, scale, 1.0])).inverse()[0]
    np.testing.assert_allclose(back.matrix, np.diag([1 / scale] * 3 + [1.0]))
    with pytest.raises(ValueError, match="singular"):
        Affine(np.diag([scale, scale, 0.0, 1.0]))


@pytest.mark.parametrize("name, factor", [("hippocampus", 1e-3), ("synth", 1e3)])
def test_a_model_of_another_scale_is_left_out_with_its_reason(name: str, factor: float) -> None:
    grid = Grid(SHAPE, header("isotropic", factor))
    fixed, moving = (Image(a, grid) for a in pair())
    result = maxca.register(fixed, moving, model=name, **QUICK)
    assert any(f"model {name} was not used: at its spacing" in warning for warning in result.warnings)
    assert result.record.inputs["model"].sha256
    auto = maxca.register(fixed, moving, **QUICK)
    assert auto.record.settings.model == "none"
    assert "its training images were" in auto.record.model_reason
    np.testing.assert_array_equal(auto.warped.data, result.warped.data)
