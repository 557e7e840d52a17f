"""Cost of a block or a network: parameters and multiply-adds, counted by torch."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


class Cost(NamedTuple):
    """Parameters and multiply-adds of a module.

    Multiply-adds are those of convolutions and matrix products for one example; norms, activations and interpolation
    are not counted.
    """

    parameters: int
    multiply_adds: int
    voxels: int

    @property
    def multiply_adds_per_voxel(self) -> float:
        """Multiply-adds, divided by the voxels of the input."""
        return self.multiply_adds / self.voxels


def cost(module: nn.Module, *inputs: Tensor) -> Cost:
    """Count a module's parameters, and its multiply-adds for some inputs.

    Args:
        module: a block, called with one volume, or a network, called with two.
        inputs: (N, C, I, J, K).
    """
    ghost = copy.deepcopy(module).to("meta")  # meta tensors: any size takes no time
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ghost(*(x.to("meta") for x in inputs))
    batch, _, *shape = inputs[0].shape
    return Cost(
        parameters=sum(p.numel() for p in module.parameters()),
        multiply_adds=counter.get_total_flops() // 2 // batch,
        voxels=torch.Size(shape).numel(),
    )
