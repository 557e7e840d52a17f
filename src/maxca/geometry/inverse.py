"""Inverting a displacement field."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from maxca.geometry.warp import sample

PLAIN = (
    10  # iterations after which nearly all points have converged; the rest, in strong compression, need Newton steps
)
NUDGE = 0.05  # voxels: step of the finite differences of the displacement


def invert_displacement(
    displacement: Float[Tensor, "1 3 i j k"],
    points: Float[Tensor, "1 3 n"],
    guess: Float[Tensor, "1 3 n"],
    tolerance: float,
    iterations: int,
) -> tuple[Float[Tensor, "1 3 n"], Float[Tensor, " n"]]:
    """Find v with v(y) = -d(y + v(y)) at given points.

    Fixed-point iteration, then Newton's method where convergence is slow. A step that increases the error is undone
    and halved. Only points that have not converged take part in the next iteration.

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
