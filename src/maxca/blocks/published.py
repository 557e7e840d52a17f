"""Loading parameters under the names of the published implementations of MAXCA and CorrMLP."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor, nn

# Our name for each part of a published name, in this order.
NAMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"\bLayerNorm\b", "norm"),
    (r"\bxca_block\b", "mix"),
    (r"\bGlobalXCALayer\b", "branches.dilated"),
    (r"\bLocalXCALayer\b", "branches.regional"),
    (r"^mix\.in_project\b", "mix.expand"),
    (r"^mix\.out_project\b", "mix.merge"),
    (r"\bmlpLayer\b", "block.mix"),
    (r"\bchannel_attention_block\b", "block.channel"),
    (r"\bchannel_attention\.Conv_0\b", "gate.squeeze"),
    (r"\bchannel_attention\.Conv_1\b", "gate.excite"),
    (r"^channel_attention\b", "channel"),
    (r"\bWinGmlpLayer_(\d)\b", lambda m: f"windows.{int(m[1]) - 1}"),
    (r"\bSpatialGatingUnit\.Dense_0\b", "between"),
    (r"\bSpatialGatingUnit\.norm\b", "gate_norm"),
    (r"\breweight\.fc(\d)\b", r"weigh\1"),
    (r"\bin_project\b", "expand"),
    (r"\bout_project\b", "project"),
    (r"^Encoder\.Convblock_(\d)\.Conv_(\d)\b", lambda m: f"encoder.levels.{int(m[1]) - 1}.conv{m[2]}"),
    (r"^Decoder\.mlp_1(\d)\b", lambda m: f"stages.{int(m[1]) - 1}.match"),
    (r"^Decoder\.mlp_2(\d)\b", lambda m: f"stages.{int(m[1]) - 1}.merge"),
    (r"^(stages\.\d\.\w+)\.Conv\b", r"\1.fuse.conv"),
    (r"^Decoder\.upsample_(\d)\.up_conv\b", lambda m: f"upsample.{int(m[1]) - 1}.conv"),
    (r"^Decoder\.upsample_(\d)\.norm\b", lambda m: f"upsample.{int(m[1]) - 1}.norm"),
    (r"^Decoder\.reghead_(\d)\.reg_head\b", lambda m: f"heads.{int(m[1]) - 1}.conv"),
)


def load_published(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a published ``state_dict`` into ``MAXCA``, ``XCA`` or the ``corrmlp`` network, strictly.

    Args:
        module: ours, of the same size.
        state: published names to tensors.

    Raises:
        RuntimeError: for missing or unexpected names, or other shapes.
    """
    module.load_state_dict({our_name(name): tensor for name, tensor in state.items()}, strict=True)


def our_name(published: str) -> str:
    """Our name of a published parameter."""
    for pattern, ours in NAMES:
        published = re.sub(pattern, ours, published)
    return published
