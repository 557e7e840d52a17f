"""Damaged NIfTI and MGH files are refused for what they are, and none is read as other voxels."""

import bz2
import gzip
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from maxca.errors import MaxcaError
from maxca.io.images import read

DATA = np.random.default_rng(8).integers(0, 900, (9, 8, 7)).astype(np.int16)
AFFINE = np.diag([1.5, 1, 2, 1])


def saved(path: Path, data: np.ndarray = DATA) -> Path:
    kind = nib.MGHImage if path.suffix in (".mgz", ".mgh") else nib.Nifti1Image
    nib.save(kind(data, AFFINE), path)
    return path


def refusal(path: object) -> str:
    with pytest.raises(MaxcaError) as caught:
        read(path)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    return message


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mgz"])
def test_no_flipped_bit_is_read_as_other_voxels(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name)
    whole = path.read_bytes()
    for bit in np.random.default_rng(1).choice(8 * len(whole), 150, replace=False):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            found = read(path)
        except MaxcaError as error:
            assert str(path) in str(error)
            continue
        np.testing.assert_array_equal(found.data, DATA)  # the bit was of no consequence: the time in gzip's header
        np.testing.assert_array_equal(found.grid.affine, read(saved(tmp_path / f"b_{name}")).grid.affine)


def test_an_image_of_nibabel_is_verified_too(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii.gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 4  # the checksum
    path.write_bytes(content)
    assert "damaged" in refusal(nib.load(path))


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mgz"])
@pytest.mark.parametrize("rest", [b"\x1f\x8b\x08garbage", b"anything"])
def test_what_follows_a_compressed_stream_is_damage(tmp_path: Path, name: str, rest: bytes) -> None:
    path = saved(tmp_path / name)
    path.write_bytes(path.read_bytes() + rest)
    assert "damaged" in refusal(path)


def test_a_stream_of_several_members_is_one_file(tmp_path: Path) -> None:
    plain = saved(tmp_path / "a.nii").read_bytes()
    path = tmp_path / "b.nii.gz"
    path.write_bytes(b"".join(gzip.compress(plain[at : at + 500]) for at in range(0, len(plain), 500)))
    np.testing.assert_array_equal(read(path).data, DATA)


@pytest.mark.parametrize(
    ("made", "name"),
    [("a.nii", "b.nii.gz"), ("a.nii.gz", "b.nii"), ("a.mgh", "b.mgz"), ("a.mgz", "b.mgh"), ("a.nii.gz", "B.NII.GZ")],
)
def test_the_content_tells_what_is_compressed(tmp_path: Path, made: str, name: str) -> None:
    shutil.copy(saved(tmp_path / made), tmp_path / name)
    np.testing.assert_array_equal(read(tmp_path / name).data, DATA)


@pytest.mark.parametrize("suffix", [".hdr", ".img"])
def test_either_file_of_a_pair_may_be_compressed(tmp_path: Path, suffix: str) -> None:
    nib.save(nib.Nifti1Pair(DATA, AFFINE), tmp_path / "a.img")
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(read(tmp_path / "a.hdr").data, DATA)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"NRRD0004\n# nothing\n", "NRRD"),
        (b"ObjectType = Image\n", "MetaImage"),
        (bytes(128) + b"DICM", "DICOM"),
        (bz2.compress(bytes(400)), "bzip2"),
        (gzip.compress(gzip.compress(bytes(400), mtime=0), mtime=0), "compressed twice"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "web page"),
    ],
    ids=["NRRD", "MetaImage", "DICOM", "bzip2", "twice", "git lfs", "web page"],
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_file_of_another_kind_is_refused_for_that(tmp_path: Path, content: bytes, why: str, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert why in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz", "a.mha", "a.nrrd", "a.hdr", "a.img", "a.mhd"])
def test_a_pipe_or_a_device_is_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert "pipe" in refusal(tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    assert "device" in refusal(tmp_path / name)


@pytest.mark.parametrize("other", [".hdr", ".img"])
def test_a_pipe_in_place_of_the_other_file_of_a_pair_is_refused(tmp_path: Path, other: str) -> None:
    nib.save(nib.Nifti1Pair(DATA, AFFINE), tmp_path / "a.img")
    (tmp_path / f"a{other}").unlink()
    os.mkfifo(tmp_path / f"a{other}")
    for suffix in (".hdr", ".img"):
        assert "pipe" in refusal(tmp_path / f"a{suffix}")


def packed(path: Path, shape: tuple[int, ...], voxels: int) -> Path:
    """A compressed file whose header claims a shape, with so many voxels of 0."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    header["scl_slope"], header["scl_inter"] = 2, 1
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(0, voxels, 1 << 22):
            file.write(bytes(2 << 22))
    return path


def read_elsewhere(paths: list[Path]) -> subprocess.CompletedProcess[str]:
    """What a process of its own says of images: a line for each refusal, then by how many kB it has grown."""
    code = (
        "import resource, sys; from maxca.io.images import read; from maxca.errors import MaxcaError\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "for path in sys.argv[1:]:\n"
        "    try: read(path)\n    except MaxcaError as error: print(error)\n"
        "print(peak() - before)"
    )
    command = [sys.executable, "-c", code, *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


def test_a_claim_that_the_file_does_not_keep_takes_no_memory(tmp_path: Path) -> None:
    claims = {(4000, 300, 300): 1 << 23, (1100, 1000, 1000): 1 << 23, (9, 8, 7): 1 << 26}
    paths = [packed(tmp_path / f"{n}.nii.gz", *claim) for n, claim in enumerate(claims.items())]
    *lines, grown = read_elsewhere(paths).stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == list(map(str, paths))
    assert int(grown) < 100_000


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files by /proc")
def test_no_file_stays_open(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii.gz")
    read(path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        read(path)
    assert len(os.listdir("/proc/self/fd")) == before
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 20


def test_a_damaged_header_is_one_line_and_nothing_of_nibabel(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.nii").read_bytes()
    damages = {70: b"\0\0", 123: b"\4", 40: b"\xff\xff", 108: b"\0\0\xc0\x7f", 280: b"\0\0\xc0\x7f"}
    paths = [tmp_path / f"{at}.nii" for at in damages]
    for path, (at, value) in zip(paths, damages.items(), strict=True):
        path.write_bytes(whole[:at] + value + whole[at + len(value) :])
    done = read_elsewhere(paths)
    assert done.stderr == ""
    assert [line.split(":")[0] for line in done.stdout.splitlines()[:-1]] == list(map(str, paths))
