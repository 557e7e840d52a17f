"""Accuracy of 12 pairs is what it was, within half a percent: a refactor that loses anything fails here.

A deliberate change of accuracy records ``golden/accuracy.json`` again, see ``accuracy.py``, and its commit says so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import accuracy
import pytest
from organs import ORGANS

HERE = Path(__file__).parent
TOLERANCE = 0.005

Measures = dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def measures(data_root: Path) -> Measures:
    """Of all pairs, by name: a process of its own, with the same kernels on every processor."""
    command = [sys.executable, str(HERE / "accuracy.py"), str(data_root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ORGANS)
def test_accuracy_of_a_synthetic_pair_is_kept(name: str, measures: Measures) -> None:
    check(name, measures)


@pytest.mark.parametrize("name", accuracy.REAL)
def test_accuracy_of_a_real_pair_is_kept(name: str, measures: Measures, data_folder: Callable[[str], Path]) -> None:
    data_folder(accuracy.REAL[name]["images"][0].split("/")[0])
    check(name, measures)


def check(name: str, measures: Measures) -> None:
    golden = json.loads((HERE / "golden" / "accuracy.json").read_text(encoding="utf-8"))[name]
    assert measures[name] == pytest.approx(golden, rel=TOLERANCE), name
