"""``maxca bids``: from a BIDS dataset to derivatives that the official validator accepts."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import ants
import nibabel as nib
import numpy as np
import phantoms
import pytest
from scipy.spatial.transform import Rotation

from maxca.cli.bids import separate
from maxca.cli.main import main
from maxca.geometry import Affine, Chain
from maxca.io.transforms import read_transform
from maxca.workflows.bids.average import average_of, centred
from maxca.workflows.bids.layout import find_scans

WHERE = phantoms.grid((3.0, 3.0, 3.0))
FAST = ("--effort", "fast", "--model", "none", "-q", "--scheduler")
QUICK = tuple(word for word in FAST if word != "-q")
VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")


def turned(degrees: float, shift: float) -> Affine:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = shift, -shift, 0.5 * shift
    return Affine(matrix)


MOTIONS = {  # of the head in each scan: scan world points → those of the phantom
    "sub-01/anat/sub-01": turned(0, 0),
    "sub-02/ses-a/anat/sub-02_ses-a": turned(-4, 3),
    "sub-02/ses-b/anat/sub-02_ses-b_run-1": turned(5, -4),
    "sub-03/anat/sub-03": turned(2, 1),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three participants, of whom one has two sessions with three scans, labels, and a template."""
    root = tmp_path_factory.mktemp("bids") / "raw"
    labels = root / "derivatives" / "manual"
    for stem, motion in MOTIONS.items():
        image, regions = root / f"{stem}_T1w.nii.gz", labels / f"{stem}_dseg.nii.gz"
        for path, what in ((image, phantoms.scene), (regions, phantoms.regions)):
            path.parent.mkdir(parents=True, exist_ok=True)
            phantoms.save(path, phantoms.image(WHERE, motion.map_points, what))
    phantoms.save(root.parent / "tpl-Ball_T1w.nii.gz", phantoms.image(WHERE, phantoms.bend))
    describe(root, {"Name": "Balls", "BIDSVersion": "1.10.0", "DatasetType": "raw", "License": "CC0"})
    describe(
        labels,
        {"Name": "Regions", "BIDSVersion": "1.10.0", "DatasetType": "derivative", "GeneratedBy": [{"Name": "x"}]},
    )
    return root


def run(*words: object) -> int:
    return main([str(word) for word in words])


def describe(folder: Path, content: dict[str, object]) -> None:
    (folder / "dataset_description.json").write_text(json.dumps(content))


def template(dataset: Path) -> str:
    return str(dataset.parent / "tpl-Ball_T1w.nii.gz")


@pytest.fixture(scope="module")
def derivatives(dataset: Path, address: str) -> Path:
    out = dataset / "derivatives" / "maxca"
    work = dataset.parent / "work"
    words = ("bids", dataset, out, "participant", "--template", template(dataset), "-w", work, *FAST, address)
    assert run(*words) == 0
    assert run("bids", dataset, out, "group", "-q") == 0
    return out


def test_the_official_validator_finds_no_error(derivatives: Path, tmp_path: Path) -> None:
    copy = tmp_path / "maxca"
    shutil.copytree(derivatives, copy)
    cache = {"DENO_DIR": str(tmp_path / "deno")}
    found = subprocess.run(
        [VALIDATOR, copy, "--format", "json"], capture_output=True, env=os.environ | cache, timeout=300
    )
    issues = json.loads(found.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue.get("severity") == "error"] == []
    assert found.returncode == 0


def test_each_scan_has_transforms_image_and_labels_on_the_template(dataset: Path, derivatives: Path) -> None:
    grid = nib.load(template(dataset))
    for stem in MOTIONS:
        for suffix in ("T1w", "dseg"):
            warped = nib.load(derivatives / f"{stem}_space-Ball_{suffix}.nii.gz")
            assert warped.shape == grid.shape
            np.testing.assert_allclose(warped.affine, grid.affine, atol=1e-5)
        there = read_transform(derivatives / f"{stem}_from-T1w_to-Ball_mode-image_xfm.h5")
        back = read_transform(derivatives / f"{stem}_from-Ball_to-T1w_mode-image_xfm.h5")
        points = phantoms.nodes(phantoms.grid((8.0, 8.0, 8.0), 40.0))
        apart = np.linalg.norm(back.map_points(there.map_points(points)) - points, axis=-1)
        assert apart.mean() < 0.1 and apart.max() < 0.25 * WHERE.smallest_spacing  # mm
        sidecar = json.loads((derivatives / f"{stem}_space-Ball_T1w.json").read_text())
        assert sidecar["Sources"] == [f"bids:raw:{stem}_T1w.nii.gz"]
        assert (derivatives / sidecar["SpatialReference"]).resolve() == Path(template(dataset)).resolve()


