"""Labels of the left and the right side, by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping

SIDE = re.compile(r"(?<![a-z])(left|right|lh|rh|l|r)(?![a-z])", re.IGNORECASE)
OTHER = {"left": "right", "right": "left", "lh": "rh", "rh": "lh", "l": "r", "r": "l"}


def counterparts(names: Mapping[int, str]) -> list[int] | None:
    """For each class the index of its counterpart on the other side, itself if it has no side.

    Args:
        names: of the labels by number, in the order of the classes, such as ``left kidney``, ``R_Putamen`` or
            ``ctx-lh-insula``.

    Returns:
        The indices; None if the counterpart of a label is not among the names, so that a mirrored image would have
        labels that do not exist, or if two labels have the same name.
    """
    index = {name.lower(): n for n, name in enumerate(names.values())}
    if len(index) < len(names):
        return None
    swapped = []
    for name in index:
        other = index.get(SIDE.sub(lambda side: OTHER[side[0]], name))
        if other is None:
            return None
        swapped.append(other)
    return swapped
