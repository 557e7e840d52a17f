"""Local correlation of two feature volumes."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def local_correlation(
    a: Float[Tensor, "n c i j k"], b: Float[Tensor, "n c i j k"], radius: int = 1
) -> Float[Tensor, "n shifts i j k"]:
    """Mean over the channels of a(x) · b(x + shift), for every shift of up to ``radius`` voxels along each axis.

    Args:
        a: features of one image.
        b: features of the other, taken to be 0 outside.
        radius: largest shift.

    Returns:
        (N, (2 · radius + 1)³, I, J, K), shifts in lexicographic order: along i slowest. Channels-last.
    """
    shape = a.shape[2:]
    a, b = a.permute(0, 2, 3, 4, 1), b.permute(0, 2, 3, 4, 1)
    b = F.pad(b, (0, 0, radius, radius, radius, radius, radius, radius))
    out = []
    for i, j, k in product(range(2 * radius + 1), repeat=3):
        shifted = b[:, i : i + shape[0], j : j + shape[1], k : k + shape[2]]
        out.append((a * shifted).mean(-1))
    return torch.stack(out, dim=-1).permute(0, 4, 1, 2, 3)
