"""Blocks: channels in, a shape-preserving module on (N, C, I, J, K) out.

This folder needs torch and einops alone: copy it into your own project. ``BLOCKS`` holds every variant under the name
that ``build_network(…, block=…)`` takes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from torch import nn

from .conv import Block, ConvBlock, Identity, matched
from .cost import Cost, cost
from .gmlp import GatedMLP
from .maxca import MAXCA
from .published import load_published
from .window import SelfAttention, Window
from .xca import XCA


def conv_as(
    channels: int, to: str = "maxca", by: Literal["parameters", "multiply_adds"] = "parameters", **arguments: Any
) -> nn.Module:
    """A convolution block as large as another is; see ``matched``.

    Args:
        channels: C, in and out.
        to: the other's name in ``BLOCKS``.
        by: what to make equal.
        arguments: of the other.
    """
    return matched(partial(BLOCKS[to], **arguments), by)(channels)


BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "maxca": MAXCA,
    "regional": partial(MAXCA, axes=("regional",)),
    "dilated": partial(MAXCA, axes=("dilated",)),
    "xca": partial(MAXCA, axes=("plain",)),
    "window": Window,
    "self_attention": SelfAttention,
    "conv": ConvBlock,
    "conv_as": conv_as,
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
    "conv_as",
    "cost",
    "load_published",
    "matched",
]
