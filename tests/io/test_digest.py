"""An image is known by all its files."""

import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from maxca.errors import MaxcaError
from maxca.io.companions import files_of
from maxca.io.digest import sha256

DATA = np.random.default_rng(4).integers(0, 900, (5, 6, 7)).astype(np.int16)


def saved(path: Path) -> Path:
    if path.suffix in (".hdr", ".img"):
        nib.save(nib.Nifti1Pair(DATA, np.eye(4)), path)
    elif path.suffix == ".nii":
        nib.save(nib.Nifti1Image(DATA, np.eye(4)), path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(DATA), path)
    return path


@pytest.mark.parametrize("name", ["a.hdr", "a.img", "a.mhd", "a.nhdr", "a.nii", "a.mha", "a.nrrd"])
def test_another_voxel_is_another_image(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name)
    before = sha256(path)
    assert sha256(path) == before
    for file in tmp_path.iterdir():
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert sha256(path) != before, file.name
        file.write_bytes(whole)
    assert sha256(path) == before


def test_both_names_of_a_pair_are_one_image(tmp_path: Path) -> None:
    saved(tmp_path / "a.img")
    assert sha256(tmp_path / "a.img") == sha256(tmp_path / "a.hdr")


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("a.mhd|NDims = 3\nElementDataFile = LIST\nx.raw\ny.raw\n", ["x.raw", "y.raw"]),
        ("a.mhd|NDims = 3\nElementDataFile = s%03d.raw 8 12 2\n", ["s008.raw", "s010.raw", "s012.raw"]),
        ("a.mhd|NDims = 3\nElementDataFile = LOCAL\n", []),
        ("a.mhd|NDims = 3\r\nElementDataFile = with space.raw\r\n", ["with space.raw"]),
        ("a.mhd|NDims = 3\nElementDataFile = x%s%n.raw\n", ["x%s%n.raw"]),
        ("a.nhdr|NRRD0004\ndata file: sub/x.raw.gz\n", ["sub/x.raw.gz"]),
        ("a.nhdr|NRRD0004\ndatafile: s%d.raw 3 1 -1\n", ["s3.raw", "s2.raw", "s1.raw"]),
        ("a.nhdr|NRRD0004\ndata file: LIST 2\nx.raw\ny.raw\n", ["x.raw", "y.raw"]),
    ],
)
def test_a_header_names_its_files(tmp_path: Path, header: str, names: list[str]) -> None:
    name, text = header.split("|")
    (tmp_path / "sub").mkdir()
    for each in names:
        (tmp_path / each).write_bytes(b"voxels")
    (tmp_path / name).write_text(text)
    assert files_of(tmp_path / name) == (tmp_path / name, *(tmp_path / each for each in names))


@pytest.mark.parametrize("place", ["/etc/passwd", "../outside.raw", "sub/../../outside.raw"])
@pytest.mark.parametrize("header", ["a.mhd|ElementDataFile = ", "a.nhdr|NRRD0004\ndata file: "])
def test_voxels_outside_the_folder_are_refused(tmp_path: Path, place: str, header: str) -> None:
    name, text = header.split("|")
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "outside.raw").write_bytes(b"voxels")
    (tmp_path / "in" / name).write_text(text + place + "\n")
    with pytest.raises(MaxcaError, match="outside its folder"):
        sha256(tmp_path / "in" / name)


def test_what_never_ends_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.raw")
    (tmp_path / "a.mhd").write_text("ElementDataFile = a.raw\n")
    for path in (tmp_path / "a.mhd", tmp_path / "a.raw", Path("/dev/zero")):
        with pytest.raises(MaxcaError, match="pipe or device"):
            sha256(path)
    with pytest.raises(MaxcaError, match="no such file"):
        sha256(tmp_path / "none.nii")


def test_a_folder_is_known_by_its_files(tmp_path: Path) -> None:
    for name in ("1.dcm", "2.dcm"):
        (tmp_path / name).write_bytes(name.encode())
    os.mkfifo(tmp_path / "pipe")
    before = sha256(tmp_path)
    shutil.copy(tmp_path / "1.dcm", tmp_path / "2.dcm")
    assert sha256(tmp_path) != before
