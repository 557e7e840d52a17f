"""Assignment of blocks to the levels of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from maxca.blocks import BLOCKS, Block
from maxca.origins import UnknownName

Named = Mapping[str, Any]  # {"name": "maxca", "heads": 2}: a block as stored in files
Blocks = Block | str | Named | Sequence[Block | str | Named]


def per_level(block: Blocks, levels: int) -> list[Block]:
    """One block for each level, finest first.

    Args:
        block: a block, or its name in ``BLOCKS``, or a name with arguments, for every level; or a list of them, whose
            last also serves all coarser levels.
        levels: how many levels there are.

    Raises:
        UnknownName: for an unknown name.
        ValueError: for an empty list, or more blocks than levels.
    """
    given = list(block) if isinstance(block, Sequence) and not isinstance(block, str) else [block]
    if not 1 <= len(given) <= levels:
        raise ValueError(f"one block for all levels or up to {levels} are needed, received {len(given)}")
    blocks = [_block(each) for each in given]
    return blocks + [blocks[-1]] * (levels - len(blocks))


def describe(block: Blocks) -> Named | list[Named]:
    """The names and arguments of blocks, for a file; the inverse of what ``per_level`` reads.

    Raises:
        ValueError: for a block that is not in ``BLOCKS``.
    """
    if isinstance(block, Sequence) and not isinstance(block, str):
        return [_describe(each) for each in block]
    return _describe(block)


def _block(block: Block | str | Named) -> Block:
    if callable(block):
        return block
    arguments = {"name": block} if isinstance(block, str) else {**block}
    name = arguments.pop("name", None)
    measured = arguments.get("to", name) if name == "conv_as" else name  # another block, whose size it matches
    for each in (name, measured):
        if each not in BLOCKS:
            raise UnknownName("block", each, BLOCKS)
    return partial(BLOCKS[str(name)], **arguments) if arguments else BLOCKS[str(name)]


def _describe(block: Block | str | Named) -> Named:
    if isinstance(block, str):
        return {"name": block}
    if isinstance(block, Mapping):
        return block
    made, arguments = (block.func, block.keywords) if isinstance(block, partial) else (block, {})
    for name, known in BLOCKS.items():
        if made is known and not (isinstance(block, partial) and block.args):
            return {"name": name, **arguments}
    raise ValueError(f"{block!r} cannot be saved by name: register it first, with maxca.plugins.block(NAME)")
