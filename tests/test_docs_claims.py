"""What the pages say of options, messages and numbers is what the program says."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import phantoms
import pytest
import typer
from pages import DOCS, ROOT
from PIL import Image as Picture

from maxca.cli.app import app
from maxca.cli.main import main

PAGES = [*sorted(page for page in DOCS.rglob("*.md") if not page.stem.startswith("results")), ROOT / "README.md"]
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
# Of other programs that the pages mention: sbatch, dask, tensorboard, pip, mris_convert, FSL.
FOREIGN = {"--index-url", "--test-only", "--logdir", "--to-scanner"}
FOREIGN |= {"--host", "--port", "--nthreads", "--nworkers", "--dashboard-address"}
FOREIGN |= {"--fout", "--premat", "--ref", "--rel", "--rm"}
USED = {"register", "apply", "apply-geometry", "report", "transform convert", "transform compose", "transform jacobian"}
# Left to --help and the page made from it.
PLAIN = {"--help", "--input", "--output", "--reference", "--seed", "--verbose"}


@cache
def options() -> dict[str, set[str]]:
    """The long options of every command."""

    def below(command: object, name: str) -> dict[str, set[str]]:
        own = {o for p in command.params for o in (*p.opts, *p.secondary_opts) if o.startswith("--")}  # type: ignore[attr-defined]
        found = {name: own | {"--help"}}
        for word, sub in getattr(command, "commands", {}).items():
            found |= below(sub, f"{name} {word}".strip())
        return found

    return below(typer.main.get_command(app), "")


@cache
def source() -> str:
    """All that the program may say, with the literals of a message joined."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src" / "maxca").rglob("*.py"))
    return re.sub(r'"\s*\n\s*f?"', "", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_options_on_a_page_exist(page: Path) -> None:
    known = set().union(*options().values()) | FOREIGN | {"--debug"}
    assert set(OPTION.findall(page.read_text(encoding="utf-8"))) <= known


@pytest.mark.parametrize("command", sorted(USED))
def test_the_options_of_a_command_stand_on_a_page(command: str) -> None:
    written = {option for page in PAGES for option in OPTION.findall(page.read_text(encoding="utf-8"))}
    assert options()[command] - PLAIN <= written


def test_the_messages_on_the_page_of_failures_are_those_of_the_program() -> None:
    quoted = re.findall(r"“([^”]+)”|\"([^\"]+)\"", (DOCS / "how-to" / "when-it-fails.md").read_text(encoding="utf-8"))
    messages = [a or b for a, b in quoted]
    assert len(messages) >= 6
    for message in messages:
        for piece in message.split(" … "):
            assert piece in source(), message


def test_the_page_of_failures_advises_on_dicom_as_the_program_does() -> None:
    page = (DOCS / "how-to" / "when-it-fails.md").read_text(encoding="utf-8")
    for ending in ("_Tilt_1.nii", "_Eq_1.nii", "_Tilt_Eq_1.nii"):
        assert ending in page
    for piece in ('"_Tilt"', '"_Eq"', "_1.nii"):
        assert piece in source()


def test_the_demo_on_the_page_is_the_one_in_the_picture() -> None:
    page = (DOCS / "get-started.md").read_text(encoding="utf-8")
    before, after = re.search(r"true error ([\d.]+) → ([\d.]+) mm", page).groups()  # type: ignore[union-attr]
    with Picture.open(DOCS / "images" / "demo.png") as picture:
        assert picture.info["Description"] == f"true error {before} to {after} mm"


def test_what_the_readme_says_is_done_with_a_warning_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images apart are aligned; the same with the start that puts them apart is refused."""
    where = phantoms.grid((5.0, 5.0, 5.0))
    fixed = phantoms.save(tmp_path / "fixed.nii.gz", phantoms.image(where))
    affine = where.affine.copy()
    affine[:3, 3] += 400
    away = type(where)(where.shape, affine)
    moving = phantoms.save(tmp_path / "moving.nii.gz", phantoms.image(away, lambda points: points - 400))
    words = ["register", "-f", str(fixed), "-m", str(moving), "--transform", "rigid", "--threads", "1"]
    assert main([*words, "-o", str(tmp_path / "out")]) == 0
    assert "do not overlap in world space" in capsys.readouterr().err
    assert main([*words, "--initial-transform", "header", "-o", str(tmp_path / "again")]) == 1
    assert "do not overlap in world space" in capsys.readouterr().err
