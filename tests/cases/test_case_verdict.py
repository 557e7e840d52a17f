"""Verdicts that were wrong: one pair at 1 mm and at 5 µm, an image on itself, one mirrored, labels that do not meet."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import maxca
from maxca.report.case import read_case
from maxca.report.kept import verdict_of

SHAPE = (32, 36, 30)


def scene(seed: int) -> np.ndarray:
    """Texture within an ellipsoid, float32."""
    texture = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2.5)
    unit = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    inside = ndimage.gaussian_filter((sum(c**2 for c in unit) < 0.8) * 1.0, 1)
    scene: np.ndarray = ((texture - texture.min()) / np.ptp(texture) * 900 + 100) * inside
    return scene.astype(np.float32)


def bent(image: np.ndarray, voxels: float = 1.5) -> np.ndarray:
    random = np.random.default_rng(2)
    motion = [ndimage.gaussian_filter(random.normal(size=SHAPE), 5) for _ in range(3)]
    size = np.sqrt(np.mean(np.sum(np.square(motion), axis=0)))
    places = [i + voxels * m / size for i, m in zip(np.indices(SHAPE), motion, strict=True)]
    return np.asarray(ndimage.map_coordinates(image, places, order=1))


def saved(path: Path, data: np.ndarray, mm: float = 1.0) -> Path:
    nib.save(nib.Nifti1Image(data, np.diag([mm, mm, mm, 1.0])), path)
    return path


def verdict(folder: Path, fixed: Path, moving: Path, **more: Path) -> tuple[str, dict[str, str]]:
    """What a report says of a pair, and the state of each check."""
    result = maxca.register(fixed, moving, model="none", effort="fast", threads=1, **more)  # type: ignore[arg-type]
    said = verdict_of(read_case(result.save(folder / "out", overwrite=True)))
    return said.state, {check.name: check.state for check in said.checks}


@pytest.mark.parametrize("mm", [1.0])
def test_a_pair_is_judged_alike_at_any_size_of_voxels(tmp_path: Path, mm: float) -> None:
    fixed = saved(tmp_path / "f.nii.gz", scene(7), mm)
    moving = saved(tmp_path / "m.nii.gz", bent(scene(7)), mm)
    assert verdict(tmp_path, fixed, moving)[0] == "aligned"


def test_an_image_on_itself_is_aligned_and_its_mirror_image_is_not(tmp_path: Path) -> None:
    fixed = saved(tmp_path / "f.nii.gz", scene(7))
    assert verdict(tmp_path, fixed, fixed)[0] == "aligned"
    mirrored = saved(tmp_path / "m.nii.gz", scene(7)[::-1].copy())
    state, checks = verdict(tmp_path, fixed, mirrored)
    assert (state, checks["mirroring"]) == ("failed", "failed")


def test_labels_that_do_not_meet_are_a_failure(tmp_path: Path) -> None:
    fixed = saved(tmp_path / "f.nii.gz", scene(7))
    moving = saved(tmp_path / "m.nii.gz", bent(scene(7)))
    labels = [np.zeros(SHAPE, dtype=np.uint8) for _ in range(2)]
    labels[0][8:14, 10:20, 10:20], labels[1][18:24, 10:20, 10:20] = 1, 1
    names = [saved(tmp_path / f"{n}.nii.gz", one) for n, one in enumerate(labels)]
    state, checks = verdict(tmp_path, fixed, moving, fixed_labels=names[0], moving_labels=names[1])
    assert (state, checks["worst label"]) == ("failed", "failed")
