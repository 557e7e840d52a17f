"""A scan labelled by atlases through a real scheduler: accuracy, choice of atlases, resumption, errors."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import phantoms
import pytest
from cohortpairs import WHERE

import maxca
from maxca.cli.main import main
from maxca.errors import MaxcaError
from maxca.io.images import read
from maxca.io.pairs import Scan
from maxca.metrics import dice
from maxca.options import RegistrationOptions
from maxca.workflows.cohort.options import CohortOptions
from maxca.workflows.labelling.atlases import find_atlases
from maxca.workflows.labelling.options import LabellingOptions
from maxca.workflows.labelling.record import read_record

STEP = np.array([3.0, -2.0, 1.0])


@pytest.fixture(scope="module")
def brains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan, its true labels, and four atlases that differ from it by a shift and a bend, the last ones more."""
    folder = tmp_path_factory.mktemp("brains")
    phantoms.save(folder / "scan.nii.gz", phantoms.image(WHERE, phantoms.bend))
    phantoms.save(folder / "truth.nii.gz", phantoms.image(WHERE, phantoms.bend, phantoms.regions))
    (folder / "atlases").mkdir()
    for number in range(4):
        share = 1 - number / 3  # of the bend: the first atlas has that of the scan

        def seen(points: np.ndarray, share: float = share, number: int = number) -> np.ndarray:
            return points + number * STEP / 3 + share * (phantoms.bend(points) - points)

        phantoms.save(folder / "atlases" / f"a{number}.nii.gz", phantoms.image(WHERE, seen))
        phantoms.save(folder / "atlases" / f"a{number}_labels.nii.gz", phantoms.image(WHERE, seen, phantoms.regions))
    (folder / "names.tsv").write_text("index\tname\n1\tleft front\n4\tright back\n")
    return folder


@pytest.fixture(scope="module")
def labelled(brains: Path, tmp_path_factory: pytest.TempPathFactory, address: str) -> Path:
    out = tmp_path_factory.mktemp("labelled") / "out"
    words = ("label", "-i", brains / "scan.nii.gz", "--atlases", brains / "atlases", "-o", out)
    more = ("--label-table", brains / "names.tsv", "--probabilities", "1,4", "--scheduler", address, "--threads", 1)
    assert main([str(word) for word in (*words, *more)]) == 0
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def times(out: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("registrations/*/result.json")}


@pytest.mark.slow
def test_labels_are_right_with_a_given_smoothness(brains: Path, tmp_path: Path, address: str) -> None:
    given = RegistrationOptions(effort="fast", threads=1, smoothness=2 * WHERE.smallest_spacing)
    options, where = LabellingOptions(brains / "atlases"), CohortOptions(scheduler=address)
    found = maxca.label_by_atlases(brains / "scan.nii.gz", tmp_path / "out", options, given, where).image
    assert min(dice(read(brains / "truth.nii.gz").data, found.data).values()) > 0.95


@pytest.mark.slow
def test_labels_are_right_and_so_are_volumes_and_maps(brains: Path, labelled: Path) -> None:
    truth, found = read(brains / "truth.nii.gz"), read(labelled / "labels.nii.gz")
    np.testing.assert_allclose(found.grid.affine, truth.grid.affine)
    # Trials of the smoothness take a larger one for an atlas; the labels are as good in the mean.
    assert found.dtype == np.uint8 and np.mean(list(dice(truth.data, found.data).values())) > 0.95
    volumes = {row["index"]: row for row in rows(labelled / "volumes.tsv")}
    for label in range(1, 5):
        volume = float(volumes[str(label)]["volume_mm3"])
        assert volume == pytest.approx((found.data == label).sum() * 64)
        assert volume == pytest.approx((truth.data == label).sum() * 64, rel=0.08)
    assert [volumes[str(n)]["name"] for n in range(1, 5)] == ["left front", "n/a", "n/a", "right back"]
    sure = read(labelled / "confidence.nii.gz").data
    wrong = found.data != truth.data
    assert sure.min() > 0 and sure.max() <= 1 and sure[wrong].mean() < sure[~wrong].mean() - 0.1
    first = read(labelled / "probabilities" / "1.nii.gz").data
    np.testing.assert_array_equal(first[found.data == 1], sure[found.data == 1])
    assert not (labelled / "probabilities" / "2.nii.gz").exists()
    assert [row["used"] for row in rows(labelled / "atlases.tsv")] == ["yes"] * 4


@pytest.mark.slow
def test_another_fusion_uses_the_registrations_and_a_lost_one_is_made_again(
    brains: Path, labelled: Path, tmp_path: Path, address: str
) -> None:
    out, where = tmp_path / "out", CohortOptions(scheduler=address)
    shutil.copytree(labelled, out)
    before, joint = times(out), read(out / "labels.nii.gz").data
    options = LabellingOptions(brains / "atlases", fusion="vote")
    registration = RegistrationOptions(effort="fast", threads=1)
    vote = maxca.label_by_atlases(brains / "scan.nii.gz", out, options, registration, where)
    assert times(out) == before and vote.record.options["fusion"] == "vote"
    assert (vote.image.data != joint).any() and not (read(out / "labels.nii.gz").data != vote.image.data).any()
    shutil.rmtree(out / "registrations" / "a1")
    again = maxca.label_by_atlases(brains / "scan.nii.gz", out, replace(options, fusion="joint"), registration, where)
    assert {name for name, when in times(out).items() if before[name] != when} == {"a1"}
    np.testing.assert_array_equal(again.image.data, joint)
    assert read_record(out) == again.record


