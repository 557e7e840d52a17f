"""What a block of CorrMLP and CorrXCA begins with, as its formula reads: plain, slow, contiguous."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from parity.reference import Reference, conv
from torch import Tensor, nn


def fuse(layer: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    """conv(concat(a, local correlation, b))."""
    i, j, k = a.shape[2:]
    around = F.pad(b, (1, 1, 1, 1, 1, 1))
    shifted = [around[:, :, x : x + i, y : y + j, z : z + k] for x, y, z in product(range(3), repeat=3)]
    correlation = torch.stack([(a * other).mean(dim=1) for other in shifted], dim=1)
    return conv(layer.conv, torch.cat([a, correlation, b], dim=1))


class ReferenceFuse(Reference):
    """``CorrelationConv``, to put into a network."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return fuse(self.block, a.contiguous(), b.contiguous())
