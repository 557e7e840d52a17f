"""What the fuzzer found: each of these was a crash of another kind, a warning on the terminal, or memory taken."""

from __future__ import annotations

import struct
import subprocess
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from test_case_dicom import series

from maxca.errors import MaxcaError
from maxca.io.images import read
from maxca.training.run import Run

VOXELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def refusal(path: Path) -> str:
    """The message of a refusal that goes without a warning."""
    with warnings.catch_warnings(), pytest.raises(MaxcaError) as caught:
        warnings.simplefilter("error")
        read(path)
    assert str(caught.value).startswith(str(path)) and len(str(caught.value)) < 500
    return str(caught.value)


def test_a_size_of_nothing_in_freesurfers_format(tmp_path: Path) -> None:
    path = tmp_path / "a.mgh"
    nib.save(nib.MGHImage(VOXELS, np.eye(4)), path)
    content = bytearray(path.read_bytes())
    content[4:8] = bytes(4)  # the number of voxels along the first axis
    path.write_bytes(content)
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("number", [1e300, 1e39, -1e200])
def test_voxels_as_large_as_no_float32(tmp_path: Path, number: float) -> None:
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti2Image(VOXELS, np.eye(4)), path)
    content = bytearray(path.read_bytes())
    content[400:408] = struct.pack("<d", number)  # srow_x
    path.write_bytes(content)
    assert "finite 4x4" in refusal(path)


def test_an_image_of_one_slice_without_a_finite_matrix(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(VOXELS[:, :, :1], np.eye(4)), path)
    content = bytearray(path.read_bytes())
    content[280:284] = struct.pack("<f", np.inf)  # srow_x
    content[288:292] = content[304:308] = content[320:324] = bytes(4)  # the third axis is left out
    path.write_bytes(content)
    assert "finite 4x4" in refusal(path)


LIMITED = """
import resource, sys
from pathlib import Path
from maxca.errors import MaxcaError
from maxca.io.images import read
import pydicom
held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (held + (1 << 29), held + (1 << 29)))
try:
    read(sys.argv[1])
except MaxcaError as error:
    print(error)
"""


def with_limited_memory(path: Path) -> str:
    """What reading says in a process that may take half a gigabyte more than it holds."""
    command = [sys.executable, "-c", LIMITED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are Linux's")
def test_an_extension_of_a_header_that_claims_gigabytes(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(VOXELS, np.eye(4)), tmp_path / "a.img")
    path = tmp_path / "a.hdr"
    path.write_bytes(path.read_bytes()[:348] + struct.pack("<4Bii", 1, 0, 0, 0, 2**31 - 16, 6) + bytes(40))
    assert "damaged" in with_limited_memory(path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are Linux's")
@pytest.mark.parametrize("mark", [b"\x02\x00\x01\x00OB\x00\x00", b"\x10\x00\x10\x00OB\x00\x00"])
def test_a_dicom_element_that_claims_gigabytes(tmp_path: Path, mark: bytes) -> None:
    folder = series(tmp_path / "ct")
    path = folder / "1.dcm"
    content = path.read_bytes()
    # In the place of an element of the file's own group, or of the patient's name.
    place = 132 if mark[:1] == b"\x02" else content.index(b"\x10\x00\x20\x00")
    path.write_bytes(content[:place] + mark + struct.pack("<I", 2**31 - 16) + content[place:])
    assert "1.dcm: a DICOM file that is truncated or damaged" in with_limited_memory(folder)


def test_identifiers_that_are_too_long_are_no_remark(tmp_path: Path) -> None:
    def edit(tags: object, _: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tags.SeriesInstanceUID = "1." * 40 + "1"  # type: ignore[attr-defined]
            tags.StudyInstanceUID = "1." * 40 + "2"  # type: ignore[attr-defined]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = series(tmp_path / "ct", edit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(folder).grid.shape[2] == 4


def test_a_damaged_checkpoint_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"step": 3, "best": 0.0, "weights": {"a": torch.ones(3)}}, path)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            content[place] ^= 1 << int(random.integers(8))
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                Run(tmp_path).checkpoint(torch.device("cpu"))
            except MaxcaError as error:
                assert str(error).startswith(str(path)) and len(str(error)) < 500
