"""Scans of a list: any organ, any format, with spacing, shape and intensities as options."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import phantoms
import pytest
from commands import run

from maxca.datasets.listed import read_list
from maxca.datasets.options import PreparationOptions
from maxca.datasets.prepared import read_prepared
from maxca.errors import MaxcaError
from maxca.options import OptionError

WHERE = phantoms.grid((5.0, 5.0, 6.0))


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Three subjects in three formats."""
    rows = ["image,labels,subject,split"]
    for n, suffix in enumerate((".nii.gz", ".mha", ".nrrd")):

        def seen(points: np.ndarray, n: int = n) -> np.ndarray:
            return points + np.array([2.0 * n, -n, 0])

        folder = tmp_path / f"p{n}"
        folder.mkdir()
        phantoms.image(WHERE, seen).save(folder / f"scan{suffix}")
        phantoms.image(WHERE, seen, phantoms.regions).save(folder / f"labels{suffix}")
        rows.append(f"p{n}/scan{suffix},p{n}/labels{suffix},s{n},{'val' if n == 2 else 'train'}")
    (tmp_path / "scans.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "scans.csv"


@pytest.mark.parametrize("kind", ["inter", "intra"])
def test_a_list_is_prepared(scans: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "ready"
    if kind == "intra":
        scans.write_text(scans.read_text().replace(",s1,", ",s0,"))
    done = run("prepare", scans, "-o", out, "--kind", kind, "--spacing", "6x6xkeep", "--shape", "10x10x10", "-q")
    assert (done.code, done.err) == (0, "")
    data = read_prepared(out)
    assert data.kind == kind
    assert [scan.split for scan in data.scans] == ["train", "train", "val"]
    assert sorted(scan.name for scan in data.scans) == ["scan-1", "scan-2", "scan-3"]
    assert len(data.pairs("train")) == 2
    for scan in data.scans:
        voxels = data.load(scan)
        assert voxels.labels is not None
        assert tuple(voxels.image.shape) == (10, 10, 10)
        assert scan.spacing[:2] == (6.0, 6.0)
    assert json.loads((out / "manifest.json").read_text())["settings"]["kind"] == kind


def test_a_window_of_intensities_is_that_of_every_scan(scans: Path, tmp_path: Path) -> None:
    for name, window in (("wide", "0,1000"), ("narrow", "0,100")):
        words = ("prepare", scans, "-o", tmp_path / name, "--kind", "intra", "--intensity", window, "-q")
        assert run(*words).code == 0
    wide, narrow = (read_prepared(tmp_path / name) for name in ("wide", "narrow"))
    assert wide.load(wide.scans[0]).image.float().mean() < narrow.load(narrow.scans[0]).image.float().mean()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,labels\nnowhere.nii.gz,\n", "row 1: image is nowhere.nii.gz, which does not exist"),
        ("image,split\n{0},test\n", "row 1: split is test; it must be train or val"),
        ("image,split\n{0},val\n{0},\n", "some scans have a split and others do not"),
        ("image,subject,split\n{0},a,val\n{0},a,train\n", "the subject a is in both splits"),
        ("image,spit\n{0},val\n", "unknown column 'spit'"),
        ("labels\n{0}\n", "row 1: no image"),
        ("image\n", "contains no scans"),
    ],
)
def test_what_is_wrong_with_a_list_is_named(text: str, said: str, scans: Path) -> None:
    path = scans.parent / "wrong.csv"
    path.write_text(text.format("p0/scan.nii.gz"))
    with pytest.raises(MaxcaError, match=said) as refused:
        read_list(path)
    assert "wrong.csv" in str(refused.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "both"},
        *({"spacing": text} for text in ("1x1", "1x1x0", "axbxc", "1x1x1x1", "-1x1x1", "nanx1x1")),
        *({"shape": text} for text in ("64", "1.5x1x1", "0x1x1")),
        *({"intensity": text} for text in ("5", "5,1", "a,b", "1,1", "0,inf")),
    ],
)
def test_wrong_options_are_named(wrong: dict[str, str]) -> None:
    with pytest.raises(OptionError) as refused:
        PreparationOptions(**wrong)  # type: ignore[arg-type]
    assert refused.value.field == next(iter(wrong))


def test_a_data_set_and_a_list_are_told_from_their_arguments(scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for words, said in (
        (("prepare", "nothing", "here", "-o", out), "nothing is not a list"),
        (("prepare", "acdc", "-o", out), "pass the folder of the data set too"),
        (("prepare", scans, tmp_path, "-o", out), "a list contains its scans"),
        (("prepare", "acdc", tmp_path, "-o", out, "--spacing", "1x1x1"), "has its own spacing"),
        (("prepare", scans, "-o", out, "--spacing", "1x1"), "--spacing"),
    ):
        done = run(*words)
        assert done.code == 2 and said in " ".join(done.err.split()), done.err
    assert not out.exists()
