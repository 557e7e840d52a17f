"""Damaged files to every reader, some hundred of them; `make fuzz` tries thousands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).with_name("fuzz.py")
# Each of these was once a fault: read, reported or left behind otherwise than promised.
FOUND = {
    "1/764:freesurfer.mgh": "nibabel's own error for a size of 0",
    "1/1127:nifti2": "a matrix of 1e300 overflowed, and numpy printed a warning",
    "1/3006:pair": "an extension of gigabytes took memory",
    "2/407:nifti2": "overflow again",
    "2/1086:pair": "an extension again",
    "2/1764:freesurfer.mgh": "a size of 0 again",
    "0/234:spm t.nii": "nibabel's own error for an unknown unit of length",
}


def fuzz(*options: str) -> str:
    command = [sys.executable, str(FUZZ), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of a child process are Linux's")
def test_damaged_files_are_refused_in_one_line_or_read() -> None:
    assert "300 damaged files, 0 faults" in fuzz("--cases", "300", "--seeds", "0")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of a child process are Linux's")
def test_files_that_were_faults_are_none_any_more() -> None:
    found = fuzz("--again", *FOUND)
    assert f"{len(FOUND)} damaged files, 0 faults" in found
