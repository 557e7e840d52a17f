"""Readers find what is there, in the layouts people download."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from maxca.datasets.brain import LAYOUTS, read_bids, read_layout
from maxca.datasets.cardiac import read_acdc
from maxca.datasets.hippocampus import read_msd
from maxca.errors import MaxcaError
from maxca.io.pairs import pair_up


def tree(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


TREES = {
    "adni": (
        "ADNI/002_S_0295/MP-RAGE/2006-04-18_08_20_30.0/I45107/ADNI_002_S_0295_MR_MP-RAGE_S13408_I45107.nii",
        "ADNI/002_S_0295/MP-RAGE/2007-05-25_07_09_42.0/I62829/ADNI_002_S_0295_MR_MP-RAGE_S32678_I62829.nii",
        "ADNI/136_S_1227/MP-RAGE/2007-01-05_10_00_00.0/I40000/ADNI_136_S_1227_MR_MP-RAGE_S2_I40000.nii",
        {"002_S_0295", "136_S_1227"},
    ),
    "abide": (
        "NYU_a/NYU/0051006/session_1/anat_1/mprage.nii.gz",
        "NYU_a/NYU/0051006/session_1/rest_1/rest.nii.gz",
        "Caltech/0051456/session_1/anat_1/mprage.nii.gz",
        {"0051006", "0051456"},
    ),
    "adhd200": (
        "Peking_1/1050345/session_1/anat_1/mprage.nii.gz",
        "Peking_1/1050345/session_2/anat_1/mprage.nii.gz",
        "NYU/0010001/session_1/anat_1/mprage.nii.gz",
        {"1050345", "0010001"},
    ),
    "ixi": ("IXI-T1/IXI002-Guys-0828-T1.nii.gz", "IXI-T1/IXI012-HH-1211-T1.nii.gz", {"IXI002", "IXI012"}),
    "mindboggle": (
        "OASIS-TRT-20_volumes/OASIS-TRT-20-1/t1weighted_brain.nii.gz",
        "OASIS-TRT-20_volumes/OASIS-TRT-20-1/labels.DKT31.manual+aseg.nii.gz",
        "NKI-RS-22_volumes/NKI-RS-22-4/t1weighted_brain.nii.gz",
        "NKI-RS-22_volumes/NKI-RS-22-4/labels.DKT31.manual.nii.gz",
        {"OASIS-TRT-20-1", "NKI-RS-22-4"},
    ),
    "buckner40": (
        "004/mri/norm.mgz",
        "004/mri/aseg.mgz",
        "008/mri/norm.mgz",
        "008/mri/aparc+aseg.mgz",
        {"004", "008"},
    ),
    "neurite-oasis": (
        "OASIS_OAS1_0001_MR1/aligned_norm.nii.gz",
        "OASIS_OAS1_0001_MR1/aligned_seg35.nii.gz",
        "OASIS_OAS1_0002_MR1/aligned_norm.nii.gz",
        "OASIS_OAS1_0002_MR1/aligned_seg35.nii.gz",
        {"OASIS_OAS1_0001", "OASIS_OAS1_0002"},
    ),
}
LABELLED = {"mindboggle", "buckner40", "neurite-oasis"}


def test_every_layout_has_its_tree() -> None:
    assert set(TREES) == set(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_read(name: str, tmp_path: Path) -> None:
    *files, subjects = TREES[name]
    scans = read_layout(tree(tmp_path, *files), name)
    assert {scan.subject for scan in scans} == subjects
    assert len({scan.name for scan in scans}) == len(scans)
    assert all(re.fullmatch(r"[\w.+-]+", scan.name) for scan in scans)
    assert all(scan.image.is_file() for scan in scans)
    assert all((scan.labels is not None) == (name in LABELLED) for scan in scans)
    if name == "adni":
        assert len(scans) == 3, "two visits of one subject are two scans"
        assert len(pair_up(scans, "inter")) == 4


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_empty_folder_is_answered_with_what_was_expected(name: str, tmp_path: Path) -> None:
    with pytest.raises(MaxcaError, match="no scans in a layout like"):
        read_layout(tmp_path, name)


def test_bids_with_sessions_derivatives_and_rescans(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_T2w.nii.gz",
        "sub-02/anat/sub-02_T1w.nii.gz",
        "sub-03/anat/sub-03_T1w.nii.gz",
        "derivatives/seg/sub-01/ses-a/anat/sub-01_ses-a_dseg.nii.gz",
        "derivatives/seg/sub-02/anat/sub-02_desc-x_dseg.nii.gz",
    )
    (tmp_path / "split.json").write_text(json.dumps({"train": ["01"], "val": ["02", "03"], "rescans": [["02", "03"]]}))
    first, second, third = read_bids(tmp_path)
    assert [s.name for s in (first, second, third)] == ["sub-01_ses-a_T1w", "sub-02_T1w", "sub-03_T1w"]
    assert [s.labels is not None for s in (first, second, third)] == [True, True, False]
    assert [s.split for s in (first, second, third)] == ["train", "val", "val"]
    assert second.subject == third.subject
    assert [s.image.name for s in read_bids(tmp_path, "T2w")] == ["sub-01_ses-a_T2w.nii.gz"]
    with pytest.raises(MaxcaError, match="no sub-"):
        read_bids(tmp_path / "derivatives")


def test_acdc_as_downloaded(tmp_path: Path) -> None:
    for part, number in (("training", 1), ("testing", 101)):
        name = f"patient{number:03d}"
        files = [f"{part}/{name}/{name}_{x}.nii.gz" for x in ("frame01", "frame01_gt", "frame12", "frame12_gt", "4d")]
        tree(tmp_path, *files)
        (tmp_path / part / name / "Info.cfg").write_text("ED: 1\nES: 12\nGroup: DCM\nNbFrame: 30\n")
    scans = read_acdc(tmp_path)
    assert [(s.subject, s.group) for s in scans] == [(p, g) for p in ("patient001", "patient101") for g in ("ED", "ES")]
    assert {pair.group for pair in pair_up(scans, "intra")} == {"ED-to-ES", "ES-to-ED"}
    assert all(s.labels is not None for s in scans)
    (tmp_path / "training/patient001/patient001_frame12.nii.gz").unlink()
    with pytest.raises(MaxcaError, match="this image is missing"):
        read_acdc(tmp_path)


def test_a_task_of_the_decathlon(tmp_path: Path) -> None:
    tree(tmp_path, "imagesTr/a_1.nii.gz", "labelsTr/a_1.nii.gz", "imagesTr/._a_1.nii.gz", "imagesTs/a_2.nii.gz")
    (scan,) = read_msd(tmp_path)
    assert (scan.name, scan.split) == ("a_1", None)
    (tmp_path / "split.json").write_text('{"train": ["a_1.nii.gz"], "val": []}')
    assert read_msd(tmp_path)[0].split == "train"
    (tmp_path / "split.json").write_text("[]")
    with pytest.raises(MaxcaError, match="not a split"):
        read_msd(tmp_path)
    (tmp_path / "split.json").unlink()
    (tmp_path / "labelsTr/a_1.nii.gz").unlink()
    with pytest.raises(MaxcaError, match="no labels"):
        read_msd(tmp_path)


@pytest.mark.parametrize(
    ("name", "read", "train", "val", "pairs"),
    [
        ("hippocampus", read_msd, 132, 52, 132 * 131),
        ("acdc", read_acdc, 100, 40, 100),
        ("oasis", read_bids, 15, 10, 15 * 14),
    ],
)
def test_the_real_data(
    name: str, read: Callable, train: int, val: int, pairs: int, data_folder: Callable[[str], Path]
) -> None:
    scans = read(data_folder(name))
    assert [sum(s.split == part for s in scans) for part in ("train", "val")] == [train, val]
    kind = "intra" if name == "acdc" else "inter"
    assert len(pair_up([s for s in scans if s.split == "train"], kind)) == pairs
    assert all(s.labels is not None for s in scans)
