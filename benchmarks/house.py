"""How the package is built: rooms, imports between them, cycles, and what is longer or wider than the style allows.

    git worktree add ../before COMMIT
    python benchmarks/house.py .                 # one checkout
    python benchmarks/house.py ../before .       # two, side by side

A room is a folder (or a module) directly under ``src/maxca``; an arrow says that one room imports from another. Imports
under ``TYPE_CHECKING`` are never executed, so cycles through them are listed separately.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grimp
import numpy as np
from scipy.sparse.csgraph import connected_components

LONGEST_FUNCTION, LONGEST_FILE, MOST_PARAMETERS = 80, 350, 8
Counted = tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class House:
    """What was counted in one checkout.

    Attributes:
        rooms: their names.
        arrows: (importing room, imported room).
        cycles: groups of modules that import each other when they are executed.
        cycles_of_types: the same with imports under ``TYPE_CHECKING``.
        functions: (lines, place) of every function of the package, longest first; from ``def`` to its last line.
        files: (lines, place) of every file of the package, longest first.
        parameters: (number, place) of every function of the package; ``self`` and ``cls`` do not count.
        folders: lines of Python in each folder of the repository.
    """

    rooms: tuple[str, ...]
    arrows: frozenset[tuple[str, str]]
    cycles: tuple[tuple[str, ...], ...]
    cycles_of_types: tuple[tuple[str, ...], ...]
    functions: Counted
    files: Counted
    parameters: Counted
    folders: dict[str, int]

    @property
    def long_functions(self) -> Counted:
        """Those over the limit."""
        return tuple(entry for entry in self.functions if entry[0] > LONGEST_FUNCTION)

    @property
    def long_files(self) -> Counted:
        """Those over the limit."""
        return tuple(entry for entry in self.files if entry[0] > LONGEST_FILE)

    @property
    def wide(self) -> Counted:
        """Callables with more parameters than the limit."""
        return tuple(entry for entry in self.parameters if entry[0] > MOST_PARAMETERS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one checkout, or two side by side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("trees", type=Path, nargs="+", help="one checkout, or the one before and the one after")
    trees = parser.parse_args(arguments).trees
    houses = [measure(tree) for tree in trees]
    numbers = [rows(house) for house in houses]
    print(f"{'':<36}" + "".join(f"{tree.resolve().name:>12}" for tree in trees))
    for label in dict.fromkeys(label for column in numbers for label in column):
        print(f"{label:<36}" + "".join(f"{column.get(label, 0):>12,}" for column in numbers))
    last = houses[-1]
    for title, entries in {
        "longest functions": last.functions[:10],
        f"files over {LONGEST_FILE} lines": last.long_files,
        f"more than {MOST_PARAMETERS} parameters": last.wide,
    }.items():
        print(f"\n{title}", *(f"{number:>6}  {place}" for number, place in entries), sep="\n")
    print("\narrows")
    for room in last.rooms:
        print(f"  {room} → {', '.join(sorted(to for source, to in last.arrows if source == room)) or '–'}")
    print("\ncycles", *(f"  {' ↔ '.join(cycle)}" for cycle in last.cycles_of_types), sep="\n")


def measure(tree: Path) -> House:
    """Count one checkout; ``git`` knows which of its files belong to it."""
    executed, every = (_imports(tree / "src", typing) for typing in (False, True))
    package = tree / "src" / "maxca"
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=tree, capture_output=True, text=True, check=True).stdout
    folders: Counter[str] = Counter()
    for name in filter(lambda name: (tree / name).is_file(), listed.split("\n")):
        folders[name.split("/")[0]] += _lines(tree / name)
    functions, parameters, files = [], [], []
    for file in sorted(package.rglob("*.py")):
        place = str(file.relative_to(package))
        files.append((_lines(file), place))
        for name, node in _functions(ast.parse(file.read_text(encoding="utf-8"))):
            functions.append((1 + (node.end_lineno or 0) - node.lineno, f"{place}: {name}"))
            parameters.append((_width(node), f"{place}: {name}"))
    return House(
        rooms=tuple(sorted({_room(module) for module in every} - {"__init__"})),
        arrows=frozenset(
            (_room(a), _room(b))
            for a, found in every.items()
            for b in found
            if _room(a) != _room(b) and "__init__" not in (_room(a), _room(b))
        ),
        cycles=_cycles(executed),
        cycles_of_types=_cycles(every),
        functions=_largest(functions),
        files=_largest(files),
        parameters=_largest(parameters),
        folders=dict(folders),
    )


def rows(house: House) -> dict[str, int]:
    """Every number by its label."""
    return {
        "rooms": len(house.rooms),
        "arrows between rooms": len(house.arrows),
        "cycles of imports": len(house.cycles),
        "cycles with imports for types": len(house.cycles_of_types),
        "files of the package": len(house.files),
        "lines of the package": sum(lines for lines, _ in house.files),
        "lines of Python in all": sum(house.folders.values()),
        **{f"  of these in {folder}": lines for folder, lines in house.folders.items()},
        "lines of the longest function": house.functions[0][0],
        f"functions over {LONGEST_FUNCTION} lines": len(house.long_functions),
        f"files over {LONGEST_FILE} lines": len(house.long_files),
        f"more than {MOST_PARAMETERS} parameters": len(house.wide),
    }


def _imports(source: Path, typing: bool) -> dict[str, set[str]]:
    """Modules that each module of the package imports, wherever in its file; ``typing``: under TYPE_CHECKING too."""
    sys.path.insert(0, str(source.resolve()))
    try:
        graph = grimp.build_graph("maxca", exclude_type_checking_imports=not typing, cache_dir=None)
    finally:
        sys.path.remove(str(source.resolve()))
    return {module: graph.find_modules_directly_imported_by(module) for module in sorted(graph.modules)}


def _cycles(imports: dict[str, set[str]]) -> tuple[tuple[str, ...], ...]:
    """Strongly connected components of more than one module."""
    modules = list(imports)
    graph = np.array([[b in imports[a] for b in modules] for a in modules])
    count, group = connected_components(graph, directed=True, connection="strong")
    groups = [tuple(m for m, g in zip(modules, group, strict=True) if g == number) for number in range(count)]
    return tuple(sorted(found for found in groups if len(found) > 1))


def _room(module: str) -> str:
    return (*module.split("."), "__init__")[1]


def _functions(node: ast.AST, within: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Functions and methods with their qualified names, nested ones too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{within}{child.name}"
            if not isinstance(child, ast.ClassDef):
                yield name, child
            yield from _functions(child, f"{name}.")
        else:
            yield from _functions(child, within)


def _width(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg) if a]
    return len([name for name in names if name not in ("self", "cls")])


def _lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def _largest(counted: list[tuple[int, str]]) -> Counted:
    return tuple(sorted(counted, key=lambda entry: (-entry[0], entry[1])))


if __name__ == "__main__":
    main()
