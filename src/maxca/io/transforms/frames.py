"""Transforms between coordinates that depend on an image, as in FSL and AFNI, converted from and to world space.

A frame is the (4, 4) matrix from world space, RAS+ mm, to such coordinates; each of the two images has its own.
"""

from __future__ import annotations

import numpy as np
import torch

from maxca.geometry import Affine, Chain, DenseField, Grid

Frames = tuple[np.ndarray, np.ndarray]  # of the fixed and of the moving image


def affine_between(matrix: np.ndarray, frames: Frames) -> Affine:
    """The affine, fixed → moving world points, of a (4, 4) matrix from the fixed to the moving frame.

    Raises:
        ValueError: for a matrix that is not finite, not affine or singular.
    """
    fixed, moving = frames
    return Affine(np.linalg.inv(moving) @ Affine(matrix).matrix @ fixed)


def matrix_between(affine: Affine, frames: Frames) -> np.ndarray:
    """The (4, 4) matrix from the fixed to the moving frame of an affine, fixed → moving world points."""
    fixed, moving = frames
    return moving @ affine.matrix @ np.linalg.inv(fixed)


def chain_between(vectors: np.ndarray, grid: Grid, frames: Frames) -> Chain:
    """The chain, fixed → moving world points, of displacements from the fixed to the moving frame.

    It is exact between the nodes as well, because both frames are affine. Outside the grid only the frames differ.

    Args:
        vectors: (I, J, K, 3), moving coordinates minus fixed coordinates.
        grid: of the nodes, in fixed world space.
        frames: of the two images.
    """
    fixed, moving = frames
    inside = vectors @ np.linalg.inv(fixed[:3, :3]).T
    displacement = np.ascontiguousarray(np.moveaxis(inside, -1, 0), dtype=np.float32)
    field, between = DenseField(torch.from_numpy(displacement), grid), np.linalg.inv(moving) @ fixed
    same = np.allclose(between @ np.append(grid.corners.T, np.ones((1, 8)), axis=0), [*grid.corners.T, np.ones(8)])
    return Chain((field,) if same else (field, Affine(between)))


def vectors_between(chain: Chain, grid: Grid, frames: Frames) -> np.ndarray:
    """Displacements (I, J, K, 3) from the fixed to the moving frame at the nodes of a grid in fixed space, float64."""
    fixed, moving = frames
    nodes = node_positions(grid)
    moved = nodes + np.moveaxis(chain.field_on(grid).displacement.double().cpu().numpy(), 0, -1)
    return mapped(moving, moved) - mapped(fixed, nodes)


def node_positions(grid: Grid) -> np.ndarray:
    """World positions (I, J, K, 3) of the nodes of a grid, in mm."""
    return grid.to_world(np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1))


def mapped(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (…, 3) through a (4, 4) matrix."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]
