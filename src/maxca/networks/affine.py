"""The affine predicted by a network together with its flow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maxca.blocks.layers import at_least_float32
from maxca.geometry.warp import voxel_coordinates


class AffineHead(nn.Module):
    """Twelve numbers from the means of the features, initially 0, the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, 12)
        nn.init.normal_(self.out.weight, std=1e-5)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, I, J, K) → (N, 3, 4), relative: see ``centred_matrix``."""
        means = features.mean(dim=(2, 3, 4))  # (N, C)
        return at_least_float32(self.out(torch.relu(self.hidden(means)))).unflatten(1, (3, 4))


def centred_matrix(linear: Tensor, shape: Sequence[int]) -> Tensor:
    """(N, 3, 4) from voxels to voxels of a grid.

    ``linear`` is the difference from the identity in coordinates with the origin at the centre of the grid and half its
    longest side as unit, so that it is independent of the level.
    """
    half = max(shape) / 2
    center = linear.new_tensor([(n - 1) / 2 for n in shape])
    matrix = linear[:, :, :3] + torch.eye(3, device=linear.device)
    shift = half * linear[:, :, 3] + center - matrix @ center
    return torch.cat([matrix, shift.unsqueeze(2)], dim=2)


def with_affine(flow: Tensor, linear: Tensor | None) -> Tensor:
    """The flow (N, 3, I, J, K) of the deformation, followed by the affine if there is one."""
    if linear is None:
        return flow
    matrix = centred_matrix(linear, flow.shape[2:])
    start = voxel_coordinates(tuple(flow.shape[2:]), flow.device)
    moved = (start + flow).flatten(2)  # (N, 3, IJK)
    there = matrix[:, :, :3] @ moved + matrix[:, :, 3:]
    return there.view_as(flow) - start