@pytest.mark.slow
def test_the_nearest_atlases_are_used_and_a_damaged_one_is_left_out(brains: Path, tmp_path: Path, address: str) -> None:
    where, said = CohortOptions(scheduler=address), list[str]()
    options = LabellingOptions(brains / "atlases", nearest=1, fusion="vote")
    record = maxca.label_by_atlases(brains / "scan.nii.gz", tmp_path / "one", options, None, where).record
    assert [atlas.used for atlas in record.atlases] == [True, False, False, False]
    affine = [atlas.similarity_affine or 0 for atlas in record.atlases]
    assert affine[0] > 0.98 and affine == sorted(affine, reverse=True)

    shutil.copytree(brains / "atlases", tmp_path / "atlases")
    whole = (tmp_path / "atlases" / "a2.nii.gz").read_bytes()
    (tmp_path / "atlases" / "a2.nii.gz").write_bytes(whole[:-200])
    for number in (0, 3):
        (tmp_path / "atlases" / f"a{number}.nii.gz").unlink()
        (tmp_path / "atlases" / f"a{number}_labels.nii.gz").unlink()
    options = LabellingOptions(tmp_path / "atlases")
    record = maxca.label_by_atlases(
        brains / "scan.nii.gz", tmp_path / "two", options, None, where, warn=said.append
    ).record
    assert [atlas.used for atlas in record.atlases] == [True, False] and record.labels == 4
    assert len(said) == 1 and "a2.nii.gz" in said[0] and record.warnings == said


def without_labels(folder: Path) -> None:
    (folder / "a1_labels.nii.gz").unlink()


def with_other_numbers(folder: Path) -> None:
    path = folder / "a2_labels.nii.gz"
    image = read(path)
    phantoms.save(path, replace(image, data=(image.data * 10).astype(np.uint8)))


def with_empty_labels(folder: Path) -> None:
    path = folder / "a1_labels.nii.gz"
    phantoms.save(path, replace(read(path), data=np.zeros(WHERE.shape, np.uint8)))


def without_atlases(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        (without_labels, (), "a1.nii.gz: an atlas without labels; add them"),
        (with_other_numbers, (), "a2.nii.gz: the numbers of its labels (10, 20, 30, 40) differ"),
        (with_empty_labels, (), "a1_labels.nii.gz: contains no labels, only 0"),
        (without_atlases, (), "no atlases; a folder of atlases has"),
        (None, ("--nearest", "9"), "--nearest 9: there are only 4 atlases"),
        (None, ("--probabilities", "heart"), "--probabilities: heart: give labels"),
        (None, ("--model", "brain-names"), "give one of them"),
        (None, ("--table", "t.tsv"), "--atlases writes volumes.tsv"),
        (None, ("-i", "nowhere.nii.gz"), "nowhere.nii.gz"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line_before_anything_is_written(
    brains: Path,
    tmp_path: Path,
    change: Callable[[Path], None] | None,
    words: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, out = tmp_path / "atlases", tmp_path / "out"
    shutil.copytree(brains / "atlases", folder)
    if change is not None:
        change(folder)
    given = ("label", "-i", brains / "scan.nii.gz", "--atlases", folder, "-o", out, *words)
    assert main([str(word) for word in given]) != 0
    error = capsys.readouterr().err.strip()
    assert said in error and error.count("\n") == 0
    assert not out.exists()


def test_a_folder_with_other_files_is_not_used(brains: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(MaxcaError, match=r"contains no labelling.json of a labelling; choose another folder"):
        maxca.label_by_atlases(brains / "scan.nii.gz", tmp_path, LabellingOptions(brains / "atlases"))


def test_atlases_are_found_in_every_layout(tmp_path: Path) -> None:
    bids, msd, plain = (tmp_path / name for name in ("bids", "msd", "plain"))
    files = {
        bids: ["sub-1/anat/sub-1_T1w.nii.gz", "derivatives/manual/sub-1/anat/sub-1_dseg.nii.gz"],
        msd: ["imagesTr/one.nii.gz", "labelsTr/one.nii.gz"],
        plain: ["one.nii.gz", "one_seg.nii.gz", "readme.txt"],
    }
    for folder, names in files.items():
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        found = find_atlases(folder, tmp_path / "scan.nii.gz")
        assert [(atlas.image, atlas.labels) for atlas in found] == [(folder / names[0], folder / names[1])]
    (tmp_path / "list.csv").write_text("image,labels\nplain/one.nii.gz,plain/one_seg.nii.gz\n")
    assert [atlas.labels for atlas in find_atlases(tmp_path / "list.csv", tmp_path / "scan.nii.gz")] == [
        plain / "one_seg.nii.gz"
    ]
    with pytest.raises(MaxcaError, match="no atlas other than the scan itself"):
        find_atlases([Scan("one", "one", plain / "one.nii.gz")], plain / "one.nii.gz")
