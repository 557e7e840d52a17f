"""Segmentations, CT air, landmarks in another order, a full disc and a script in a record, through the commands."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest
import SimpleITK as sitk

from maxca.cli.main import main
from maxca.io.transforms import read_transform

WHERE = phantoms.grid((5.0, 5.0, 5.0))
RIGID = ["--transform", "rigid", "--effort", "fast", "--threads", "1", "--model", "none"]


def stored(path: str | Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def save(name: str, data: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(data, WHERE.affine), name)


@pytest.fixture(autouse=True)
def _pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save("fixed.nii.gz", phantoms.image(WHERE, lambda points: points + 3.3).data)
    save("moving.nii.gz", phantoms.image(WHERE).data)
    sitk.WriteTransform(sitk.TranslationTransform(3, (7.0, 3.0, 0.0)), "shift.tfm")


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("command", ["register", "apply"])
def test_a_segmentation_keeps_its_numbers(kind: type, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    regions = phantoms.image(WHERE, what=phantoms.regions).data
    save("kept.nii.gz", np.array([0, 10, 30, 70, 90]).astype(kind)[regions])
    if command == "register":
        words = ["register", "-f", "fixed.nii.gz", "-m", "moving.nii.gz", "--apply", "kept.nii.gz", "-o", "out", *RIGID]
        out = Path("out/warped_kept.nii.gz")
    else:
        words = ["apply", "-i", "kept.nii.gz", "-r", "fixed.nii.gz", "-t", "shift.tfm", "-o", "out.nii.gz"]
        out = Path("out.nii.gz")
    assert main(words) == 0
    assert set(np.unique(stored(out)).tolist()) == {0, 10, 30, 70, 90}
    assert "interpolation: labels" in capsys.readouterr().err.replace("interpolation labels", "interpolation: labels")


@pytest.mark.parametrize(("tissue", "air"), [(40, -1024), (300, -2048)])
@pytest.mark.parametrize("noise", [0, 12])
@pytest.mark.parametrize("command", ["register", "apply"])
def test_air_surrounds_a_ct_image(tissue: int, air: int, noise: int, command: str) -> None:
    inside = phantoms.image(WHERE, what=phantoms.regions).data > 0
    grains = np.random.default_rng(0).normal(tissue, noise, inside.shape)
    save("ct.nii.gz", np.where(inside, np.rint(grains), air).astype(np.int16))
    if command == "register":
        assert main(["register", "-f", "fixed.nii.gz", "-m", "ct.nii.gz", "-o", "out", *RIGID]) == 0
        found, transform = stored("out/warped.nii.gz"), "out/transform.h5"
    else:
        assert main(["apply", "-i", "ct.nii.gz", "-r", "ct.nii.gz", "-t", "shift.tfm", "-o", "out.nii.gz"]) == 0
        found, transform = stored("out.nii.gz"), "shift.tfm"
    index = WHERE.to_voxel(read_transform(transform).map_points(phantoms.nodes(WHERE)))
    outside = ((index < -0.51) | (index > np.array(WHERE.shape) - 0.49)).any(axis=-1)
    assert outside.any() and np.unique(found[outside]).tolist() == [air]
    assert (
        main(["apply", "-i", "ct.nii.gz", "-r", "ct.nii.gz", "-t", "shift.tfm", "--fill", "-77", "-o", "other.nii.gz"])
        == 0
    )
    assert (stored("other.nii.gz") == -77).any()


def test_landmarks_in_another_order_are_paired_by_name() -> None:
    rows = {"A": "5,5,9", "B": "-5,10,-8", "C": "12,-2,6"}
    for name, order in (("fixed", "ABC"), ("moving", "CAB")):
        Path(f"{name}.csv").write_text("x,y,z,label\n" + "".join(f"{rows[label]},{label}\n" for label in order))
    words = ["register", "-f", "moving.nii.gz", "-m", "moving.nii.gz", "-o", "out", *RIGID]
    assert main([*words, "--fixed-points", "fixed.csv", "--moving-points", "moving.csv"]) == 0
    assert json.loads(Path("out/result.json").read_text())["metrics"]["tre_mm_after"]["mean"] < 0.5


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_a_full_disc_leaves_no_image(suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 30000, WHERE.shape).astype(np.int16)
    save("noise.nii.gz", noise)
    limit = Path("noise.nii.gz").stat().st_size - 1500  # the last buffer does not fit

    def small_disc() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    words = f"-m maxca apply -i noise.nii.gz -r noise.nii.gz --interpolation nearest -o out{suffix} -q".split()
    done = subprocess.run([sys.executable, *words], preexec_fn=small_disc, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and f"cannot write out{suffix}" in done.stderr
    assert sorted(path.name for path in Path().iterdir() if "out" in path.name) == []


def test_a_name_in_a_record_is_no_script() -> None:
    assert main(["register", "-f", "fixed.nii.gz", "-m", "moving.nii.gz", "-o", "out", "--effort", "fast"]) == 0
    record = json.loads(Path("out/result.json").read_text())
    record["metrics"]["similarity"]["name"] = '"><script>alert(1)</script>'
    Path("out/result.json").write_text(json.dumps(record))
    assert main(["report", "out", "-q"]) == 0
    assert "<script>alert" not in Path("out/report.html").read_text(encoding="utf-8")
