"""The convolution that blocks and networks are made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW = 20_480  # channels x I x J up to which torch (2.13) leaves a single example to a much slower path


class Conv3d(nn.Conv3d):
    """``nn.Conv3d`` that is as fast for one small volume on a CPU as for two.

    A small volume is cut into two overlapping halves, which go through as a batch: the same numbers on the fast path.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        same = self.kernel_size == (3, 3, 3) and self.stride == (1, 1, 1) and self.padding == (1, 1, 1)
        if input.device.type != "cpu" or len(input) != 1 or input[0, :, :, :, 0].numel() > FEW or not same:
            return super()._conv_forward(input, weight, bias)
        i = input.shape[2]
        half = (i + 1) // 2
        whole = F.pad(input, (0, 0, 0, 0, 1, 1 + 2 * half - i))
        halves = torch.cat([whole[:, :, : half + 2], whole[:, :, half:]])
        first, second = F.conv3d(halves, weight, bias, padding=(0, 1, 1)).chunk(2)
        return torch.cat([first, second[:, :, : i - half]], dim=2)
