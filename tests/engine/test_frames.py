"""Frames are aligned to a reference: known motion on any grid, in any contrast, with artefacts."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import phantoms
import pytest
import torch

from maxca.engine.frames import FrameAligner
from maxca.engine.volume import Volume, normalise
from maxca.geometry import Affine, Grid

sys.path.append(str(Path(__file__).parents[1] / "workflows"))

from movingseries import apart, frame, motions, rigid


def aligner(where: Grid, rigid: bool = True, similarity: str = "ncc", reference: Grid | None = None) -> FrameAligner:
    seen = reference or where
    values = normalise(torch.as_tensor(frame(seen, Affine.identity(), np.random.default_rng(1))))
    return FrameAligner(Volume(values, seen), where, rigid=rigid, similarity="cr" if similarity == "cr" else "ncc")


def standard(values: np.ndarray) -> torch.Tensor:
    tensor = torch.as_tensor(values.astype(np.float32))
    return (tensor - tensor.mean()) / tensor.std()


def oblique() -> Grid:
    where = phantoms.grid((2.5, 3.0, 3.5), flips="j")
    return Grid(where.shape, rigid((4, -3, 2), (20, -15, 30)).matrix @ where.affine)


@pytest.mark.parametrize("where", [phantoms.grid(), phantoms.grid((2, 2.5, 4), flips="ik"), oblique()], ids=str)
def test_known_motion_is_found_to_a_fraction_of_a_voxel(where: Grid) -> None:
    align = aligner(where)
    rng = np.random.default_rng(2)
    for truth in motions(5):
        fit = align(standard(frame(where, truth, rng)), [Affine.identity()])
        assert apart(fit.affine, truth, where) < 0.15
        assert fit.similarity > 0.98


def test_the_reference_may_be_on_another_grid() -> None:
    truth = rigid((3, -2, 1), (4, 2, -3))
    fit = aligner(phantoms.grid((3, 3, 3)), reference=oblique())(
        standard(frame(phantoms.grid((3, 3, 3)), truth)), [Affine.identity()]
    )
    assert apart(fit.affine, truth, phantoms.grid()) < 0.15


def test_an_affine_finds_scale_and_shear() -> None:
    truth = rigid((2, 1, -1), (2, -3, 1)) @ Affine(
        np.array([[1.03, 0.02, 0, 0], [0, 0.97, 0, 0], [0, 0, 1.01, 0], [0, 0, 0, 1]])
    )
    where = phantoms.grid()
    fit = aligner(where, rigid=False)(standard(frame(where, truth)), [Affine.identity()])
    assert apart(fit.affine, truth, where) < 0.15
    stiff = aligner(where)(standard(frame(where, truth)), [Affine.identity()])
    assert np.linalg.det(stiff.affine.matrix[:3, :3]) == pytest.approx(1, abs=1e-6)
    assert apart(stiff.affine, truth, where) > 0.15


def test_another_contrast_needs_the_correlation_ratio() -> None:
    where, truth = phantoms.grid(), rigid((3, -3, 2), (3, 4, -2))
    values = frame(where, truth)
    other = standard(np.where(values > 50, np.abs(values - 400) + 100, 0))  # dark where the reference is medium
    curved = aligner(where, similarity="cr")(other, [Affine.identity()])
    assert apart(curved.affine, truth, where) < 0.15
    assert curved.similarity > aligner(where)(other, [Affine.identity()]).similarity + 0.02


def test_a_slice_without_signal_and_a_wave_do_not_move_the_result() -> None:
    where, truth = phantoms.grid(), rigid((2, -2, 3), (-3, 2, 4))
    values = frame(where, truth, np.random.default_rng(3))
    dark = values.copy()
    dark[:, :, 12] *= 0.1
    wave = values + 40 * np.cos(np.tensordot([0.5, -0.3, 0.6], np.indices(where.shape), 1))
    align = aligner(where)
    for corrupted in (dark, wave):
        assert apart(align(standard(corrupted), [Affine.identity()]).affine, truth, where) < 0.15


def test_a_slice_moves_in_its_plane() -> None:
    where = phantoms.grid((1.5, 1.5, 66.0))
    assert where.shape[2] == 1
    truth = rigid((3, -2, 0), (0, 0, 5))
    found = aligner(where)(standard(frame(where, truth)), [Affine.identity()]).affine
    assert apart(found, truth, where) < 0.15
    np.testing.assert_allclose(found.matrix[2], [0, 0, 1, 0], atol=1e-9)


@pytest.mark.parametrize("unit", [1e-3, 1e2])
def test_the_unit_of_the_headers_changes_nothing(unit: float) -> None:
    where, truth = phantoms.grid(), rigid((2, 3, -1), (3, -2, 4))
    values = standard(frame(where, truth))
    scaled = Grid(where.shape, np.diag([unit, unit, unit, 1]) @ where.affine)
    plain = aligner(where)(values, [Affine.identity()]).affine
    reference = normalise(torch.as_tensor(frame(where, Affine.identity(), np.random.default_rng(1))))
    align = FrameAligner(Volume(reference, scaled), scaled, rigid=True, similarity="ncc")
    found = align(values, [Affine.identity()]).affine
    np.testing.assert_allclose(found.matrix[:3, :3], plain.matrix[:3, :3], atol=1e-5)
    np.testing.assert_allclose(found.matrix[:3, 3] / unit, plain.matrix[:3, 3], atol=1e-3)


def test_a_frame_that_was_moved_far_needs_one_of_the_starts() -> None:
    where, truth = phantoms.grid(), rigid((0, 0, 4), (0, 0, 60))
    near = rigid((0, 0, 0), (0, 0, 55))
    fit = aligner(where)(standard(frame(where, truth)), [Affine.identity(), near])
    assert apart(fit.affine, truth, where) < 0.15
