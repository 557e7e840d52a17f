"""Transforms in HDF5: ours notice every flipped bit, and what others wrote is read where it can do no harm."""

from __future__ import annotations

import random
from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io import hdf5
from maxca.io.limited import run_limited
from maxca.io.transforms import read_transform, write_transform
from maxca.io.transforms.composite import SEAL

GRID = Grid((6, 7, 5), np.diag([1.0, 2.0, 3.0, 1.0]))
POINTS = GRID.to_world(np.random.default_rng(0).uniform(0.5, 3.5, (20, 3)))
CHAIN = Chain(
    (DenseField(torch.randn(3, *GRID.shape, generator=torch.Generator().manual_seed(0)), GRID), Affine.identity())
)
SEEDS = range(20)


def mutated(content: bytes, seed: int) -> bytes:
    """Flipped bits, a cut, or eight bytes of one value."""
    chance = random.Random(seed)
    changed = bytearray(content)
    kind = chance.random()
    if kind < 0.15:
        return content[: chance.randrange(len(content))]
    if kind < 0.3:
        at = chance.randrange(len(content))
        changed[at : at + 8] = chance.choice([b"\xff", b"\0", b"\x7f"]) * 8
        return bytes(changed)
    for _ in range(chance.choice([1, 1, 1, 10])):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def composite_of_itk(path: Path) -> Path:
    vectors = np.random.default_rng(1).normal(size=(5, 7, 6, 3))
    field = sitk.DisplacementFieldTransform(sitk.GetImageFromArray(vectors, isVector=True))
    sitk.WriteTransform(sitk.CompositeTransform([sitk.AffineTransform(3), field]), str(path))
    return path


@pytest.mark.parametrize("suffix", [".h5", ".x5"])
def test_a_file_does_not_depend_on_when_python_releases_its_parts(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_transform(CHAIN, tmp_path / f"released{suffix}")
    create, held = h5py.Group.create_dataset, []

    def kept(*args: object, **options: object) -> object:
        held.append(create(*args, **options))
        return held[-1]

    monkeypatch.setattr(h5py.Group, "create_dataset", kept)
    write_transform(CHAIN, tmp_path / f"held{suffix}")
    assert held
    assert (tmp_path / f"held{suffix}").read_bytes() == (tmp_path / f"released{suffix}").read_bytes()


def test_no_flipped_bit_of_ours_is_read_as_other_numbers(tmp_path: Path) -> None:
    write_transform(CHAIN, tmp_path / "whole.h5")
    content, path = (tmp_path / "whole.h5").read_bytes(), tmp_path / "flipped.h5"
    expected, chance = read_transform(tmp_path / "whole.h5").map_points(POINTS), random.Random(0)
    for _ in range(150):
        # The last line is there to be checked: a flip in its words leaves a file as any other tool writes it.
        at = chance.randrange(8 * (len(content) - len(SEAL) - 65))
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << at % 8
        path.write_bytes(bytes(flipped))
        with pytest.raises(MaxcaError, match=r"flipped\.h5: damaged"):
            read_transform(path)
    other = b"1" if content[-65:-64] == b"0" else b"0"
    path.write_bytes(content[:-65] + other + content[-64:])
    with pytest.raises(MaxcaError, match="SHA-256"):
        read_transform(path)
    path.write_bytes(content.replace(SEAL, SEAL.lower()))
    np.testing.assert_array_equal(read_transform(path).map_points(POINTS), expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_composite_of_itk_ends_in_one_line(
    tmp_path: Path, seed: int, capfd: pytest.CaptureFixture[str]
) -> None:
    path = composite_of_itk(tmp_path / "itk.h5")
    path.write_bytes(mutated(path.read_bytes(), seed))
    try:
        read_transform(path)
    except MaxcaError as error:
        assert path.name in str(error) and "\n" not in str(error)
    assert capfd.readouterr().err == ""


def test_itk_notices_a_flipped_number_of_ours_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    write_transform(CHAIN, path)
    with h5py.File(path) as file:
        stored = file["TransformGroup/2/TransformParameters"]
        offset, size = (getattr(stored.id.get_chunk_info(0), name) for name in ("byte_offset", "size"))
    content = bytearray(path.read_bytes())
    content[offset + size // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(RuntimeError):
        sitk.ReadTransform(str(path))


def test_other_filters_and_claims_of_more_than_the_bytes_can_hold_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("TransformGroup/0")
        group.create_dataset("TransformType", data=["AffineTransform_double_3_3"], dtype=h5py.string_dtype("ascii"))
        group["TransformFixedParameters"] = np.zeros(3)
        group.create_dataset("TransformParameters", data=np.zeros(12), chunks=(12,), compression="lzf")
    with pytest.raises(MaxcaError, match="gzip"):
        read_transform(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        for number in range(hdf5.LARGEST_GROUP + 1):
            file.create_group(f"TransformGroup/{number}")
    with pytest.raises(MaxcaError, match="claims to hold"):
        read_transform(tmp_path / "b.h5")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("os.abort()", "failed"),
        ("[b'x' * (1 << 20) for _ in iter(int, 1)]", "more memory"),
        ("[None for _ in iter(lambda: time.sleep(1), 1)]", "did not finish within 3 s"),
        ("int('x')", "invalid literal"),
    ],
)
def test_a_process_that_crashes_grows_or_hangs_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, words: str
) -> None:
    source = f"import os, sys, time\nfrom maxca.io.limited import serve\nsys.exit(serve(lambda content: {answer}))\n"
    (tmp_path / "misbehaving.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=words):
        run_limited("misbehaving", b"", 3)
