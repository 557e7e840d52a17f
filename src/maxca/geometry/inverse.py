"""Inverting a displacement field."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from maxca import native
from maxca.geometry.warp import sample, transform_coordinates, voxel_coordinates

POINTS_AT_ONCE = 2_000_000  # bounds the memory of many points, whatever the size of the image
PLAIN = (
    10  # iterations after which nearly all points have converged; the rest, in strong compression, need Newton steps
)
NUDGE = 0.05  # voxels: step of the finite differences of the displacement


def invert_on_nodes(
    displacement: Float[Tensor, "1 3 i j k"],
    guess: Float[Tensor, "1 3 i j k"] | None,
    tolerance: float,
    iterations: int,
) -> tuple[Float[Tensor, "1 3 i j k"], Float[Tensor, " n"]]:
    """Find v with v(y) = -d(y + v(y)) at the nodes y of d.

    Args:
        displacement: d, in voxels, linear between nodes.
        guess: v to start from, if there is one.
        tolerance: voxels; a node has converged when its error is smaller.
        iterations: maximum number at a node.

    Returns:
        v, and |v(y) + d(y + v(y))| at each node, both in voxels.
    """
    if displacement.device.type == "cpu" and native.compiled() is not None:
        return _natively(displacement, guess, tolerance, iterations)
    return _by_torch(displacement, guess, tolerance, iterations)


def _natively(displacement: Tensor, guess: Tensor | None, tolerance: float, iterations: int) -> tuple[Tensor, Tensor]:
    """Newton's method node by node in C; what does not converge is tried again as on a GPU."""
    loops = native.compiled()
    assert loops is not None
    shape, threads = displacement.shape[2:], torch.get_num_threads()
    planes = displacement.float().contiguous()
    vectors = torch.empty(*shape, 4)
    inverse = torch.empty_like(planes) if guess is None else guess.float().clone(memory_format=torch.contiguous_format)
    residual = torch.empty(shape)
    voxels = residual.numel()

    def interleave(first: int, last: int) -> None:
        loops.maxca_interleave(planes.data_ptr(), vectors.data_ptr(), voxels, first, last)

    def invert(first: int, last: int) -> None:
        pointers = vectors.data_ptr(), inverse.data_ptr(), residual.data_ptr()
        loops.maxca_invert(*pointers, *shape, first, last, tolerance, iterations, guess is not None)

    native.in_ranges(voxels, threads, interleave)
    native.in_ranges(shape[0], threads, invert)
    residual = residual.flatten()
    left = torch.nonzero(residual > tolerance).flatten()
    if len(left):
        points = voxel_coordinates(shape).flatten(2)[:, :, left]
        again, error = invert_displacement(planes, points, torch.zeros_like(points), tolerance, iterations)
        better = error < residual[left]
        inverse.flatten(2)[:, :, left[better]] = again[:, :, better]
        residual[left[better]] = error[better]
    return inverse, residual


def _by_torch(displacement: Tensor, guess: Tensor | None, tolerance: float, iterations: int) -> tuple[Tensor, Tensor]:
    """All nodes at once; without a guess, every second node first: most others then need a single step."""
    shape, device = displacement.shape[2:], displacement.device
    index = voxel_coordinates(shape, device)
    if guess is None:
        steps = [2 if n > 4 else 1 for n in shape]
        sparse = voxel_coordinates(
            torch.Size(-(-(n - 1) // step) + 1 for n, step in zip(shape, steps, strict=True)), device
        )
        sparse = transform_coordinates(np.diag([*steps, 1.0]), sparse)
        found, _ = _settled(displacement, sparse, torch.zeros_like(sparse), tolerance, iterations)
        guess = sample(found, index / index.new_tensor(steps).view(1, 3, 1, 1, 1))
    return _settled(displacement, index, guess, tolerance, iterations)


def _settled(
    displacement: Tensor, index: Tensor, start: Tensor, tolerance: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """In blocks of points: the iteration keeps a dozen copies of them."""
    blocks = zip(index.flatten(2).split(POINTS_AT_ONCE, 2), start.flatten(2).split(POINTS_AT_ONCE, 2), strict=True)
    parts = [invert_displacement(displacement, points, there, tolerance, iterations) for points, there in blocks]
    return torch.cat([found for found, _ in parts], dim=2).view_as(index), torch.cat([error for _, error in parts])


def invert_displacement(
    displacement: Float[Tensor, "1 3 i j k"],
    points: Float[Tensor, "1 3 n"],
    guess: Float[Tensor, "1 3 n"],
    tolerance: float,
    iterations: int,
) -> tuple[Float[Tensor, "1 3 n"], Float[Tensor, " n"]]:
    """Find v with v(y) = -d(y + v(y)) at given points.

    Fixed-point iteration, then Newton's method where convergence is slow. A step that increases the error is undone
    and halved. Only points that have not converged take part in the next iteration. Source: Chen et al., Medical
    Physics 35(1), 2008.

    Args:
        displacement: d, in voxels of its own grid, linear between them.
        points: y, in voxels of that grid.
        guess: v to start from.
        tolerance: voxels; a point has converged when its error is smaller.
        iterations: maximum number.

    Returns:
        v, and |v(y) + d(y + v(y))| at each point, both in voxels.
    """
    inverse = guess.clone()
    residual = torch.full(points.shape[2:], torch.inf, device=points.device)
    active = torch.arange(points.shape[2], device=points.device)
    at, trial = points, guess
    best, error, step = guess, torch.zeros_like(guess), torch.ones_like(residual)
    for iteration in range(iterations):
        trial_error = trial + _look_up(displacement, at + trial)
        left = trial_error.square().sum(1)[0].sqrt()
        better = left < residual[active]
        residual[active] = torch.where(better, left, residual[active])
        best = torch.where(better, trial, best)
        error = torch.where(better, trial_error, error)
        step = torch.where(better, torch.ones_like(step), 0.5 * step)
        inverse[:, :, active] = best
        unsettled = residual[active] > tolerance
        if not unsettled.any():
            break
        active, step, at = active[unsettled], step[unsettled], at[:, :, unsettled]
        best, error = best[:, :, unsettled], error[:, :, unsettled]
        trial = best - step * (error if iteration < PLAIN else _newton(displacement, at + best, error))
    return inverse, residual


def _newton(displacement: Tensor, at: Tensor, error: Tensor) -> Tensor:
    """(I + ∇d)⁻¹ · error at points (1, 3, N)."""
    columns = []
    for axis in range(3):
        nudge = torch.zeros(1, 3, 1, device=at.device)
        nudge[0, axis] = NUDGE
        columns.append((_look_up(displacement, at + nudge) - _look_up(displacement, at - nudge))[0] / (2 * NUDGE))
    jacobian = torch.stack(columns, dim=-1).permute(1, 0, 2) + torch.eye(3, device=at.device)
    # A nearly singular Jacobian gives an unbounded step: regularise it by the smallest sufficient amount.
    jacobian = jacobian + 1e-4 * torch.eye(3, device=at.device)
    return torch.linalg.solve(jacobian, error[0].T.unsqueeze(-1)).squeeze(-1).T.unsqueeze(0)


def _look_up(displacement: Tensor, points: Tensor) -> Tensor:
    """Displacements (1, 3, N) at points (1, 3, N)."""
    return sample(displacement, points[:, :, :, None, None]).flatten(2)
