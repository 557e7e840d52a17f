"""Small pairs, and Dask processes that end with the tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import phantoms
import pytest
from cohortpairs import PATIENTS, WHERE, hashes

import maxca

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from dask_processes import Processes


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas with labels, and patients."""
    folder = tmp_path_factory.mktemp("cohort-scans")
    phantoms.save(folder / "atlas.nii.gz", phantoms.image(WHERE, phantoms.bend))
    phantoms.save(folder / "atlas_labels.nii.gz", phantoms.image(WHERE, phantoms.bend, phantoms.regions))
    for number in range(PATIENTS):
        (folder / f"sub-{number}").mkdir()
        moved = lambda points, n=number: points + np.array([1.0 * n, -0.5 * n, 0.5])  # noqa: E731
        phantoms.save(folder / f"sub-{number}" / "T1.nii.gz", phantoms.image(WHERE, moved))
        phantoms.save(folder / f"sub-{number}" / "labels.nii.gz", phantoms.image(WHERE, moved, phantoms.regions))
    return folder


@pytest.fixture
def pairs(scans: Path, tmp_path: Path) -> Path:
    """A list of the pairs, whose files may be changed."""
    rows = ["fixed,fixed_labels,moving,moving_labels,group"]
    for number in range(PATIENTS):
        (tmp_path / f"sub-{number}").mkdir()
        for name in ("T1", "labels"):
            (tmp_path / f"sub-{number}" / f"{name}.nii.gz").write_bytes(
                (scans / f"sub-{number}" / f"{name}.nii.gz").read_bytes()
            )
        mine = f"sub-{number}/T1.nii.gz,sub-{number}/labels.nii.gz"
        rows.append(f"{scans}/atlas.nii.gz,{scans}/atlas_labels.nii.gz,{mine},{'ab'[number % 2]}")
    (tmp_path / "pairs.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "pairs.csv"


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    (tmp_path / "dask").mkdir()
    started = Processes(tmp_path / "dask")
    yield started
    started.end()


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler with one worker, which several tests use."""
    started = Processes(tmp_path_factory.mktemp("dask"))
    found, _ = started.scheduler()
    started.worker(found)
    yield found
    started.end()


@pytest.fixture(scope="session")
def alone(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The files of each pair registered by itself, by hash."""
    folder = tmp_path_factory.mktemp("alone")
    for number in range(PATIENTS):
        maxca.register(
            scans / "atlas.nii.gz",
            scans / f"sub-{number}" / "T1.nii.gz",
            fixed_labels=scans / "atlas_labels.nii.gz",
            moving_labels=scans / f"sub-{number}" / "labels.nii.gz",
            model="none",
            effort="fast",
            threads=1,
        ).save(folder / f"sub-{number}_T1")
    return {f"sub-{number}_T1": hashes(folder / f"sub-{number}_T1") for number in range(PATIENTS)}
