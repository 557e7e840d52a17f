"""Tables of others, pipes and devices, closed streams, and one unreadable folder among many."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import phantoms
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxca.cli.main import main
from maxca.errors import MaxcaError, one_line
from maxca.evaluate.rows import append, read_rows
from maxca.io.cells import neutral

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pair")
    where = phantoms.grid((4.0, 4.0, 4.0))
    phantoms.save(place / "f.nii.gz", phantoms.image(where, phantoms.bend))
    phantoms.save(place / "m.nii.gz", phantoms.image(where))
    (place / "pairs.csv").write_text("fixed,moving\nf.nii.gz,m.nii.gz\n")
    words = ["register", "-f", place / "f.nii.gz", "-m", place / "m.nii.gz", "-o", place / "out"]
    assert main([*map(str, words), "--effort", "fast", "--transform", "rigid", "--threads", "1", "-q"]) == 0
    return place


def evaluate(folder: Path, out: Path) -> int:
    return main(["evaluate", "--pairs", str(folder / "pairs.csv"), "-o", str(out), "--methods", "unmoved", "-q"])


@pytest.mark.parametrize(
    "text", ["my,precious,notes", "a,b\n1,2\n", "\x00\xff\xfe", "words", "set,pair,method\n", "\n\n1"]
)
@pytest.mark.parametrize("name", ["notes.csv", "notes-labels.csv", "notes-summary.csv", "notes.md"])
def test_a_file_that_is_no_table_stays_as_it_is(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, name: str
) -> None:
    (tmp_path / name).write_text(text, encoding="latin-1")
    assert evaluate(folder, tmp_path / "notes.csv") == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and name in line and "--debug" not in line
    assert (tmp_path / name).read_text(encoding="latin-1") == text and [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["table.csv", "table-labels.csv", "table.md"])
def test_a_pipe_is_no_table(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert evaluate(folder, tmp_path / "table.csv") == 1
    assert f"{name}: a folder, pipe or device" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_record_that_never_ends(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    out = Path(shutil.copytree(folder / "out", tmp_path / "out"))
    if kind == "pipe":
        (out / "result.json").unlink()
        os.mkfifo(out / "result.json")
    else:
        record = json.loads((out / "result.json").read_text())
        record["inputs"]["fixed"]["path"] = "/dev/zero"
        (out / "result.json").write_text(json.dumps(record))
    assert main(["report", str(out)]) == 1
    assert "a folder, pipe or device" in capsys.readouterr().err


@pytest.mark.parametrize("closed", ["1", "2", "0", "both"])
def test_closed_streams(folder: Path, tmp_path: Path, closed: str) -> None:
    shell = " ".join(f"{n}>&-" for n in ("1", "2")) if closed == "both" else f"{closed}>&-"
    words = [sys.executable, "-m", "maxca", "apply", "-i", "m.nii.gz", "-r", "f.nii.gz", "-t", "out/transform.h5"]
    command = f"{' '.join(words)} -o {tmp_path / 'w.nii.gz'} {shell}"
    done = subprocess.run(command, shell=True, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["w.nii.gz"]


def spoil(record: dict, how: str) -> str:
    if how == "deep":
        return "[" * 100_000
    if how == "level":
        record["levels"] = [{"spacing": ["x", 1, 1], "similarity": []}]
    else:
        record[how] = 1.0
    return json.dumps(record)


def test_one_unreadable_folder_is_listed_with_its_reason(folder: Path, tmp_path: Path) -> None:
    ways = ("deep", "level", "seconds", "metrics", "inputs", "warnings")
    for name in ("good", *ways):
        shutil.copytree(folder / "out", tmp_path / name)
    for how in ways:
        record = json.loads((tmp_path / how / "result.json").read_text())
        (tmp_path / how / "result.json").write_text(spoil(record, how))
    assert main(["report", str(tmp_path), "--cohort", "--pages", "-q"]) == 0
    page = (tmp_path / "cohort.html").read_text()
    assert page.count("cannot be assessed: ") == len(ways)
    assert all(f"`{field}" in page for field in ("levels[0].spacing[0]", *ways[2:])) and "nested too deeply" in page


@given(st.text())
def test_a_cell_is_no_formula(text: str) -> None:
    cell = neutral(text)
    assert cell == neutral(cell) and cell.isprintable()
    assert not cell.startswith(("=", "@")) and text.isprintable() <= cell.endswith(text)


@pytest.mark.parametrize("name", ["=1+1", "+x", "-x", "@x", "\x1b[31mred", "a\nb", "\t=1", '=HYPERLINK("http://x")'])
def test_hostile_names_in_a_table(tmp_path: Path, name: str) -> None:
    path = tmp_path / "t.csv"
    append(path, [{"set": name, "pair": 0, "method": name, "dice": -0.5, "error": name}])
    row = next(csv.DictReader(path.open(newline="")))
    assert all(row[column].isprintable() and row[column][0] not in "=+-@" for column in ("set", "method", "error"))
    assert row["dice"] == "-0.5" and len(read_rows(path)) == 1


def test_a_cell_that_is_no_number_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    append(path, [{"set": "a", "pair": 0, "method": "b", "dice": "abc"}])
    with pytest.raises(MaxcaError, match=r"t\.csv, line 2: dice is 'abc'"):
        read_rows(path)


@given(st.text(max_size=3000))
def test_every_error_is_one_short_line_of_text(text: str) -> None:
    said = str(MaxcaError(text))
    assert len(said) < 500 and said.isprintable() and said == one_line(said)


def test_names_with_markup_print_as_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("[/bold]x", "$\\frac$", "a\nb", "\x1b[31m", "<b>", "x" * 3000):
        assert main(["report", str(folder / name)]) in (1, 2)
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "\x1b" not in said and len(said) < 500 and "--debug" not in said
