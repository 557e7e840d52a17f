"""A pair of scans with labels and points, and one registration of it for many tests to look at."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import phantoms
import pytest
from commands import QUICK, contents, run

from maxca.cli.main import main
from maxca.io.points import Points, write_points

GRID = phantoms.grid((3.0, 3.0, 3.0))


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for name, through in (("fixed", phantoms.bend), ("moving", lambda x: x)):
        phantoms.save(folder / f"{name}.nii.gz", phantoms.image(GRID, through))
        phantoms.save(folder / f"{name}_labels.nii.gz", phantoms.image(GRID, through, phantoms.regions))
    for name in ("extra", "other"):
        phantoms.save(folder / f"{name}.nii.gz", phantoms.image(GRID))
    points = phantoms.nodes(phantoms.grid((15.0, 15.0, 15.0), extent=30.0)).reshape(-1, 3)
    write_points(Points(points), folder / "fixed.csv")
    write_points(Points(phantoms.bend(points)), folder / "moving.csv")
    mask = phantoms.image(GRID, what=lambda x: np.ones(x.shape[:-1]))
    phantoms.save(folder / "mask.nii.gz", mask)
    return folder


@pytest.fixture
def scans(originals: Path, tmp_path: Path) -> Path:
    """A copy of the files that a test may spoil."""
    return Path(shutil.copytree(originals, tmp_path / "scans"))


@pytest.fixture(scope="session")
def registered(originals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a registration with everything."""
    out = tmp_path_factory.mktemp("results") / "made" / "out"
    words = ["register", "-f", originals / "fixed.nii.gz", "-m", originals / "moving.nii.gz", "-o", out]
    for side in ("fixed", "moving"):
        words += [
            f"--{side}-labels",
            originals / f"{side}_labels.nii.gz",
            f"--{side}-points",
            originals / f"{side}.csv",
        ]
        words += [f"--{side}-mask", originals / "mask.nii.gz"]
    words += ["--apply", originals / "extra.nii.gz", "--apply", originals / "other.nii.gz", "--save-field"]
    outcome = run(*words, *QUICK)
    assert outcome.code == 0, outcome.err
    (out.parent / "stdout").write_text(outcome.out)
    return out


@pytest.fixture
def refused(scans: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs ``maxca register`` on the pair with other words, expects it to fail cleanly and gives its one line."""

    def check(*words: object, out: Path | None = None, code: int = 1, names: str = "") -> str:
        before = contents(tmp_path)
        pair = "-f", scans / "fixed.nii.gz", "-m", scans / "moving.nii.gz"
        given = [str(word) for word in words]
        pair = tuple(w for n, w in enumerate(pair) if pair[n - n % 2] not in given)
        capfd.readouterr()
        ended = main([*map(str, ("register", *QUICK, *pair, *given, "-o", out or tmp_path / "new" / "out"))])
        shown = capfd.readouterr()
        assert ended == code, shown.err
        assert contents(tmp_path) == before
        assert shown.out == ""
        assert shown.err.count("\n") == 1, shown.err
        assert shown.err.startswith("maxca: error: ")
        assert names in shown.err
        return shown.err

    return check
