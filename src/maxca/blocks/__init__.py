"""Blocks: channels in, a shape-preserving module on (N, C, I, J, K) out.

This folder needs torch and einops only and can be copied into another project. ``BLOCKS`` has every variant under its
name for ``build_network(…, block=…)``.
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
    """A convolution block matched in size to another block; see ``matched``.

    Args:
        channels: C, in and out.
        to: name of the other in ``BLOCKS``.
        by: the quantity to match.
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
