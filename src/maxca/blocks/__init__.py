"""Blocks: channels in, a shape-preserving module on (N, C, I, J, K) out.

This folder needs torch and einops alone: copy it into your own project. ``BLOCKS`` holds every variant under the name
that ``build_network(…, block=…)`` takes.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from .conv import Block, ConvBlock, Identity, matched
from .cost import Cost, cost
from .gmlp import GatedMLP
from .maxca import MAXCA
from .published import load_published
from .window import SelfAttention, Window
from .xca import XCA

BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "maxca": MAXCA,
    "regional": partial(MAXCA, axes=("regional",)),
    "dilated": partial(MAXCA, axes=("dilated",)),
    "xca": partial(MAXCA, axes=("plain",)),
    "window": Window,
    "self_attention": SelfAttention,
    "conv": ConvBlock,
    "gmlp": GatedMLP,
    "identity": Identity,
}

__all__ = [
    "BLOCKS",
    "MAXCA",
    "XCA",
    "Block",
    "ConvBlock",
    "Cost",
    "GatedMLP",
    "Identity",
    "SelfAttention",
    "Window",
    "cost",
    "load_published",
    "matched",
]
