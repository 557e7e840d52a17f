"""A wheel of the package, installed in a fresh environment, has all its files and works without the source folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import phantoms
import pytest

ROOT = Path(__file__).parents[1]
DATA = {".md", ".safetensors", ".j2", ".css", ".js"}  # cards, weights, templates and the viewer


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (made,) = out.glob("maxca-*.whl")
    return made


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of an environment that holds the wheel, and finds what it depends on where the tests do."""
    place = tmp_path_factory.mktemp("fresh") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    programs = place / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], env=clean(), check=True)
    (site,) = place.glob("lib/python*/site-packages")
    # Only the folder: the .pth files in it, such as that of an editable install, are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


def clean() -> dict[str, str]:
    """No way to the source folder."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV_", "COVERAGE"))}


def run(programs: Path, folder: Path, *words: object) -> str:
    done = subprocess.run(
        [str(programs / words[0]), *map(str, words[1:])], cwd=folder, env=clean(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    files = [path for path in (ROOT / "src").rglob("*") if path.suffix in DATA | {".py"}]
    assert {str(path.relative_to(ROOT / "src")) for path in files} - held == set()
    assert {Path(name).suffix for name in held if "dist-info" not in name} >= DATA


def test_the_command_of_the_wheel_registers(environment: Path, tmp_path: Path) -> None:
    where = run(environment, tmp_path, "python", "-c", "import maxca; print(maxca.__file__)")
    assert Path(where.strip()).is_relative_to(environment.parent)
    assert run(environment, tmp_path, "maxca", "--version").split()[-1].count(".") >= 2
    assert "hippocampus" in run(environment, tmp_path, "maxca", "models", "list")
    small = phantoms.grid((4.0, 4.0, 4.0))
    phantoms.save(tmp_path / "fixed.nii.gz", phantoms.image(small, phantoms.bend))
    phantoms.save(tmp_path / "moving.nii.gz", phantoms.image(small))
    words = ("register", "-f", "fixed.nii.gz", "-m", "moving.nii.gz", "-o", "out", "--effort", "fast", "--threads", "1")
    run(environment, tmp_path, "maxca", *words)
    run(environment, tmp_path, "maxca", "report", "out")
    assert (tmp_path / "out" / "transform.h5").is_file()
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
