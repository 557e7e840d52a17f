"""The MAXCA block as its formula reads: plain, slow, contiguous; parameters are those of ours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from maxca.blocks import MAXCA, XCA


def maxca(block: MAXCA, x: Tensor) -> Tensor:
    """x + RCAB(multi-axis XCA(x)) of (N, C, I, J, K)."""
    return x + channel_attention(block.channel, multi_axis(block.mix, x))


def multi_axis(mix: nn.Module, x: Tensor) -> Tensor:
    y = F.gelu(mix.expand(norm(mix.norm, last(x))))
    u, v = y.chunk(2, dim=-1)
    both = torch.cat([last(xca(mix.branches["dilated"], first(u))), last(xca(mix.branches["regional"], first(v)))], -1)
    return x + first(mix.merge(both))


def xca(layer: XCA, x: Tensor) -> Tensor:
    """One layer: within regions, or across them."""
    pad = [(-n) % r for n, r in zip(x.shape[2:], layer.region, strict=True)]
    s = F.pad(x, (0, pad[2], 0, pad[1], 0, pad[0]))
    q, k, v = conv(layer.qkv, first(norm(layer.norm, last(s)))).chunk(3, dim=1)
    sizes = dict(zip("ijk", layer.region, strict=True), h=layer.heads)
    groups = "n (a b c) h d (i j k)" if layer.tokens == "within" else "n (i j k) h d (a b c)"
    q, k, v = (rearrange(t, f"n (h d) (a i) (b j) (c k) -> {groups}", **sizes) for t in (q, k, v))
    q, k = (F.normalize(t, dim=-1) if layer.normalise else t / t.shape[-1] ** 0.5 for t in (q, k))
    attention = (layer.temperature * (q @ k.transpose(-2, -1))).softmax(dim=-1)
    counts = {name: n // r for name, n, r in zip("abc", s.shape[2:], layer.region, strict=True)}
    out = rearrange(attention @ v, f"{groups} -> n (a i) (b j) (c k) (h d)", **sizes, **counts)
    out = s + first(layer.project(out))
    return out[:, :, : x.shape[2], : x.shape[3], : x.shape[4]]


def channel_attention(block: nn.Module, z: Tensor) -> Tensor:
    y = conv(block.conv2, F.leaky_relu(conv(block.conv1, first(norm(block.norm, last(z)))), 0.2))
    gate = torch.sigmoid(block.gate.excite(F.relu(block.gate.squeeze(y.mean((2, 3, 4), keepdim=True)))))
    return z + y * gate


def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)


def conv(layer: nn.Conv3d, x: Tensor) -> Tensor:
    return F.conv3d(x.contiguous(), layer.weight, layer.bias, padding=1)


def last(x: Tensor) -> Tensor:
    return rearrange(x, "n c i j k -> n i j k c")


def first(x: Tensor) -> Tensor:
    return rearrange(x, "n i j k c -> n c i j k")


class Reference(nn.Module):
    """A MAXCA block computed the plain way, to time it or to put it into a network."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return maxca(self.block, x.contiguous())