def test_scans_of_one_participant_agree_on_the_template(derivatives: Path) -> None:
    stems = [stem for stem in MOTIONS if stem.startswith("sub-02")]
    labels = [np.asarray(nib.load(derivatives / f"{stem}_space-Ball_dseg.nii.gz").dataobj) for stem in stems]
    for one in labels[1:]:
        both = 2 * ((one > 0) & (one == labels[0])).sum() / ((one > 0).sum() + (labels[0] > 0).sum())
        assert both > 0.9
    mean = nib.load(derivatives / "sub-02/anat/sub-02_desc-average_T1w.nii.gz").get_fdata()
    assert 0.5 < mean.max() <= 1.05


def test_ants_applies_the_transform_of_a_session_as_we_do(dataset: Path, derivatives: Path) -> None:
    stem = "sub-02/ses-a/anat/sub-02_ses-a"
    moved = ants.apply_transforms(
        ants.image_read(template(dataset)),
        ants.image_read(str(dataset / f"{stem}_T1w.nii.gz")),
        [str(derivatives / f"{stem}_from-T1w_to-Ball_mode-image_xfm.h5")],
    )
    ours = nib.load(derivatives / f"{stem}_space-Ball_T1w.nii.gz").get_fdata()
    inside = phantoms.inside(phantoms.nodes(WHERE)).reshape(ours.shape) > 0.5
    assert np.abs(moved.numpy() - ours)[inside].mean() < 2e-3 * np.ptp(ours)


