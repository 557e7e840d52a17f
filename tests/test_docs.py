"""The code in the documentation runs as it is printed."""

from __future__ import annotations

import json
import locale
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import meshio
import nibabel as nib
import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
import torch
from beatingseries import CAVITY, WALL, write_beat
from nibabel.gifti import GiftiDataArray, GiftiImage
from nibabel.streamlines import TckFile, Tractogram
from pages import DOCS, FENCE, ROOT, follow, shorten
from PIL import Image as Picture

import maxca
from maxca import plugins
from maxca.blocks import BLOCKS
from maxca.cli.main import main
from maxca.evaluate.rows import read_rows
from maxca.io.images import Image, read
from maxca.io.transforms import write_transform
from maxca.models.checkpoint import read_description
from maxca.training import recipes

# Followed by test_docs_training.py, a few steps of each training.
ELSEWHERE = {"train-on-your-data", "reproduce-the-paper"}
PAGES = sorted(page for page in DOCS.rglob("*.md") if page.stem not in ELSEWHERE)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take for granted: a pair, its labels, masks and landmarks, and the pair in another contrast."""
    folder = tmp_path_factory.mktemp("scans")
    where = phantoms.grid()
    pair = phantoms.image(where, phantoms.bend), phantoms.image(where)
    labels = phantoms.image(where, phantoms.bend, phantoms.regions), phantoms.image(where, what=phantoms.regions)
    points = np.random.default_rng(0).uniform(-12, 12, (6, 3))
    for name, image, names, places in zip(
        ("fixed", "moving"), pair, labels, (points, phantoms.bend(points)), strict=True
    ):
        phantoms.save(folder / f"{name}.nii.gz", image)
        phantoms.save(folder / f"{name}_labels.nii.gz", names)
        phantoms.save(folder / f"{name}_mask.nii.gz", replace(names, data=(names.data > 0).astype(np.uint8)))
        np.savetxt(folder / f"points_in_{name}.csv", places, delimiter=",", header="x,y,z", comments="")
    columns = "fixed", "moving", "fixed_labels", "moving_labels", "fixed_mask"
    (folder / "pairs.csv").write_text(",".join(columns) + "\n" + ",".join(f"{name}.nii.gz" for name in columns) + "\n")
    for number in (1, 2, 3):
        organ = lambda points, n=number: points + np.array([2.0 * n, -n, n])  # noqa: E731
        phantoms.save(folder / f"patient{number}.nii.gz", phantoms.image(where, organ))
        phantoms.save(folder / f"patient{number}_labels.nii.gz", phantoms.image(where, organ, phantoms.regions))
    phantoms.save(folder / "t1.nii.gz", pair[0])
    inverted = np.where(pair[1].data > 0, 900 - pair[1].data, 0)
    phantoms.save(folder / "t2.nii.gz", replace(pair[1], data=inverted.astype(np.int16)))
    phantoms.save(folder / "undistorted.nii.gz", pair[1])
    lesion = np.linalg.norm(phantoms.nodes(where) - [10, 0, 0], axis=-1) < 7
    phantoms.save(folder / "healthy.nii.gz", pair[0])
    phantoms.save(folder / "patient.nii.gz", replace(pair[1], data=np.where(lesion, 1500, pair[1].data)))
    phantoms.save(folder / "lesion.nii.gz", replace(pair[1], data=lesion.astype(np.uint8)))
    for name, image in zip(("before", "after"), pair, strict=True):
        phantoms.save(folder / f"{name}.nii.gz", image)
    phantoms.save(folder / "bones.nii.gz", replace(pair[0], data=lesion.astype(np.uint8)))
    phantoms.save(folder / "epi.nii.gz", phantoms.image(where, distorted))
    for number in ("01", "02"):
        scan = folder / "dataset" / f"sub-{number}" / "anat" / f"sub-{number}_T1w.nii.gz"
        scan.parent.mkdir(parents=True)
        phantoms.save(scan, pair[1])
    (folder / "dataset" / "dataset_description.json").write_text('{"Name": "Balls", "BIDSVersion": "1.10.0"}')
    phantoms.save(folder / "tpl-Ours_T1w.nii.gz", pair[0])
    channels(folder, pair)
    surface_and_tracts(folder, points)
    series(folder, pair[1])
    beat(folder)
    dicom_and_pictures(folder, pair)
    return folder


def distorted(points: np.ndarray) -> np.ndarray:
    """The second component of a bend alone, as along the phase-encoding axis of an EPI."""
    moved = points.copy()
    moved[..., 1] = phantoms.bend(points)[..., 1]
    return moved


def channels(folder: Path, pair: tuple[Image, Image]) -> None:
    """The pair in two contrasts, and a list of it."""
    names = ("atlas", "patient")
    for name, image in zip(names, pair, strict=True):
        inverted = np.where(image.data > 0, 900 - image.data, 0).astype(np.int16)
        phantoms.save(folder / f"{name}_T1.nii.gz", image)
        phantoms.save(folder / f"{name}_T2.nii.gz", replace(image, data=inverted))
    files = ",".join(f"{name}_T{number}.nii.gz" for number in (1, 2) for name in names)
    (folder / "pairs_of_channels.csv").write_text(f"fixed,moving,fixed_2,moving_2\n{files}\n")


def surface_and_tracts(folder: Path, points: np.ndarray) -> None:
    """A surface, as Workbench and 3D Slicer have it, and streamlines, as MRtrix has them."""
    rows, faces = points.astype(np.float32), np.array([[0, 1, 2], [3, 4, 5]], np.int32)
    arrays = [GiftiDataArray(rows, "pointset"), GiftiDataArray(faces, "triangle")]
    GiftiImage(darrays=arrays).to_filename(folder / "lh.pial.surf.gii")
    meshio.Mesh(rows, [("triangle", faces)]).write(folder / "tumour.stl", binary=True)
    TckFile(Tractogram([rows, rows[:3]], affine_to_rasmm=np.eye(4))).save(folder / "tracts.tck")


def series(folder: Path, moving: Image) -> None:
    """A 4-D image in the space of the moving image, and the motion of its volumes."""
    (folder / "motion").mkdir()
    for number in range(3):
        shift = np.eye(4)
        shift[0, 3] = number / 2
        write_transform(maxca.Chain((maxca.Affine(shift),)), folder / "motion" / f"v{number}.tfm")
    nib.save(nib.Nifti1Image(np.stack([moving.data] * 3, axis=3), moving.grid.affine), folder / "bold.nii.gz")
    weighted = np.where(moving.data > 50, (900 - moving.data) / 2, 0).astype(np.int16)
    nib.save(nib.Nifti1Image(np.stack([moving.data, weighted], axis=3), moving.grid.affine), folder / "dwi.nii.gz")
    np.savetxt(folder / "dwi.bvec", [[0, 0.6], [0, 0.8], [0, 0]])


def beat(folder: Path) -> None:
    """A beating ventricle, its labels in the first frame and their names."""
    write_beat(folder, phantoms.grid((2.5, 2.5, 10.0), extent=70.0), 4)
    (folder / "labels.nii.gz").rename(folder / "cine_labels.nii.gz")
    (folder / "cine_labels.tsv").write_text(f"index\tname\n{WALL}\tmyocardium\n{CAVITY}\tleft ventricle\n")


def dicom_and_pictures(folder: Path, pair: tuple[Image, Image]) -> None:
    """The fixed image as a DICOM series, and the middle slices of the pair as pictures."""
    (folder / "fixed_dicom").mkdir()
    volume, spoken = pair[0].to_sitk(), locale.setlocale(locale.LC_ALL)
    direction = volume.GetDirection()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(volume.GetDepth()):
        piece, place = volume[:, :, k : k + 1], volume.TransformIndexToPhysicalPoint((0, 0, k))
        tags = {"0008|0060": "CT", "0020|000d": "1.2", "0020|000e": "1.2.3", "0020|0052": "1.2.9"}
        tags |= {"0008|0018": f"1.2.3.{k + 1}", "0020|0032": "\\".join(map(str, place))}
        tags["0020|0037"] = "\\".join(str(direction[n]) for n in (0, 3, 6, 1, 4, 7))
        for key, value in tags.items():
            piece.SetMetaData(key, value)
        writer.SetFileName(str(folder / "fixed_dicom" / f"{k}.dcm"))
        writer.Execute(piece)
    locale.setlocale(locale.LC_ALL, spoken)  # ITK leaves it changed
    for name, image in zip(("fixed", "moving"), pair, strict=True):
        middle = image.data[:, :, image.data.shape[2] // 2].T
        Picture.fromarray((middle / 4).clip(0, 255).astype(np.uint8)).save(folder / f"{name}.png", dpi=(127, 127))


def same_warped_image_everywhere(folder: Path) -> None:
    """ITK and ANTs, asked as the page says, resample the moving image as ``register`` did."""
    ours = read(folder / "result" / "warped.nii.gz").data.astype(float)
    fixed, moving = (read(folder / f"{name}.nii.gz").data.astype(float) for name in ("fixed", "moving"))
    inside = (slice(2, -2),) * 3  # at the rim, what lies outside counts differently
    assert np.abs(ours - fixed)[inside].mean() < 0.5 * np.abs(moving - fixed)[inside].mean()
    for name in ("warped_by_sitk", "warped_by_ants"):
        theirs = read(folder / f"{name}.nii.gz").data.astype(float)
        assert np.abs(theirs - ours)[inside].max() <= 1, name  # rounded to whole numbers, each in its way


def the_model_names_its_plugin(folder: Path) -> None:
    about = read_description(folder / "run-squeeze" / "best.safetensors")
    assert about["network"]["arguments"]["block"]["name"] == "squeeze" and about["network"]["plugins"] == ["squeeze.py"]
    assert "squeeze.py" in json.loads((folder / "with-squeeze" / "result.json").read_text())["command"]


def both_measures_are_compared(folder: Path) -> None:
    """Gradient fields align two contrasts, and the pair of one contrast about as well as local NCC."""
    metrics = json.loads((folder / "with-ngf" / "result.json").read_text())["metrics"]
    assert metrics["similarity"]["name"] == "ngf"
    dice = [float(row["dice"]) for row in read_rows(folder / "measures.csv")]
    before = float(read_rows(folder / "measures.csv")[0]["dice_before"])
    assert len(dice) == 2 and min(dice) > before + 0.1
    ours = read(folder / "with-ngf" / "warped.nii.gz").data.astype(float)
    t1, t2 = (read(folder / f"{name}.nii.gz").data.astype(float) for name in ("t1", "t2"))
    correlation = [np.corrcoef(t1.ravel(), image.ravel())[0, 1] for image in (t2, ours)]
    assert abs(correlation[1]) > abs(correlation[0])


def the_model_has_the_names_of_the_page(folder: Path) -> None:
    about = read_description(folder / "run" / "best.safetensors")
    assert [name for _, name in about["labels"]][1:] == [
        f"{side} {part}" for part in ("posterior", "anterior") for side in ("left", "right")
    ]
    assert json.loads((folder / "guided" / "result.json").read_text())["guide"]["name"] == "best"


# What is to be true of what a page leaves behind, besides that its code has run.
LEFT: dict[str, Callable[[Path], None]] = {
    "train-names": the_model_has_the_names_of_the_page,
    "use-in-other-tools": same_warped_image_everywhere,
    "your-own-block": the_model_names_its_plugin,
    "your-own-similarity": both_measures_are_compared,
}


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_snippet_of_a_page_runs(page: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in scans.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    known, known_recipes = set(BLOCKS), dict(recipes.RECIPES)  # a page may add its own
    shorten(monkeypatch, lambda _recipe, _steps: 2)
    try:
        follow(page)
        LEFT.get(page.stem, lambda _folder: None)(tmp_path)
    finally:
        for source in plugins.loaded():
            plugins.unload(source)
        for name in set(BLOCKS) - known:
            del BLOCKS[name]
        recipes.RECIPES.clear()
        recipes.RECIPES.update(known_recipes)


def test_the_readme_can_be_followed(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in scans.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "points_in_moving.csv").unlink()  # a command makes it
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    done = []
    for language, snippet in FENCE.findall(text):
        if language == "python":
            names = {name: torch.zeros(1, 1, 32, 32, 32) for name in ("fixed", "moving")}
            exec(compile(snippet, "README.md", "exec"), names)
            continue
        for line in snippet.splitlines():
            program, *words = shlex.split(line, comments=True)
            if program != "maxca" or {"prepare", "train", "evaluate", "run/best.safetensors"} & set(words):
                continue  # training and comparing have pages of their own, whose commands are run too
            if "--cohort" in words:
                shutil.copytree("result", "results/first")
            assert main(words) == 0, line
            done.append(words[0])
    assert done == ["register", "apply", "apply-geometry", "report", "report"]
    assert (tmp_path / "from_python" / "transform.h5").is_file()
    assert (tmp_path / "results" / "cohort.html").is_file()


@pytest.mark.parametrize("page", [*sorted(DOCS.rglob("*.md")), ROOT / "README.md"], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for address in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert "://" in address or (page.parent / address).exists(), address


def test_the_citation_is_of_this_version() -> None:
    assert f"\nversion: {maxca.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
