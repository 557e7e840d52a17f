"""The pieces of the networks, against the plain way to write them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity.reference_fuse import fuse
from torch import Tensor

from maxca.networks.correlation import CorrelationConv
from maxca.networks.parts import channels_last, halved, instance_norm


def gradients(out: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad((out * torch.linspace(-1, 2, out.numel()).view_as(out)).sum(), inputs)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_instance_norm_and_its_gradient_in_any_layout(batch: int, layout: torch.memory_format) -> None:
    # torch 2.13's own has a wrong gradient for one example whose gradient comes in channels-last
    x = torch.randn(batch, 6, 5, 8, 7).contiguous(memory_format=layout).requires_grad_()
    out = instance_norm(x)
    mean, var = x.mean((2, 3, 4), keepdim=True), x.var((2, 3, 4), keepdim=True, correction=0)
    plain = (x - mean) / (var + 1e-5).sqrt()
    torch.testing.assert_close(out, plain)
    weights = torch.randn(out.shape).contiguous(memory_format=layout)
    ours, theirs = (torch.autograd.grad((y * weights).sum(), x, retain_graph=True)[0] for y in (out, plain))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_halving_is_average_pooling(dtype: torch.dtype) -> None:
    x = torch.randn(2, 5, 4, 6, 8).to(dtype)
    expected = F.avg_pool3d(x.float(), 2)
    torch.testing.assert_close(
        halved(channels_last(x)).float(), expected, atol=2e-2 if x.itemsize == 2 else 1e-6, rtol=0
    )


@pytest.mark.parametrize("shape", [(1, 4, 5, 6, 7), (2, 3, 1, 1, 1), (1, 6, 2, 1, 9)])
def test_the_correlation_is_that_of_the_formula(shape: tuple[int, ...]) -> None:
    layer = CorrelationConv(shape[1], 5)
    a, b = (channels_last(torch.randn(shape)).requires_grad_() for _ in range(2))
    ours, plain = layer(a, b), fuse(layer, a, b)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-4)
    for one, other in zip(gradients(ours, a, b), gradients(plain, a, b), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
