"""The rooms of the package keep to their places (CONTRIBUTING.md)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

SOURCE = Path(__file__).parents[1] / "src" / "maxca"
FILES = sorted(SOURCE.rglob("*.py"))

LIFTABLE = {"blocks", "networks", "losses"}  # a stranger can lift these out: little beyond torch
LIFTABLE_NEEDS = {"torch", "einops", "jaxtyping", "numpy", "maxca"}
STANDARD = {
    "__future__",
    "collections",
    "dataclasses",
    "functools",
    "itertools",
    "math",
    "typing",
    "contextlib",
    "enum",
    "re",
    "copy",
}


def test_imports_keep_to_the_contracts(capsys: pytest.CaptureFixture[str]) -> None:
    # Directions between the rooms and no cycles inside them: [tool.importlinter] of pyproject.toml.
    code = lint_imports(config_filename=str(SOURCE.parents[1] / "pyproject.toml"), no_cache=True)
    assert code == 0, capsys.readouterr().out


@pytest.mark.parametrize("file", [f for f in FILES if f.relative_to(SOURCE).parts[0] in LIFTABLE], ids=str)
def test_blocks_networks_and_losses_need_little_beyond_torch(file: Path) -> None:
    assert {module.split(".")[0] for module in imports(file)} <= LIFTABLE_NEEDS | STANDARD


def test_only_warp_calls_grid_sample() -> None:
    users = [f for f in FILES for node in ast.walk(parse(f)) if getattr(node, "attr", None) == "grid_sample"]
    assert {str(f.relative_to(SOURCE)) for f in users} == {"geometry/warp.py"}


def test_lps_stays_at_the_door() -> None:
    users = {str(f.relative_to(SOURCE)) for f in FILES if any("lps" in word.lower() for word in words(parse(f)))}
    doors = {"io/itk.py", "io/nrrd.py", "io/points.py", "io/space.py"}
    assert {user for user in users if not user.startswith("io/transforms/")} <= doors


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(file: Path) -> Iterator[str]:
    """Full names of what a file imports, wherever in the file; `from maxca import io` gives ``maxca.io``."""
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            liftable = file.parent.name == "blocks"  # copied elsewhere, it has another name
            assert node.level == liftable * (node.level > 0), f"{file}: imports are absolute"
            module = f"maxca.blocks.{node.module}" if node.level else node.module or ""
            yield from (f"maxca.{alias.name}" for alias in node.names) if module == "maxca" else (module,)


def words(tree: ast.Module) -> Iterator[str]:
    """Names and strings of the code, without docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value
        elif isinstance(node, ast.Name | ast.arg):
            yield node.id if isinstance(node, ast.Name) else node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
