"""Self-attention over voxels: in shifted windows (linear in the voxels), or over all of them (quadratic)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .layers import LayerNorm, cut_ends, pad_ends, to_whole
from .xca import as_region

MOST_TOKENS = 48**3  # of full attention: 10¹⁰ products per channel, minutes on a CPU


class Window(nn.Module):
    """A pair of Swin layers: attention within windows, then within windows shifted by half their size.

    Args:
        channels: C, in and out.
        heads: attention heads.
        window: voxels per window along each axis.
        expansion: hidden channels of the MLPs, as a multiple of C.

    Source: Liu et al., ICCV 2021, in three dimensions.
    """

    def __init__(self, channels: int, heads: int = 1, window: int | Sequence[int] = 5, expansion: float = 2.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [WindowLayer(channels, heads, window, shifted, expansion) for shifted in (False, True)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, I, J, K) → the same shape."""
        y = x.permute(0, 2, 3, 4, 1)
        for layer in self.layers:
            y = layer(y)
        return y.permute(0, 4, 1, 2, 3)


class WindowLayer(nn.Module):
    """y + attention(norm(y)) within windows, then + mlp(norm(·)); on (N, I, J, K, C)."""

    def __init__(self, channels: int, heads: int, window: int | Sequence[int], shifted: bool, expansion: float) -> None:
        super().__init__()
        self.window = as_region(window)
        self.shift = tuple(w // 2 if shifted else 0 for w in self.window)
        self.norm = LayerNorm(channels)
        self.attention = Attention(channels, heads)
        self.position = nn.Parameter(torch.zeros(heads, *(2 * w - 1 for w in self.window)))
        self.mlp = MLP(channels, expansion)
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, y: Tensor) -> Tensor:
        """(N, I, J, K, C) → the same shape."""
        shape = y.shape[1:4]
        # A window larger than the volume would contain mostly padding, and a shift would have no effect.
        shift = [0 if n <= w else s for n, w, s in zip(shape, self.window, self.shift, strict=True)]
        before = [(w - s) % w if s else 0 for w, s in zip(self.window, shift, strict=True)]
        after = to_whole([n + b for n, b in zip(shape, before, strict=True)], self.window)
        padded = pad_ends(F.pad(self.norm(y), (0, 0, before[2], 0, before[1], 0, before[0], 0)), after)
        i, j, k = self.window
        cut = "n (a i) (b j) (c k) x -> (n a b c) (i j k) x"
        tokens = rearrange(padded, cut, i=i, j=j, k=k)
        out = self.attention(tokens, self._bias(tokens, shape, before, after))
        counts = {name: n // w for name, n, w in zip("abc", padded.shape[1:4], self.window, strict=True)}
        whole = rearrange(out, "(n a b c) (i j k) x -> n (a i) (b j) (c k) x", i=i, j=j, k=k, **counts)
        return self.mlp(y + cut_ends(whole, shape, before))

    def _bias(self, tokens: Tensor, shape: Sequence[int], before: Sequence[int], after: Sequence[int]) -> Tensor:
        """Bias of the scores: relative position, and -inf at keys outside the volume; (1 or B, h, T, T)."""
        position = self._relative_position().to(tokens.dtype).unsqueeze(0)
        if not torch.compiler.is_compiling() and not any(before) and not any(after):
            return position
        real = tokens.new_ones(1, *shape, 1)
        real = pad_ends(F.pad(real, (0, 0, before[2], 0, before[1], 0, before[0], 0)), after)
        i, j, k = self.window
        keys = rearrange(real, "n (a i) (b j) (c k) x -> (n a b c) x 1 (i j k)", i=i, j=j, k=k)
        keys = keys.repeat(tokens.shape[0] // keys.shape[0], 1, 1, 1)
        return position.masked_fill(keys == 0, -torch.inf)

    def _relative_position(self) -> Tensor:
        """(h, T, T): the learnt bias of each relative position in a window."""
        index = []
        for w in self.window:
            place = torch.arange(w, device=self.position.device)
            index.append(place[:, None] - place[None, :] + w - 1)
        i, j, k = index
        table = self.position[
            :, i[:, None, None, :, None, None], j[None, :, None, None, :, None], k[None, None, :, None, None, :]
        ]
        return table.flatten(4, 6).flatten(1, 3)


class SelfAttention(nn.Module):
    """y + attention(norm(y)) over all voxels, then + mlp(norm(·)): quadratic in the number of voxels.

    Args:
        channels: C, in and out.
        heads: attention heads.
        most_tokens: largest number of voxels.
        expansion: hidden channels of the MLP, as a multiple of C.

    Raises:
        ValueError: for a volume of more than ``most_tokens`` voxels.

    Source: Vaswani et al., NeurIPS 2017; Dosovitskiy et al., ICLR 2021.
    """

    def __init__(self, channels: int, heads: int = 1, most_tokens: int = MOST_TOKENS, expansion: float = 2.0) -> None:
        super().__init__()
        self.most_tokens = most_tokens
        self.norm = LayerNorm(channels)
        self.attention = Attention(channels, heads)
        self.mlp = MLP(channels, expansion)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, I, J, K) → the same shape."""
        shape = x.shape[2:]
        voxels = prod(shape)
        if voxels > self.most_tokens:
            raise ValueError(
                f"full self-attention over {voxels} voxels is not allowed: its cost is quadratic; "
                f"most_tokens is {self.most_tokens}"
            )
        y = x.permute(0, 2, 3, 4, 1).flatten(1, 3)
        y = self.mlp(y + self.attention(self.norm(y), None))
        return y.unflatten(1, shape).permute(0, 4, 1, 2, 3)


class Attention(nn.Module):
    """Multi-head attention of (B, T, C) over T."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"{heads} heads do not divide {channels} channels")
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
        """(B, T, C) → (B, T, C); ``bias`` is added to the scores."""
        q, k, v = rearrange(self.qkv(tokens), "b t (three h d) -> three b h t d", three=3, h=self.heads)
        out = F.scaled_dot_product_attention(q, k, v, None if bias is None else bias.to(q.dtype))
        return self.project(rearrange(out, "b h t d -> b t (h d)"))


class MLP(nn.Module):
    """y + Linear(gelu(Linear(norm(y)))) over the last axis."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = max(1, round(expansion * channels))
        self.norm = LayerNorm(channels)
        self.expand = nn.Linear(channels, hidden)
        self.project = nn.Linear(hidden, channels)

    def forward(self, y: Tensor) -> Tensor:
        """(…, C) → (…, C)."""
        return y + self.project(F.gelu(self.expand(self.norm(y))))
