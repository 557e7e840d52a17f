"""Functions, files and lists of parameters stay short, and the script that counts them counts right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))

from house import House, measure  # noqa: E402

GENERATED = "registration/facade.py: register"  # by tools/facade.py: a keyword and a paragraph for each option


@pytest.fixture(scope="module")
def house() -> House:
    return measure(ROOT)


def test_functions_stay_under_80_lines_and_files_under_350(house: House) -> None:
    assert {place for _, place in house.long_functions} <= {GENERATED}
    assert house.long_files == ()


def test_callables_have_at_most_8_parameters(house: House) -> None:
    assert {place for _, place in house.wide} == {GENERATED}


def test_no_module_is_imported_by_what_it_imports(house: House) -> None:
    assert house.cycles == ()


def test_two_checkouts_are_counted_side_by_side(tmp_path: Path) -> None:
    # In a process of its own: here ``maxca`` is the package under test.
    cyclic = {"a": "from maxca.b import f\n", "b": "import maxca.a\ndef f(\n    a, b, *c,\n    d=1, **e): ...\n"}
    plain = {"a": "def f(): ...\n", "b": "def g(a, b, c, d, e, f, g, h, i):" + "\n    pass" * 90}
    for name, modules in {"before": cyclic, "after": plain}.items():
        package = tmp_path / name / "src" / "maxca"
        package.mkdir(parents=True)
        for module, text in {"__init__": "", **modules}.items():
            (package / f"{module}.py").write_text(text)
        for command in ("init", "add ."):
            subprocess.run(["git", *command.split()], cwd=tmp_path / name, capture_output=True, check=True)
    command = [sys.executable, str(ROOT / "benchmarks" / "house.py"), "before", "after"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", check=True)
    counted = {line[:36].strip(): line[36:].split() for line in done.stdout.split("longest functions")[0].splitlines()}
    assert counted["rooms"] == ["2", "2"]
    assert counted["arrows between rooms"] == ["2", "0"]
    assert counted["cycles of imports"] == ["1", "0"]
    assert counted["lines of the package"] == ["5", "92"]
    assert counted["lines of the longest function"] == ["3", "91"]
    assert counted["functions over 80 lines"] == ["0", "1"]
    assert counted["more than 8 parameters"] == ["0", "1"]
