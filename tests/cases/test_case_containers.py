"""Damaged MetaImage and NRRD files, or such that name foreign files, are refused in one line; no voxel is invented."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, Grid
from maxca.io.images import read, write
from maxca.io.itk import to_sitk
from maxca.io.transforms import write_transform

DATA = np.random.default_rng(4).integers(0, 900, (9, 8, 7)).astype(np.int16)


def saved(path: Path, packed: bool = True) -> Path:
    """A file as ITK writes it."""
    image = sitk.GetImageFromArray(DATA.T)
    image.SetSpacing((1.5, 1.0, 2.0))
    sitk.WriteImage(image, str(path), useCompression=packed)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(MaxcaError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500 and message.startswith(str(path))
    return message


def voxel_file(path: Path) -> Path:
    """The file that holds the voxels of an image of ITK."""
    beside = [each for each in path.parent.iterdir() if "raw" in each.suffix]
    return beside[0] if beside else path


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
def test_no_flipped_bit_of_compressed_voxels_is_read_as_others(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name)
    random, files = np.random.default_rng(1), [path, voxel_file(path)]
    for n in range(200):
        target = files[n % 2]
        whole = target.read_bytes()
        bit = int(random.integers(8 * len(whole)))
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        target.write_bytes(content)
        try:
            found = read(path)
        except MaxcaError as error:
            assert str(path) in str(error)
        else:  # the bit is part of a position, which has no checksum, or of no consequence
            np.testing.assert_array_equal(found.data, DATA)
        target.write_bytes(whole)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
@pytest.mark.parametrize("packed", [False, True])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_file_ends_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, name: str, packed: bool, data: st.DataObject
) -> None:
    path = saved(tmp_path_factory.mktemp("damaged") / name, packed)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(0, min(len(content), 600) - 1)))  # a cut may have left nothing
        how = data.draw(st.sampled_from(("set", "cut", "insert", "drop")))
        piece = data.draw(st.binary(min_size=1, max_size=6) | st.sampled_from((b"-1", b"99999999999", b"nan", b"\n")))
        if how == "set":
            content[at : at + len(piece)] = piece
        elif how == "cut":
            del content[at + 1 :]
        elif how == "insert":
            content[at:at] = piece
        else:
            del content[at : at + len(piece)]
    path.write_bytes(content)
    try:
        read(path)
    except MaxcaError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error) and len(str(error)) < 500


def edited(path: Path, *edits: tuple[str, str]) -> Path:
    content = path.read_bytes()
    for old, new in edits:
        assert old.encode() in content
        content = content.replace(old.encode(), new.encode())
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("a.mha", "NDims = 3", "NDims = 100", "NDims"),
        ("a.mha", "NDims = 3", "NDims = -1", "NDims"),
        ("a.mha", "= LOCAL", "= img%s%n%p.raw 1 20 1", "contains its voxels"),
        ("a.mha", "= LOCAL", "= /etc/hostname", "contains its voxels"),
        ("a.mha", "CompressedData = False", "CompressedData = True", "damaged"),
        ("a.mha", "DimSize = 9 8 7", "DimSize = 9 8 700000000", "claims"),
        ("a.mha", "DimSize = 9 8 7", "DimSize = 9 8 6", "claims"),
        ("a.mha", "ElementType = MET_SHORT", "ElementType = MET_OTHER", "known type"),
        ("a.mhd", "= a.raw", "= img%s%n.raw 1 7 1", "no pattern"),
        ("a.mhd", "= a.raw", "= a%99999999d.raw 1 7 1", "no pattern"),
        ("a.mhd", "= a.raw", "= a%d.raw 1 999999999 1", "no pattern"),
        ("a.mhd", "= a.raw", "= ../a.raw", "outside its folder"),
        ("a.mhd", "= a.raw", "= /etc/hostname", "outside its folder"),
        ("a.mhd", "= a.raw", "= missing.raw", "missing"),
        ("a.nrrd", "encoding: raw", "encoding: ascii", "encoding"),
        ("a.nrrd", "encoding: raw", "encoding: bz2", "encoding"),
        ("a.nrrd", "encoding: raw", "encoding: raw\ndata file: /etc/hostname", "contains its voxels"),
        ("a.nrrd", "dimension: 3", "dimension: 99", "dimension"),
        ("a.nrrd", "sizes: 9 8 7", "sizes: 9 8 7000000000", "sizes"),
        ("a.nhdr", "data file: a.raw", f"data file: {'x' * 5000}", "name of its file"),
        ("a.nhdr", "data file: a.raw", "data file: ../../a.raw", "outside its folder"),
        ("a.nhdr", "data file: a.raw", "data file: a%d.raw 1 0 0", "no pattern"),
    ],
)
def test_headers_that_crash_readers_or_name_other_files(
    tmp_path: Path, name: str, old: str, new: str, words: str
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (tmp_path / "a.raw").write_bytes(bytes(2 * DATA.size))
    assert words in refusal(edited(saved(folder / name, packed=False), (old, new)))


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    path = saved(folder / "a.mhd", packed=False)
    voxel_file(path).rename(tmp_path / "elsewhere.raw")
    (folder / "a.raw").symlink_to(tmp_path / "elsewhere.raw")
    assert "outside its folder" in refusal(path)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.mhd", "a.nhdr"])
def test_a_pipe_is_refused_at_once(tmp_path: Path, name: str) -> None:
    if name in ("a.mhd", "a.nhdr"):
        path = saved(tmp_path / name, packed=False)
        voxels = voxel_file(path)
        voxels.unlink()
        os.mkfifo(voxels)
    else:
        path = tmp_path / name
        os.mkfifo(path)
    with pytest.raises(MaxcaError, match="pipe"):
        read(path)


@pytest.mark.parametrize(("name", "lines"), [("a.mha", b"Offset"), ("a.mha", b"ElementSpacing"), ("a.nrrd", b"space ")])
def test_a_header_without_a_position_is_refused(tmp_path: Path, name: str, lines: bytes) -> None:
    path = saved(tmp_path / name, packed=False)
    head, mark, voxels = path.read_bytes().partition(b"LOCAL\n" if name == "a.mha" else b"\n\n")
    kept = [line for line in head.split(b"\n") if not line.startswith(lines)]
    path.write_bytes(b"\n".join(kept) + mark + voxels)
    assert "does not define the position of the image" in refusal(path)


def test_what_unpacks_to_gigabytes_of_nothing_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.mha")
    head, mark, _ = path.read_bytes().partition(b"LOCAL\n")
    size = b"DimSize = 1500 1500 1500"
    path.write_bytes(head.replace(b"DimSize = 9 8 7", size) + mark + zlib.compress(bytes(10**7)))
    assert "claims" in refusal(path)


@pytest.mark.parametrize("suffix", [b".mha", b".nrrd", b".mhd"])
def test_names_that_are_no_utf8_are_read_and_written(tmp_path: Path, suffix: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9" + suffix))
    made = saved(tmp_path / f"plain{os.fsdecode(suffix)}", packed=False)
    if suffix == b".mhd":
        voxels = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.raw"))
        voxel_file(made).rename(voxels)
        path.write_bytes(made.read_bytes().replace(b"plain.raw", os.fsencode(voxels.name)))
    else:
        made.rename(path)
        image = read(path)
        write(image.data, image.grid, path)
    np.testing.assert_array_equal(read(path).data, DATA)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_the_command_ends_with_one_line(tmp_path: Path, suffix: str) -> None:
    good = saved(tmp_path / f"good{suffix}")
    write_transform(Chain((Affine(np.eye(4)),)), tmp_path / "identity.tfm")
    bad = tmp_path / f"bad{suffix}"
    bad.write_bytes(good.read_bytes()[:-9])
    arguments = ["-i", str(bad), "-r", str(good), "-t", str(tmp_path / "identity.tfm"), "-o", str(tmp_path / "o.nii")]
    command = [sys.executable, "-m", "maxca", "apply", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith(f"maxca: error: {bad}: truncated")
    assert not (tmp_path / "o.nii").exists()


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_a_sheared_grid_is_not_written(tmp_path: Path, name: str) -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.3
    with pytest.raises(MaxcaError, match="sheared"):
        write(DATA, Grid(DATA.shape, affine), tmp_path / name)
    assert to_sitk(DATA, Grid(DATA.shape, np.eye(4))).GetSize() == DATA.shape
