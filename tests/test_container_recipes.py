"""The recipes of containers: linted always, built where a builder is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILE, RECIPE = ROOT / "containers" / "Dockerfile", ROOT / "containers" / "maxca.def"
SECTIONS = {"files", "post", "environment", "runscript", "help"}


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


def test_both_recipes_start_from_the_same_image_and_install_the_same() -> None:
    docker, apptainer = DOCKERFILE.read_text(), RECIPE.read_text()
    base = re.search(r"^FROM (\S+)$", docker, re.MULTILINE)
    assert base and f"Bootstrap: docker\nFrom: {base[1]}\n" in apptainer
    assert set(re.findall(r"^%(\w+)$", apptainer, re.MULTILINE)) == SECTIONS
    for text in (docker, apptainer):
        assert '-c constraints.txt ".[bids]"' in text


def test_everything_that_is_copied_exists_and_is_not_ignored() -> None:
    docker, apptainer = DOCKERFILE.read_text(), RECIPE.read_text()
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", docker, re.MULTILINE) for name in line.split()]
    files = re.findall(r"^    (\S+) /maxca/\S+$", apptainer, re.MULTILINE)
    assert sorted(copied) == sorted(files)
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(kept) == sorted(copied)
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.skipif(
    shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode != 0,
    reason="no Docker daemon",
)
def test_the_image_builds_and_runs() -> None:
    subprocess.run(["docker", "build", "-q", "-f", DOCKERFILE, "-t", "maxca-test", ROOT], check=True)
    found = subprocess.run(["docker", "run", "--rm", "maxca-test", "--version"], capture_output=True, text=True)
    assert found.stdout.startswith("maxca ")
