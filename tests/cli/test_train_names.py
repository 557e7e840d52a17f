"""From labelled scans of any organ to a model that guides a registration and labels a scan, by commands."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import phantoms
import pytest
from commands import QUICK, run

from maxca.io.images import read
from maxca.models.segmentation_file import load_segmenter

WHERE = phantoms.grid((5.0, 5.0, 5.0))
NAMES = "index\tname\n1\tleft back\n2\tright back\n3\tleft front\n4\tright front\n"


def shifted(n: int) -> phantoms.Map:
    return lambda points: points + np.array([2.0 * n, -n, n])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three scans and their labels, and a network trained on two of them for 20 steps."""
    folder = tmp_path_factory.mktemp("organ")
    rows = ["image,labels,subject,split"]
    for n in range(3):
        phantoms.save(folder / f"scan{n}.nii.gz", phantoms.image(WHERE, shifted(n)))
        phantoms.save(folder / f"labels{n}.nii.gz", phantoms.image(WHERE, shifted(n), phantoms.regions))
        rows.append(f"scan{n}.nii.gz,labels{n}.nii.gz,s{n},{'val' if n == 2 else 'train'}")
    (folder / "scans.csv").write_text("\n".join(rows) + "\n")
    (folder / "names.tsv").write_text(NAMES)
    words = ("prepare", folder / "scans.csv", "-o", folder / "ready", "--label-names", folder / "names.tsv", "-q")
    assert run(*words) == (0, "", "")
    done = run("train", "segmentation", "--data", folder / "ready", "-o", folder / "run", "--steps", 20, "--threads", 1)
    assert done.code == 0 and "maxca register --model" in done.out and "maxca label" in done.out
    return folder


def test_the_model_has_the_names_and_the_log_its_dice(trained: Path) -> None:
    names = load_segmenter(trained / "run" / "best.safetensors").names
    assert list(names.values()) == ["background", "left back", "right back", "left front", "right front"]
    with (trained / "run" / "log.csv").open() as file:
        assert 0 <= float(list(csv.DictReader(file))[-1]["dice"]) <= 1
    table = (trained / "run" / "best.tsv").read_text().splitlines()
    assert [row.split("\t")[1] for row in table] == ["name", *list(names.values())[1:]]


def test_the_model_guides_a_registration(trained: Path) -> None:
    words = ("-f", trained / "scan2.nii.gz", "-m", trained / "scan0.nii.gz", "-o", trained / "aligned")
    done = run("register", *words, "--model", trained / "run" / "best.safetensors", *QUICK)
    assert done.code == 0, done.err
    record = json.loads((trained / "aligned" / "result.json").read_text())
    assert record["guide"]["name"] == "best"
    assert set(record["metrics"]["predicted_dice_after"]["by_label"]) <= {"1", "2", "3", "4"}


def test_the_model_labels_a_scan(trained: Path) -> None:
    words = ("-i", trained / "scan2.nii.gz", "--model", trained / "run" / "best.safetensors")
    out, table = trained / "found.nii.gz", trained / "found.tsv"
    assert run("label", *words, "-o", out, "--table", table).code == 0
    assert read(out).data.shape == WHERE.shape
    assert set(np.unique(read(out).data).tolist()) <= {0, 1, 2, 3, 4}
    assert table.read_text().startswith("index\tname\tvolume_mm3\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("index\tname\n1\tliver\n1\tspleen\n", "row 2: a second entry of the label 1"),
        ("number\tname\n1\tliver\n", "row 1: no index or no name; the columns are index and name"),
        ("index\tname\n-1\tliver\n", "row 1: no index or no name"),
        (None, "no such file"),
    ],
)
def test_a_wrong_table_of_names_is_refused(text: str | None, said: str, trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "names.tsv"
    if text is not None:
        path.write_text(text)
    done = run("prepare", trained / "scans.csv", "-o", tmp_path / "ready", "--label-names", path)
    assert done.code != 0 and said in done.err and "names.tsv" in done.err
