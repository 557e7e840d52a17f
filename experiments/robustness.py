"""Robustness: corruptions of the moving image at three severities, with every method.

    python experiments/robustness.py ../shared/data                    # hours; resumes
    python experiments/robustness.py ../shared/data --set hippocampus --only "noise 2"

The moving image is corrupted, its labels are not (only cropped with the field of view), so Dice measures the
registration. ``auto`` may reject a model; named explicitly, it is accepted wherever it increases the similarity;
``-refined`` continues with the steps of the effort at full resolution. Artefacts are TorchIO's; the other corruptions
are implemented here.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import tables
from scipy import ndimage
from scipy.spatial.transform import Rotation

from maxca.engine.settings import EFFORT
from maxca.models.load import load_model
from maxca.models.zoo import find_model

METHODS = "maxca-balanced+auto,maxca-balanced,greedy"  # and those with the model
# The list, the number of its pairs, and the bundled model for them.
SETS = {
    "hippocampus": ("hippocampus/pairs_val.csv", 8, "hippocampus"),
    "cardiac": ("acdc/pairs_val.csv", 8, "cardiac-cine"),
}
SEVERITIES = (1, 2, 3)
COLUMNS = ("fixed", "moving", "fixed_labels", "moving_labels")
Scan = tuple[np.ndarray, np.ndarray, np.ndarray]  # voxels, labels, affine
Corruption = Callable[[Scan, int, np.random.Generator], Scan]


def noise(scan: Scan, severity: int, random: np.random.Generator) -> Scan:
    """Gaussian noise, σ 5, 10 and 20 % of the 99th percentile."""
    data, labels, affine = scan
    sigma = (0.05, 0.1, 0.2)[severity - 1] * np.percentile(data, 99)
    return data + random.normal(0, sigma, data.shape), labels, affine


def bias(scan: Scan, severity: int, random: np.random.Generator) -> Scan:
    """A smooth bias field between e^-0.3 and e^0.3, up to e^-0.9 and e^0.9."""
    data, labels, affine = scan
    field = ndimage.zoom(random.normal(size=(3, 3, 3)), np.array(data.shape) / 3, order=3, mode="nearest")
    return data * np.exp(0.3 * severity * field / np.abs(field).max()), labels, affine


def blur(scan: Scan, severity: int, random: np.random.Generator) -> Scan:
    """Gaussian, σ 1, 2 and 3 mm."""
    data, labels, affine = scan
    return ndimage.gaussian_filter(data, severity / np.linalg.norm(affine[:3, :3], axis=0)), labels, affine


def slices(scan: Scan, severity: int, random: np.random.Generator) -> Scan:
    """Thick slices along the third axis: means of 2, 3 or 5 slices."""
    data, labels, affine = scan
    every = (2, 3, 5)[severity - 1]
    count = data.shape[2] // every
    thick = data[:, :, : count * every].reshape(*data.shape[:2], count, every).mean(axis=-1)
    thicker = affine.copy()
    thicker[:3, 2] *= every
    thicker[:3, 3] += affine[:3, 2] * (every - 1) / 2
    return thick, labels[:, :, every // 2 : count * every : every], thicker


def slab(scan: Scan, severity: int, random: np.random.Generator) -> Scan:
    """A missing slab: a tenth, a fifth or two fifths of the third axis."""
    data, labels, affine = scan
    width = max(1, round((0.1, 0.2, 0.4)[severity - 1] * data.shape[2]))
    start = int(random.integers(data.shape[2] - width + 1))
    kept = data.copy()
    kept[:, :, start : start + width] = 0
    return kept, labels, affine


def inversion(scan: Scan, severity: int, random: np.random.Generator) -> Scan:
    """Contrast inverted by a third, two thirds, and completely."""
    data, labels, affine = scan
    top = np.percentile(data, 99.5)
    return np.where(data > 0, data + severity / 3 * (np.clip(top - data, 0, None) - data), 0), labels, affine


def field_of_view(scan: Scan, severity: int, random: np.random.Generator) -> Scan:
    """Field of view cropped by a tenth, a fifth or three tenths at one side of each axis."""
    data, labels, affine = scan
    cut = [round(0.1 * severity * n) if n > 8 else 0 for n in data.shape]
    low = [int(c * random.integers(2)) for c in cut]
    box = tuple(slice(a, n - (c - a)) for a, c, n in zip(low, cut, data.shape, strict=True))
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ low
    return data[box], labels[box], moved


def misalignment(scan: Scan, severity: int, random: np.random.Generator) -> Scan:
    """A header that rotates the image by 10, 20 and 30 degrees and shifts it by 13, 27 and 40 mm."""
    data, labels, affine = scan
    axis = random.normal(size=3)
    turn = Rotation.from_rotvec(np.radians(10 * severity) * axis / np.linalg.norm(axis)).as_matrix()
    way = random.normal(size=3)
    middle = affine @ [*(np.array(data.shape) / 2), 1]
    moved = np.eye(4)
    moved[:3, :3] = turn
    moved[:3, 3] = middle[:3] - turn @ middle[:3] + 40 / 3 * severity * way / np.linalg.norm(way)
    return data, labels, moved @ affine


def lesion(scan: Scan, severity: int, random: np.random.Generator) -> Scan:
    """A ball darkened to a third, of radius 5, 10 and 15 % of the longest side, within the foreground."""
    data, labels, affine = scan
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    radius = 0.05 * severity * (np.array(data.shape) * spacing).max()
    content = np.argwhere(data > np.percentile(data, 50))
    middle = content[random.integers(len(content))]
    at = np.stack(np.meshgrid(*(np.arange(n) for n in data.shape), indexing="ij"), axis=-1)
    inside = np.linalg.norm((at - middle) * spacing, axis=-1) < radius
    return np.where(inside, data / 3, data), labels, affine


def torchio_artefact(name: str) -> Corruption:
    """An artefact of TorchIO with a strength by severity."""

    def artefact(scan: Scan, severity: int, random: np.random.Generator) -> Scan:
        import torch
        import torchio

        data, labels, affine = scan
        how = {
            "motion": lambda: torchio.RandomMotion((5 * severity,) * 2, (2 * severity,) * 2, num_transforms=2),
            "ghosting": lambda: torchio.RandomGhosting(num_ghosts=(4, 4), intensity=(0.3 * severity,) * 2),
            "spikes": lambda: torchio.RandomSpike(num_spikes=(1, 1), intensity=(0.3 * severity,) * 2),
        }[name]()
        torch.manual_seed(int(random.integers(2**31)))
        image = torchio.ScalarImage(tensor=torch.as_tensor(data[None].astype(np.float32)), affine=affine)
        return how(image).data[0].numpy(), labels, affine

    artefact.__doc__ = f"TorchIO's {name}, three strengths."
    return artefact


CORRUPTIONS: dict[str, Corruption] = {
    "noise": noise,
    "bias": bias,
    "blur": blur,
    "slices": slices,
    "slab": slab,
    "inversion": inversion,
    "field-of-view": field_of_view,
    "misalignment": misalignment,
    "lesion": lesion,
    **{name: torchio_artefact(name) for name in ("motion", "ghosting", "spikes")},
}


def corrupted_pairs(pairs: list[dict[str, str]], root: Path, name: str, severity: int, folder: Path) -> Path:
    """A list of the same pairs with corrupted moving images, each pair with its own seed."""
    rows = []
    for number, pair in enumerate(pairs):
        image, labels = (nib.Nifti1Image.from_filename(root / pair[column]) for column in ("moving", "moving_labels"))
        scan = np.asarray(image.dataobj, dtype=np.float64), np.asarray(labels.dataobj), image.affine
        random = np.random.default_rng((number, severity, sorted(CORRUPTIONS).index(name)))
        data, names, affine = CORRUPTIONS[name](scan, severity, random) if severity else scan
        # Always under the same names relative to the list, so that existing rows are recognised.
        row = {column: f"{number}/{column}/{Path(pair[column]).name}" for column in COLUMNS}
        for path in row.values():
            (folder / path).parent.mkdir(parents=True)
        for column in ("fixed", "fixed_labels"):
            shutil.copyfile(root / pair[column], folder / row[column])
        nib.save(nib.Nifti1Image(data.astype(np.float32), affine), folder / row["moving"])
        nib.save(nib.Nifti1Image(names.astype(np.int16), affine), folder / row["moving_labels"])
        rows.append(row)
    out = folder / "pairs.csv"
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return out


def with_model(name: str, folder: Path) -> list[str]:
    """The methods with a bundled model: its prediction alone, and with refinement."""
    model = load_model(find_model(name))
    refined = folder / f"{name}-refined.safetensors"
    replace(model, refine=EFFORT["balanced"].fine).save(refined, half=True)
    return [f"maxca-balanced+{name}", f"maxca-balanced+{refined}"]


def main() -> None:
    """Run every corruption of each data set, severity by severity."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, help="the folder that holds acdc and hippocampus")
    parser.add_argument("--set", choices=tuple(SETS), action="append", help="only this one; repeatable")
    parser.add_argument("--threads", type=int, default=1, help="of each pair")
    parser.add_argument("--jobs", type=int, default=2, help="pairs at a time")
    parser.add_argument("--only", help="one corruption and severity, such as 'noise 2'")
    parser.add_argument("--quick", action="store_true", help="one pair, one corruption, one method")
    parser.add_argument("-o", "--output", type=Path, default=tables.RESULTS / "robustness.csv")
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    todo = [("none", 0), *((name, severity) for severity in SEVERITIES for name in CORRUPTIONS)]
    todo = todo[1:2] if options.quick else [task for task in todo if options.only in (None, f"{task[0]} {task[1]}")]
    for of_set in options.set or SETS:
        for name, severity in todo:
            evaluate(of_set, name, severity, options)
            print(f"{of_set} {name} {severity}: done", flush=True)


def evaluate(of_set: str, name: str, severity: int, options: argparse.Namespace) -> None:
    """Compute the missing rows of one corruption at one severity."""
    listed, count, model = SETS[of_set]
    with (options.data / listed).open(newline="", encoding="utf-8") as file:
        pairs = list(csv.DictReader(file))
    pairs = pairs[:: max(1, len(pairs) // count)][: 1 if options.quick else count]
    with tempfile.TemporaryDirectory() as folder:
        known = name if severity else next(iter(CORRUPTIONS))
        made = corrupted_pairs(pairs, (options.data / listed).parent, known, severity, Path(folder))
        methods = ["maxca-fast"] if options.quick else [METHODS, *with_model(model, Path(folder))]
        command = [sys.executable, "-m", "maxca", "evaluate", "--pairs", str(made), "--methods", ",".join(methods)]
        command += ["--threads", str(options.threads), "--jobs", str(options.jobs)]
        command += ["--name", f"{of_set} {name} {severity}", "-o", str(options.output), "--quiet"]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
