"""The BIDS App on the OASIS brains, three of which get a second session of known motion, and the validator.

    python benchmarks/bids_app.py DATA -w WORK -o benchmarks/results/bids.csv [--participants 1000 1001]

The template is a training subject. Each run is one row: participants, scans, seconds of both levels, what the validator
says, and for repeated scans the distance between the known motion from one session to the other and that found, mm.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from maxca.io.transforms import read_transform

REPEATED = ("1001", "1002", "1003")  # get a second session
TEMPLATE = "1000"
DEGREES, SHIFT, NOISE = 4.0, 5.0, 0.02  # of the second session; noise relative to the brightest voxel
VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")
COLUMNS = ("participants", "scans", "participant_s", "group_s", "errors", "warnings", "repeated_mm", "failed", "cpus")


def motion(number: int) -> np.ndarray:
    """(4, 4): world points of the second session → those of the first."""
    random = np.random.default_rng(number)
    matrix = np.eye(4)
    axis = random.normal(size=3)
    matrix[:3, :3] = Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.radians(DEGREES)).as_matrix()
    matrix[:3, 3] = random.uniform(-SHIFT, SHIFT, 3)
    return matrix


def second_session(image: Path, target: Path, number: int) -> None:
    """The same head after a motion, resampled by ITK with B-splines, with noise."""
    scan = sitk.ReadImage(str(image), sitk.sitkFloat32)
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    moved = flip @ motion(number) @ flip
    transform = sitk.AffineTransform(moved[:3, :3].ravel().tolist(), moved[:3, 3].tolist())
    result = sitk.GetArrayFromImage(sitk.Resample(scan, scan, transform, sitk.sitkBSpline, 0.0))
    noise = np.random.default_rng(number).normal(0, NOISE * result.max(), result.shape) * (result > 0.02 * result.max())
    out = sitk.GetImageFromArray(np.maximum(result + noise, 0).astype(np.float32))
    out.CopyInformation(scan)
    target.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(out, str(target))


def dataset(source: Path, root: Path, participants: list[str]) -> int:
    """A BIDS dataset of links to the scans, and the second sessions; the number of scans."""
    count = 0
    labels = "derivatives/neuromorphometrics"
    for number, subject in enumerate(participants):
        session = "ses-1" if subject in REPEATED else ""
        for base, suffix in (("", "T1w"), (labels, "dseg")):
            name = f"sub-{subject}_{session}_{suffix}.nii.gz" if session else f"sub-{subject}_{suffix}.nii.gz"
            link = root / base / f"sub-{subject}" / session / "anat" / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((source / base / f"sub-{subject}/anat/sub-{subject}_{suffix}.nii.gz").resolve())
        count += 1
        if session:
            image = root / f"sub-{subject}/ses-1/anat/sub-{subject}_ses-1_T1w.nii.gz"
            second_session(image, root / f"sub-{subject}/ses-2/anat/sub-{subject}_ses-2_T1w.nii.gz", number)
            count += 1
    (root / "dataset_description.json").write_text('{"Name": "OASIS, 25 subjects", "BIDSVersion": "1.10.0"}')
    return count


def repeated_error(root: Path, out: Path, participants: list[str]) -> float:
    """Mean distance in mm, over the brain, between the known motion of a second session and that of the average."""
    errors = []
    for number, subject in enumerate(participants):
        if subject not in REPEATED:
            continue
        stems = [f"sub-{subject}/ses-{n}/anat/sub-{subject}_ses-{n}" for n in (1, 2)]
        one, two = (
            read_transform(out / f"{stem}_from-T1w_to-average_mode-image_xfm.tfm").as_affine().matrix for stem in stems
        )
        scan: Any = nib.load(root / f"{stems[1]}_T1w.nii.gz")
        brain = np.argwhere(np.asarray(scan.dataobj) > 0)[::997]
        points = np.c_[brain, np.ones(len(brain))] @ scan.affine.T
        apart = points @ (one @ np.linalg.inv(two)).T - points @ motion(number).T
        errors.append(np.linalg.norm(apart[:, :3], axis=1).mean())
    return float(np.mean(errors)) if errors else float("nan")


def validated(out: Path) -> tuple[int, int]:
    """Errors and warnings of the official validator."""
    found = subprocess.run([VALIDATOR, out, "--format", "json"], capture_output=True)
    severities = [issue["severity"] for issue in json.loads(found.stdout)["issues"]["issues"]]
    return severities.count("error"), severities.count("warning")


def timed(words: list[str | Path]) -> tuple[float, int]:
    """Seconds and exit code of a command of maxca."""
    begin = time.perf_counter()
    code = subprocess.run([sys.executable, "-m", "maxca", *words]).returncode
    return round(time.perf_counter() - begin, 1), code


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-w", "--work", type=Path, required=True, help="folder for the dataset and its derivatives")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--participants", nargs="*", default=[])
    parser.add_argument("--cpus", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    source, root, out = options.data / "oasis", options.work / "dataset", options.work / "derivatives"
    found = sorted(path.name.removeprefix("sub-") for path in source.glob("sub-*"))
    participants = options.participants or found
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    scans = dataset(source, root, participants)
    template = source / f"sub-{TEMPLATE}/anat/sub-{TEMPLATE}_T1w.nii.gz"
    cpus = str(options.cpus)
    words = ["bids", root, out, "participant", "--template", template, "--n-cpus", cpus, "--effort", "fast"]
    seconds, failed = timed(words)
    group, _ = timed(["bids", root, out, "group"])
    errors, warnings = validated(out)
    apart = round(repeated_error(root, out, participants), 3)
    row = (len(participants), scans, seconds, group, errors, warnings, apart, failed, options.cpus)
    print(dict(zip(COLUMNS, row, strict=True)))
    with options.output.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, row])


if __name__ == "__main__":
    main()
