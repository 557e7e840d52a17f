"""What ``kill -9`` leaves of an output is removed by the next run to the same place, and nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from maxca.errors import MaxcaError
from maxca.io import leftovers
from maxca.io.alone import alone_in
from maxca.io.atomic import atomic_path, output_folder

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
FILE = "with atomic.atomic_path(target) as p: p.write_text('half'); wait()"
FOLDER = "with atomic.output_folder(target, True) as p: (p / 'half').write_text('half'); wait()"
SWAP = """
real = pathlib.Path.rename
def rename(self, new):
    real(self, new)
    wait()
pathlib.Path.rename = rename
with atomic.output_folder(target, True) as p: (p / 'result.json').write_text('new')
"""


def started(target: Path, code: str) -> subprocess.Popen[str]:
    """A process that writes to a target and stops in the middle."""
    head = "import pathlib, sys, time\nfrom maxca.io import atomic\ntarget = pathlib.Path(sys.argv[1])\n"
    wait = "def wait():\n    print('there', flush=True)\n    time.sleep(60)\n"
    words = [sys.executable, "-c", head + wait + code, str(target)]
    process = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "there\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["a.nii.gz", "T.TFM", "no_suffix", "x" * 200 + ".csv", "ü" * 100 + ".json"])
def test_a_file(tmp_path: Path, name: str) -> None:
    process = started(tmp_path / name, FILE)
    assert len(names(tmp_path)) == 1
    with atomic_path(tmp_path / name) as unfinished:  # the other one lives, and keeps what it writes
        unfinished.write_text("mine")
    assert len(names(tmp_path)) == 2
    kill(process)
    with atomic_path(tmp_path / name) as unfinished:
        unfinished.write_text("again")
    assert names(tmp_path) == [name] and (tmp_path / name).read_text() == "again"


def test_a_folder(tmp_path: Path) -> None:
    kill(started(tmp_path / "out", FOLDER))
    assert len(names(tmp_path)) == 1
    with output_folder(tmp_path / "out") as folder:
        (folder / "result.json").write_text("new")
    assert names(tmp_path) == ["out"]


def test_an_output_that_was_being_replaced_comes_back(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text("earlier")
    kill(started(tmp_path / "out", SWAP))
    assert not (tmp_path / "out").exists()
    with pytest.raises(MaxcaError, match="overwrite=True"), output_folder(tmp_path / "out"):
        pytest.fail("the earlier output is there again")
    assert names(tmp_path) == ["out"] and (tmp_path / "out" / "result.json").read_text() == "earlier"


def test_what_belongs_to_others_stays(tmp_path: Path) -> None:
    mine = leftovers.hidden(tmp_path / "a.csv", ".csv")
    dead = mine.name.replace(f"-{os.getpid():x}-", "-3ffffff-")
    other = dead.replace(mine.name.split(".")[2][:8], "00000000")
    kept = sorted([mine.name, other, ".a.csv", ".a.deadbeef.csv", "." + dead, dead.replace(".a.", ".b.")])
    for name in (dead, *kept):
        (tmp_path / name).touch()
    with atomic_path(tmp_path / "a.csv"):
        pass
    assert names(tmp_path) == sorted([*kept, "a.csv"])


def test_one_at_a_time_in_a_folder(tmp_path: Path) -> None:
    code = "from maxca.io.alone import alone_in\nwith alone_in(target, 'x'): wait()"
    process = started(tmp_path, code)
    with pytest.raises(MaxcaError, match="another run is running"), alone_in(tmp_path, "another run"):
        pytest.fail("must be refused")
    kill(process)
    with alone_in(tmp_path, "another run"):
        pass
