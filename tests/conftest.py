"""What all tests share: run-time shape checks, fixed threads, and real data where it is at hand."""

import os
from collections.abc import Callable
from pathlib import Path

# As the command line does, before torch and NumPy are loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import forks
import pytest
import shapes

# Before the first import of maxca: from here on every annotated shape is checked whenever a function is called.
shapes.install("maxca")

import numpy as np  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)  # two workers share two cores


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker starts on one when the others have finished."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations fork their processes; ``evaluate/test_run.py`` has those that start Python, as users do."""
    monkeypatch.setattr("maxca.evaluate.run.run", forks.run)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder that holds the real data, where there is any."""
    return Path(os.environ.get("MAXCA_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture(scope="session")
def data_folder(data_root: Path) -> Callable[[str], Path]:
    """Finds a folder of the real data by name (``oasis``, ``acdc``, …), or skips the test."""

    def find(name: str) -> Path:
        folder = data_root / name
        if not folder.is_dir():
            pytest.skip(f"no real data: {name} is not in {data_root}; set MAXCA_DATA to the folder that holds it")
        return folder

    return find
