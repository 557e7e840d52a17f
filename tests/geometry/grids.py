"""Grids and fields that the geometry tests share, and SimpleITK's view of them, built by hand."""

import numpy as np
import SimpleITK as sitk
import torch

from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.geometry.warp import voxel_coordinates

FLIP = np.diag([-1.0, -1.0, 1.0])  # RAS <-> ITK's world, both ways


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    out = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        out = turn @ out
    return out


def grid(kind: str, shape: tuple[int, int, int] = (24, 20, 16), spacing: tuple[float, ...] = (1.5, 2.0, 2.5)) -> Grid:
    """A grid of one of ``KINDS``, its middle at (4, -3, 7) mm."""
    directions = {
        "RAS": np.eye(3),
        "LAS": np.diag([-1.0, 1.0, 1.0]),
        "LPS": FLIP,
        "ASR": np.array([[0, 0, 1.0], [1, 0, 0], [0, 1, 0]]),
        "oblique": rotation((20, -15, 35)),
        "oblique LAS": rotation((10, 25, -5)) @ np.diag([-1.0, 1.0, 1.0]),
    }
    affine = np.eye(4)
    affine[:3, :3] = directions[kind] * np.array(spacing)
    affine[:3, 3] = np.array([4, -3, 7]) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


KINDS = ("RAS", "LAS", "LPS", "ASR", "oblique", "oblique LAS")


def some_affine() -> Affine:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation((4, -6, 8)) @ np.diag([1.05, 0.95, 1.1]) + np.array(
        [[0, 0.04, 0], [0, 0, 0], [0.02, 0, 0]]
    )
    matrix[:3, 3] = (2.0, -1.5, 1.0)
    return Affine(matrix)


def smooth_field(where: Grid, amplitude: float = 2.0) -> DenseField:
    """A smooth diffeomorphism that is still at the border of the grid."""
    x = voxel_coordinates(where.shape)[0] / (torch.tensor(where.shape) - 1).clamp(min=1).view(3, 1, 1, 1)
    window = torch.ones(where.shape)
    for axis, n in enumerate(where.shape):
        if n > 1:
            window = window * torch.sin(torch.pi * x[axis]) ** 2
    waves = torch.stack([torch.sin(5 * x[1] + 1), torch.cos(4 * x[2]), torch.sin(4 * x[0] - 2 * x[1])])
    return DenseField(amplitude * window * waves, where)


def some_chain(where: Grid) -> Chain:
    return Chain((smooth_field(where), some_affine()))


def volume(where: Grid) -> np.ndarray:
    """A smooth image with structure along every axis, in 0…1."""
    noise = np.random.default_rng(3).random(where.shape)
    for axis, n in enumerate(where.shape):
        if n > 1:
            noise = (np.roll(noise, 1, axis) + noise + np.roll(noise, -1, axis)) / 3
    return noise.astype(np.float32)


def to_sitk(array: np.ndarray, where: Grid, vector: bool = False) -> sitk.Image:
    """(I, J, K), or (I, J, K, C) with ``vector``, as a SimpleITK image."""
    order = (2, 1, 0, 3) if vector else (2, 1, 0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(order)), isVector=vector)
    image.SetSpacing(where.spacing.tolist())
    image.SetOrigin((FLIP @ where.origin).tolist())
    image.SetDirection((FLIP @ where.direction).ravel().tolist())
    return image


def to_array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0)


def affine_to_sitk(affine: Affine) -> sitk.AffineTransform:
    out = sitk.AffineTransform(3)
    out.SetMatrix((FLIP @ affine.matrix[:3, :3] @ FLIP).ravel().tolist())
    out.SetTranslation((FLIP @ affine.matrix[:3, 3]).tolist())
    return out


def field_to_sitk(field: DenseField) -> sitk.DisplacementFieldTransform:
    vectors = field.displacement.permute(1, 2, 3, 0).double().numpy() @ FLIP
    return sitk.DisplacementFieldTransform(to_sitk(vectors, field.grid, vector=True))


def chain_to_sitk(chain: Chain) -> sitk.CompositeTransform:
    """ITK applies the transform that was added last first."""
    out = sitk.CompositeTransform(3)
    for step in reversed(chain.steps):
        out.AddTransform(affine_to_sitk(step) if isinstance(step, Affine) else field_to_sitk(step))
    return out


def map_with_sitk(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    return np.array([transform.TransformPoint(p.tolist()) for p in points @ FLIP]) @ FLIP