def test_group_has_a_row_and_a_report_for_every_participant(dataset: Path, derivatives: Path) -> None:
    with (derivatives / "group_T1w.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["participant_id"] for row in rows] == ["sub-01", "sub-02", "sub-03"]
    assert {row["scans"] for row in rows} == {"1", "2"}
    assert all(float(row["similarity_after"]) > float(row["similarity_before"]) for row in rows)
    page = (derivatives / "group_T1w.html").read_text()
    for name in ("sub-01/figures/sub-01_desc-qc_T1w", "sub-02/figures/sub-02_desc-qc_T1w"):
        assert f"{name}/report.html" in page and (derivatives / name / "report.html").is_file()


def test_the_same_command_resumes_and_one_participant_is_added(dataset: Path, tmp_path: Path, address: str) -> None:
    out = tmp_path / "out"
    words = ("bids", dataset, out, "participant", "--template", template(dataset), *FAST, address)
    assert run(*words, "--participant_label", "sub-01", "--no-page") == 0
    made = out / "sub-01/anat/sub-01_from-T1w_to-Ball_mode-image_xfm.h5"
    work = next((tmp_path / "out_work").rglob("transform.h5"))
    before = work.stat().st_mtime_ns, made.stat().st_mtime_ns
    assert run(*words, "--participant_label", "01", "03", "--no-page") == 0
    assert (work.stat().st_mtime_ns, made.stat().st_mtime_ns) == before
    assert made.is_file() and (out / "sub-03/anat/sub-03_space-Ball_T1w.nii.gz").is_file()
    assert not (out / "sub-02").exists()
    assert run("bids", dataset, out, "group", "-q") == 1  # sub-02 has no result
    made.unlink()
    assert run(*words, "--participant_label", "01", "--no-page") == 0
    assert made.is_file() and work.stat().st_mtime_ns == before[0]


def test_files_may_be_links_as_those_of_datalad(dataset: Path, tmp_path: Path) -> None:
    link = tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    link.parent.mkdir(parents=True)
    link.symlink_to(dataset / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    labels = tmp_path / "derivatives" / "manual" / "sub-01" / "anat" / "sub-01_dseg.nii.gz"
    labels.parent.mkdir(parents=True)
    labels.symlink_to(dataset / "derivatives" / "manual" / "sub-01" / "anat" / "sub-01_dseg.nii.gz")
    describe(tmp_path, {"Name": "Links", "BIDSVersion": "1.10.0"})
    (found,) = find_scans(tmp_path, "T1w")
    assert (found.folder, found.prefix, found.labels) == ("sub-01/anat", "sub-01", labels)


def test_a_damaged_scan_fails_alone(
    dataset: Path, tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(dataset, raw, ignore=shutil.ignore_patterns("maxca", "sub-02"))
    (raw / "sub-03/anat/sub-03_T1w.nii.gz").write_bytes(b"no image")
    out = tmp_path / "out"
    assert run("bids", raw, out, "participant", "--template", template(dataset), "--no-page", *QUICK, address) == 1
    assert "sub-03_T1w.nii.gz" in capsys.readouterr().out
    assert (out / "sub-01/anat/sub-01_space-Ball_T1w.nii.gz").is_file()
    assert not (out / "sub-03").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": "."}, "contains no dataset_description.json"),
        ({"--participant-label": "09"}, "no sub-09 with T1w images; there are sub-01"),
        ({"--session-label": "c"}, "there are ses-a, ses-b"),
        ({"--suffix": "T2w"}, "no images named *_T2w.nii.gz"),
        ({"--template": "nowhere/brain.nii.gz"}, "no such file"),
        ({"--participant-label": "a b"}, "letters and digits"),
        ({"-w": "out/work"}, "is within the output"),
        ({"--n-cpus": "2", "--scheduler": "tcp://127.0.0.1:9"}, "remove one of the two"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"--template": template(dataset)} | {k: v for k, v in changes.items() if k != "dataset"}
    words = [word for pair in options.items() for word in pair]
    assert run("bids", changes.get("dataset", dataset), "out", "participant", *words) != 0
    assert said in capsys.readouterr().err
    assert not Path("out").exists()


def test_foreign_folders_are_not_written_into(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert run("bids", dataset, tmp_path, "participant", "--template", template(dataset)) == 1
    assert "no output of maxca bids" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_template_of_templateflow_comes_from_its_cache(dataset: Path, tmp_path: Path, address: str) -> None:
    """The cache has the layout of TemplateFlow; what it lacks cannot be downloaded without a network."""
    home = tmp_path / "templateflow"
    (home / "tpl-OASIS30ANTs").mkdir(parents=True)
    shutil.copy(template(dataset), home / "tpl-OASIS30ANTs" / "tpl-OASIS30ANTs_res-01_T1w.nii.gz")
    (home / "tpl-OASIS30ANTs" / "tpl-OASIS30ANTs_res-01_desc-brain_T1w.nii.gz").touch()
    out = tmp_path / "out"
    words = [sys.executable, "-m", "maxca", "bids", dataset, out, "participant", "--template", "OASIS30ANTs"]
    environment = os.environ | {"TEMPLATEFLOW_HOME": str(home), "https_proxy": "http://127.0.0.1:9"}
    more = ["--participant-label", "03", "--no-page", *FAST, address]
    ended = subprocess.run([*words, *more], env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert (out / "sub-03/anat/sub-03_space-OASIS30ANTs_T1w.nii.gz").is_file()
    ended = subprocess.run(
        [*words, *more, "--skull-stripped"], env=environment, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode != 0 and "template" in ended.stderr and "cannot be downloaded" in ended.stderr
    words[words.index("OASIS30ANTs")] = "OASIS31ANTs"
    ended = subprocess.run([*words, *more], env=environment, capture_output=True, text=True, timeout=300)
    assert "TemplateFlow has no such template; it has OASIS30ANTs" in ended.stderr


def test_the_average_prefers_no_scan(dataset: Path) -> None:
    """The mean of the rigid transforms is the identity, and they differ as the heads do."""
    stems = [stem for stem in MOTIONS if stem.startswith("sub-02")]
    found = average_of([dataset / f"{stem}_T1w.nii.gz" for stem in stems])
    turns = [Rotation.from_matrix(each.matrix[:3, :3]).as_rotvec(degrees=True) for each in found.transforms]
    assert np.abs(np.mean(turns, axis=0)).max() < 0.02
    points = phantoms.nodes(phantoms.grid((8.0, 8.0, 8.0), 40.0))
    mean = Chain((found.transforms[0],)).map_points(points)
    for stem, each in zip(stems[1:], found.transforms[1:], strict=True):
        truth = MOTIONS[stem].inverse()[0] @ MOTIONS[stems[0]]
        assert np.linalg.norm(truth.map_points(mean) - each.map_points(points), axis=-1).mean() < 0.2 * 3.0  # mm


def test_centred_transforms_average_to_the_identity() -> None:
    rigid = centred([turned(10, 3), turned(-4, 8), turned(3, -20)], WHERE)
    centre = np.mean([each.matrix[:3, :3] for each in rigid], axis=0)
    assert np.abs(centre - centre.T).max() < 1e-3


def test_options_are_taken_as_bids_apps_are_called() -> None:
    words = ["raw", "out", "participant", "--participant_label", "01", "02", "--n_cpus", "4", "--mem-mb=100"]
    assert separate(words) == [
        *("raw", "out", "participant", "--participant-label", "01", "--participant-label", "02"),
        *("--n-cpus", "4", "--mem-mb=100"),
    ]
