"""Labels of the left and the right side, by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping

SIDE = re.compile(r"(?<![a-z])(left|right|lh|rh|l|r)(?![a-z])", re.IGNORECASE)
UNLIKE = re.compile(r"^(?!.*lat).*ventric|atri|auric|coronar", re.IGNORECASE)  # of the heart, not of the brain
OTHER = {"left": "right", "right": "left", "lh": "rh", "rh": "lh", "l": "r", "r": "l"}


def counterparts(names: Mapping[int, str]) -> list[int] | None:
    """For each class the index of its counterpart on the other side, itself if it has no side.

    Args:
        names: of the labels by number, in the order of the classes, such as ``left kidney``, ``R_Putamen`` or
            ``ctx-lh-insula``.

    Returns:
        The indices; None if the counterpart of a label is not among the names, so that a mirrored image would have
        labels that do not exist; if two labels have the same name; or if a side is that of a chamber of the heart or a
        coronary artery, which is no mirror image of the other.
    """
    index = {name.lower(): n for n, name in enumerate(names.values())}
    if len(index) < len(names):
        return None
    swapped = []
    for name in index:
        if SIDE.search(name) and UNLIKE.search(name):
            return None
        other = index.get(SIDE.sub(lambda side: OTHER[side[0]], name))
        if other is None:
            return None
        swapped.append(other)
    return swapped
