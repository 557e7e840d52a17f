"""Cutting a volume into slabs changes how fast a block is, and nothing else."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from maxca.blocks import MAXCA, XCA
from maxca.blocks import _slabs as slabs
from maxca.blocks.channel import ResidualChannelAttention
from maxca.networks.correlation import CorrelationConv


class Alone(nn.Module):
    """The correlation of a volume with itself, turned round."""

    def __init__(self) -> None:
        super().__init__()
        self.fuse = CorrelationConv(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fuse(x, x.flip(2, 3))


MAKE = {
    "maxca": lambda: MAXCA(8, heads=2, region=(3, 4, 2)),
    "masked": lambda: MAXCA(8, heads=2, region=(3, 4, 2), mask_padding=True),
    "covariance": lambda: MAXCA(8, heads=2, region=(3, 4, 2), temperature=9, normalise=False),
    "regional": lambda: XCA(8, 2, 3, "within"),
    "dilated": lambda: XCA(8, 2, 3, "across"),
    "plain": lambda: XCA(8, 2),
    "channel": lambda: ResidualChannelAttention(8),
    "correlation": Alone,
}


def outcome(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """What a module makes of a volume, and all gradients."""
    x = x.clone().requires_grad_()
    module.zero_grad()
    out = module(x)
    (out * torch.linspace(-1, 1, out.numel(), dtype=x.dtype).view_as(out)).sum().backward()
    return [out, x.grad, *(p.grad.clone() for p in module.parameters())]


@pytest.mark.parametrize("shape", [(1, 8, 23, 6, 7), (2, 8, 13, 5, 4), (1, 8, 8, 3, 3), (1, 8, 9, 4, 4)])
@pytest.mark.parametrize("name", MAKE)
def test_slabs_give_what_the_whole_gives(name: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    module = MAKE[name]().double()
    x = torch.randn(shape, dtype=torch.float64)
    whole = outcome(module, x)
    cuts = []
    monkeypatch.setattr(slabs, "MOST_BYTES", 1)
    monkeypatch.setattr(slabs, "LEAST_PLANES", 2)
    monkeypatch.setattr(slabs, "Slab", lambda *a, kind=slabs.Slab: cuts.append(a) or kind(*a))
    in_slabs = outcome(module, x)
    assert len(cuts) > 2, "nothing was cut"
    for a, b in zip(whole, in_slabs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("count", [3, 4, 5, 8, 9, 29])
@pytest.mark.parametrize("multiple", [1, 3, 6])
def test_slabs_are_thick_enough_and_cover_the_volume_once(
    count: int, multiple: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slabs, "MOST_BYTES", 1)
    volume = torch.arange(float(count)).view(1, count, 1, 1, 1)
    cut = slabs.slabs(volume, context=2, widest=1, multiple=multiple)
    assert torch.equal(slabs.joined([slab.own(slab.piece) for slab in cut]), volume)
    for slab, following in pairwise(cut):
        assert slab.planes >= slabs.LEAST_PLANES
        assert slab.planes % multiple == 0
        assert slab.after == min(2, following.planes)
        assert following.before == 2
    assert cut[0].before == cut[-1].after == 0
    own = [slab.own(slab.piece) for slab in cut]
    for slab, again in zip(cut, slabs.in_context(own, 2), strict=True):
        assert torch.equal(slab.piece, again.piece)
        assert slab[1:] == again[1:]
