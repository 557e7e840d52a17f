"""A pair of images with a known deformation: a template brain and a synthetically deformed copy.

The brain is the MNI152 template contained in the nilearn package, so nothing is downloaded. The *fixed* image is the
copy: it is sampled from the template through a known map, fixed world points → moving world points, the
direction of the transform that a registration returns. No inversion is needed: the true deformation is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io.images import Image

RESOLUTION = 2  # mm between the voxels of the template
TILT = (4.0, -3.0, 5.0)  # degrees around the axes of the world
SCALE = 1.03
SHIFT = (3.0, -4.0, 2.0)  # mm
WARP = 9.0  # mm, the largest velocity of the deformation
SMOOTHNESS = 14.0  # mm, σ of the smoothed noise
LATTICE = 3.0  # mm between its nodes
SQUARINGS = 7  # a velocity of 9 mm starts as steps of less than 0.1 mm
MARGIN = 12.0  # mm between the fields of view of template and copy
BRIGHTEST = 1000  # scanners store integers
NOISE = 0.02  # of the brightest
GAMMA = 0.75
BIAS, BIAS_REACH = 0.35, 45.0  # relative amplitude, and wavelength in mm
BIAS_NODES = 15.0  # mm


@dataclass(frozen=True, eq=False)
class DemoCase:
    """A pair of images with its true deformation.

    Args:
        fixed: the deformed copy, with bias field, changed contrast and noise.
        moving: the template.
        truth: fixed world points → moving world points.
        brain: (I, J, K) bool on the grid of ``fixed``.
    """

    fixed: Image
    moving: Image
    truth: Chain
    brain: np.ndarray


def make_case(seed: int = 0, resolution: int = RESOLUTION) -> DemoCase:
    """The template, a copy deformed by a known diffeomorphism, and this diffeomorphism.

    Args:
        seed: of the deformation, the bias field and the noise.
        resolution: spacing of the template in mm, an integer.
    """
    random = np.random.default_rng(seed)
    template, mask, grid = _template(resolution)
    copy_grid = _copy_grid(grid)
    truth = Chain((known_warp(copy_grid, random), _known_affine(grid.center)))
    sharp = truth.resample(torch.from_numpy(template)[None], grid, copy_grid, "bspline")[0].numpy()
    brain = truth.resample(torch.from_numpy(mask)[None], grid, copy_grid)[0].numpy() > 0.5
    scanned = _as_scanned(sharp, copy_grid, random)
    moving = Image(np.rint(template * BRIGHTEST).astype(np.int16), grid)
    return DemoCase(Image(scanned, copy_grid), moving, truth, brain)


def known_warp(grid: Grid, random: np.random.Generator) -> DenseField:
    """A smooth diffeomorphism: the exponential of Gaussian noise, by scaling and squaring.

    Args:
        grid: its domain in fixed world space; it decays to zero towards the borders.
        random: generator of the noise.

    Returns:
        The field, linear between nodes ``LATTICE`` mm apart.
    """
    lattice = grid.every([max(1, round(LATTICE / s)) for s in grid.spacing])
    sigma = SMOOTHNESS / lattice.spacing
    noise = random.standard_normal((3, *lattice.shape))
    fade = [int(np.ceil(1.5 * s)) for s in sigma]
    inner = np.pad(
        np.ones([max(1, n - 2 * f) for n, f in zip(lattice.shape, fade, strict=True)]), [(f, f) for f in fade]
    )
    velocity = np.stack([gaussian_filter(channel * inner, sigma, mode="constant") for channel in noise])
    velocity *= WARP / np.linalg.norm(velocity, axis=0).max()
    field = DenseField(torch.from_numpy(velocity / 2**SQUARINGS).float(), lattice)
    for _ in range(SQUARINGS):
        field = Chain((field, field)).field_on(lattice)
    return field


def true_error(case: DemoCase, chain: Chain) -> np.ndarray:
    """(I, J, K) registration error of ``chain`` at the voxels of the fixed image, in mm."""
    grid = case.fixed.grid
    wrong = chain.field_on(grid).displacement - case.truth.field_on(grid).displacement
    return wrong.norm(dim=0).numpy()


def _template(resolution: int) -> tuple[np.ndarray, np.ndarray, Grid]:
    """The MNI152 brain in [0, 1], its mask, both float32, and their grid."""
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    image: Any = load_mni152_template(resolution=resolution)
    mask: Any = load_mni152_brain_mask(resolution=resolution)
    brain = (mask.get_fdata() > 0.5).astype(np.float32)
    values = image.get_fdata(dtype=np.float32) * brain
    return np.clip(values / values.max(), 0, 1), brain, Grid(image.shape, image.affine)


def _copy_grid(grid: Grid) -> Grid:
    """A grid of another scanner over the same region: LAS, with thicker slices."""
    spacing = grid.spacing * (1.0, 1.0, 1.2)
    shape = np.ceil((np.array(grid.shape) * grid.spacing + MARGIN) / spacing).astype(int)
    affine = np.diag([-spacing[0], spacing[1], spacing[2], 1.0])
    affine[:3, 3] = grid.center - affine[:3, :3] @ ((shape - 1) / 2)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def _known_affine(center: np.ndarray) -> Affine:
    matrix = np.eye(4)
    matrix[:3, :3] = SCALE * Rotation.from_euler("xyz", TILT, degrees=True).as_matrix()
    matrix[:3, 3] = center + SHIFT - matrix[:3, :3] @ center
    return Affine(matrix)


def _as_scanned(values: np.ndarray, grid: Grid, random: np.random.Generator) -> np.ndarray:
    """Changed contrast, bias field and Rician noise; integers."""
    real, imaginary = NOISE * random.standard_normal((2, *grid.shape), dtype=np.float32)
    signal = np.clip(values, 0, 1) ** GAMMA * _bias(grid, random)
    return np.rint(BRIGHTEST * np.hypot(signal + real, imaginary)).astype(np.int16)


def _bias(grid: Grid, random: np.random.Generator) -> np.ndarray:
    """A smooth bias field around 1, interpolated from few nodes."""
    coarse = grid.every([max(1, round(BIAS_NODES / s)) for s in grid.spacing])
    waves = gaussian_filter(random.standard_normal(coarse.shape), BIAS_REACH / coarse.spacing, mode="reflect")
    waves *= BIAS / np.abs(waves).max()
    return 1 + Chain().resample(torch.from_numpy(waves).float()[None], coarse, grid)[0].numpy()
