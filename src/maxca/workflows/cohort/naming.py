"""Names of output folders: readable, unique, and made of safe characters whatever a list contains."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from maxca.io.atomic import full_suffix
from maxca.io.pairs import Pair

LONGEST = 80  # characters of one image's part of a name
DEEPEST = 12  # folders of a path that a name may contain
Key = tuple[str, str]  # absolute paths of the fixed and the moving image


def name_pairs(pairs: Sequence[Pair], known: Mapping[Key, str]) -> list[str]:
    """A folder name for each pair.

    It is the name of the moving file and, unless all pairs have the same fixed image, of the fixed one; of files with
    equal names in different folders, those of the folders too.

    Args:
        pairs: no two of them of the same images.
        known: names of an earlier plan, which are kept.
    """
    one_fixed = len({str(pair.fixed) for pair in pairs}) == 1
    moving = _distinct([pair.moving for pair in pairs])
    fixed = _distinct([pair.fixed for pair in pairs])
    used = {name.lower() for name in known.values()}
    names = []
    for number, pair in enumerate(pairs):
        name = known.get(key_of(pair))
        if name is None:
            wanted = moving[number] if one_fixed else f"{moving[number]}_to_{fixed[number]}"
            name = _unused(wanted, used)
            used.add(name.lower())
        names.append(name)
    return names


def key_of(pair: Pair) -> Key:
    """What identifies a pair in a list."""
    return str(pair.fixed), str(pair.moving)


def _distinct(files: Sequence[Path]) -> list[str]:
    """Names of files with as many of their folders as make different files differ, the same number for all."""
    different = set(files)

    def named(depth: int) -> Callable[[Path], str]:
        return lambda path: _safe([*path.parts[:-1], path.name[: len(path.name) - len(full_suffix(path))]][-depth:])

    for depth in range(1, DEEPEST):
        counted = Counter(map(named(depth), different))
        if max(counted.values()) == 1:
            return [named(depth)(path) for path in files]
    return [named(1)(path) for path in files]


def _safe(parts: Sequence[str]) -> str:
    text = re.sub(r"[^A-Za-z0-9_-]+", "_", "_".join(parts)).lstrip("-")
    return text[-LONGEST:].lstrip("-") or "pair"


def _unused(wanted: str, used: set[str]) -> str:
    name, number = wanted, 1
    while name.lower() in used:
        number += 1
        name = f"{wanted}-{number}"
    return name
